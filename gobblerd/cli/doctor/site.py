"""What is examined: two directories, the account that serves them, what the configuration says of them.

Checks work in two directories of their own, which end with the doctor: one in staging, made under a random
name, and one in the registry's `..transactions/state/`, where only the account may write.
"""

import contextlib
import os
import pwd
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.registry import layout
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.transaction import make_transactions
from gobblerd.storage.removal import remove_tree

MEETING = layout.join(layout.STATE, "doctor")  # where the doctors of two nodes find each other
_PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Account:
    """The service account; its name is the decimal UID where it has none."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int, group: int) -> "Account":
        """Look up a UID; `group` is its group if it has no name."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return cls(str(uid), uid, group)
        return cls(entry.pw_name, uid, entry.pw_gid)


@dataclass(frozen=True, slots=True)
class Site:
    """One deployment as seen from this node; what comes after `account` is the configuration's."""

    staging: str
    registry: str
    account: Account
    configured: bool = False
    require_marker: bool = False
    administrators: tuple[str, ...] = ()
    watch: str = "auto"

    @property
    def meeting(self) -> str:
        """The directory where two doctors meet."""
        return layout.join(self.registry, MEETING)

    @property
    def metadata(self) -> Metadata:
        """What the registry's documents say."""
        return Metadata(self.registry)

    @contextlib.contextmanager
    def staging_scratch(self) -> Iterator[str]:
        """Make a directory of our own in staging for the length of a block."""
        path = os.path.join(self.staging, f".gobblerd-doctor-{secrets.token_hex(8)}")
        os.mkdir(path, _PRIVATE)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                remove_tree(path)

    @contextlib.contextmanager
    def registry_scratch(self) -> Iterator[str]:
        """Make a directory of our own in the registry for the length of a block."""
        path = os.path.join(made_meeting(self), f"scratch-{secrets.token_hex(8)}")
        os.mkdir(path, _PRIVATE)
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                remove_tree(path)


def made_meeting(site: Site) -> str:
    """Return the meeting directory, made if it is not there; two doctors may make it at once."""
    make_transactions(site.registry)
    with contextlib.suppress(FileExistsError):
        os.mkdir(site.meeting, _PRIVATE)
    return site.meeting
