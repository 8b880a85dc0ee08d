"""THE on-disk format: the name of every file of the registry's own (spec/registry.md, "Layout").

Nothing else spells these names, but for the client, which imports nothing of the registry's
(`client/reading.py`). Paths made here are relative to the registry, with `/`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # whoever wants names alone is a command line that has to start at once
    from gobblerd.domain.names import Address

MANIFEST = "..manifest"
SUMMARY = "..summary"
LINKS = "..links"
CHECKSUMS = "..checksums"  # gobblerd's own, optional: xxh3-128 by path
LATEST = "..latest"
PERMISSIONS = "..permissions"
USAGE = "..usage"
QUOTA = "..quota"
LOGS = "..logs"
MARKER = "..gobblerd"  # gobblerd's own: format and registry id, written by `gobblerd init`

LOCK = "..LOCK"
LOCK_NEWDIR = "..LOCK_NEWDIR"
LOCK_USAGE = "..LOCK_USAGE"
LOCK_FILES = frozenset({LOCK, LOCK_NEWDIR, LOCK_USAGE})

# Transactions, gobblerd's own, mode 0700. Work in progress is TRANSACTIONS/<id>/.
TRANSACTIONS = "..transactions"
COMMITTED = f"{TRANSACTIONS}/committed"
APPLIED = f"{TRANSACTIONS}/applied"
STATE = f"{TRANSACTIONS}/state"  # what schedules remember, and the clock's probe
ASIDE = f"{TRANSACTIONS}/aside"  # what recovery found in the way of a committed step
TEMPORARY = ".new"  # TRANSACTIONS/<id>.new: what a transaction is about to rename
TRANSACTION_FOLDERS = frozenset({"committed", "applied", "state", "aside"})

UNREMARKABLE = frozenset({"lost+found"})  # a filesystem whose root is the registry, or staging, has it
HIDDEN = LOCK_FILES | {TRANSACTIONS, MARKER}  # internal even to readers over REST

MARKER_FORMAT = "gobblerd-registry-1"
RECORD_FORMAT = "gobblerd-transaction-2"
RECORD_FORMATS = frozenset({"gobblerd-transaction-1", RECORD_FORMAT})  # 1 had no documents in the record


def join(*parts: str) -> str:
    """Join path parts, leaving out empty ones."""
    return "/".join(filter(None, parts))


def in_place(place: "Address", name: str) -> str:
    """Return the path of the file `name` directly in a project, an asset or a version."""
    return join(str(place), name)


def links_file(directory: str) -> str:
    """Return the path, within a version, of the `..links` of one of its directories ("" for the top)."""
    return join(directory, LINKS)
