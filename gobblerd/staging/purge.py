"""Removing what is old in staging: answered request files, responses, abandoned uploads.

Ages are by ctime, which users cannot set. A request file goes only when it is answered (an unanswered one
is the sweep's business), a response only when its request file is gone. An upload is a directory, an archive
with its receipt, or what a client of ours was about to drop when it was killed; it counts as abandoned when
nothing in it changed for its age, and no request at hand names it: who fills `a/b/c/` for a week changes
neither `a` nor `b`. Other files stay. Known limit: of a tree, a hundred levels are looked at.
"""

import contextlib
import json
import os
import secrets
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from gobblerd.domain.messages import REQUEST_PREFIX, Identity
from gobblerd.domain.times import NANOSECONDS
from gobblerd.staging.directory import RESPONSES, Staging
from gobblerd.staging.ledger import Ledger
from gobblerd.staging.settings import PurgeAges
from gobblerd.staging.status import PurgeCounts
from gobblerd.storage.files import READ_DIRECTORY, opened
from gobblerd.storage.removal import remove_tree_beneath

_log = structlog.get_logger()
_DOOMED = "..purged-"  # an upload that is being removed; goes on with the next purge after a crash
_LEVELS = 100  # of directories within each other, a descriptor each, that are looked at for a change
_UNFINISHED = (".gobbler-", ".gobblerd-")  # how names begin under which our clients write


def purge(
    staging: Staging,
    ledger: Ledger,
    now: int,
    ages: PurgeAges,
    is_archive: Callable[[str], bool],
    *,
    all_known: bool,
) -> PurgeCounts:
    """Remove what is older than its age; OSError if staging cannot be listed.

    `is_archive` tells from a file's name whether it is an archive, or belongs to one. Without `all_known`
    there may be requests in staging that are not queued yet, so no upload goes.
    """
    with staging.entries() as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    requests = [name for name, is_directory in found if not is_directory and name.startswith(REQUEST_PREFIX)]
    uploads = [
        name
        for name, is_directory in found
        if (
            name != RESPONSES
            if is_directory
            else name.startswith((_DOOMED, *_UNFINISHED)) or is_archive(name)
        )
    ]
    removed_requests = _tally(
        _purge_request(staging, ledger, name, now - _ns(ages.requests)) for name in requests
    )
    removed_responses = _tally(
        _purge_response(staging, ledger, name, now - _ns(ages.responses))
        for name in list(ledger.files.names())
    )
    removed_uploads = _tally(
        _purge_upload(staging, ledger, name, now - _ns(ages.uploads))
        for name in (uploads if all_known else ())
    )
    _forget(ledger, ages)
    return PurgeCounts(
        removed_requests[True],
        removed_responses[True],
        removed_uploads[True],
        removed_requests[None] + removed_responses[None] + removed_uploads[None],
    )


def _forget(ledger: Ledger, ages: PurgeAges) -> None:
    """Forget what was seen of inodes that no response speaks of, after as long as a response is kept."""
    with ledger.lock:
        ledger.index.prune(time.monotonic() - ages.responses)


def _ns(seconds: float) -> int:
    return int(seconds * NANOSECONDS)


def _tally(results: Iterable[bool | None]) -> Counter[bool | None]:
    """Count what was removed (True), left (False), and could not be removed (None)."""
    return Counter(results)


def _failed(what: str, name: str, error: OSError) -> None:
    _log.warning(f"{what} could not be purged", name=name, error=str(error))


def _purge_request(staging: Staging, ledger: Ledger, name: str, before: int) -> bool | None:
    try:
        status = os.stat(name, dir_fd=staging.fd, follow_symlinks=False)
        identity = Identity(name, status.st_ino, status.st_mtime_ns, status.st_size)
        with ledger.lock:
            answered = ledger.index.knows(identity) and name not in ledger.running
        if status.st_ctime_ns >= before or stat.S_ISDIR(status.st_mode) or not answered:
            return False
        os.unlink(name, dir_fd=staging.fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        _failed("request file", name, error)
        return None
    return True


def _purge_response(staging: Staging, ledger: Ledger, name: str, before: int) -> bool | None:
    try:
        written = os.stat(name, dir_fd=staging.responses_fd, follow_symlinks=False).st_ctime_ns
        if written >= before or staging.has(name):
            return False
        with ledger.lock:  # under it no new response of that name can come to be
            if name in ledger.running or name in ledger.settling or ledger.queue.get(name):
                return False
            ledger.files.remove(name)
            ledger.index.forget(name)
    except FileNotFoundError:
        return False
    except OSError as error:
        _failed("response", name, error)
        return None
    return True


def _purge_upload(staging: Staging, ledger: Ledger, name: str, before: int) -> bool | None:
    try:
        doomed = name if name.startswith(_DOOMED) else _doom(staging, ledger, name, before)
        if doomed is None:
            return False
        _remove(staging.fd, doomed)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        _failed("upload", name, error)
        return None
    return True


def _remove(dir_fd: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode):
        remove_tree_beneath(dir_fd, name)
    else:
        os.unlink(name, dir_fd=dir_fd)


def _doom(staging: Staging, ledger: Ledger, name: str, before: int) -> str | None:
    """Rename an abandoned upload to what no request may name; None if it is not abandoned.

    In one step with the look at the requests: none may be taken up that would then read half a directory.
    """
    if _has_changed(staging.fd, name, before):
        return None
    doomed = f"{_DOOMED}{secrets.token_hex(8)}"
    with ledger.lock:  # the one change of the disk under it, for the reason above
        if any(name == source or name.startswith(f"{source}.") for source in _sources(ledger)):
            return None  # it, or what the archive is that its receipt is of
        os.rename(name, doomed, src_dir_fd=staging.fd, dst_dir_fd=staging.fd)
    return doomed


def _has_changed(dir_fd: int, name: str, since: int, levels: int = _LEVELS) -> bool:
    """Tell whether a file, or anything in a directory, has a ctime of `since` (nanoseconds) or later."""
    found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    if found.st_ctime_ns >= since or not stat.S_ISDIR(found.st_mode):
        return found.st_ctime_ns >= since
    with opened(name, READ_DIRECTORY, dir_fd=dir_fd) as fd:
        directories = []
        with os.scandir(fd) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_ctime_ns >= since:
                        return True
                if levels and entry.is_dir(follow_symlinks=False):
                    directories.append(entry.name)
        return any(_has_changed_below(fd, each, since, levels - 1) for each in directories)


def _has_changed_below(dir_fd: int, name: str, since: int, levels: int) -> bool:
    with contextlib.suppress(OSError):  # gone, or closed to us: its own ctime was looked at
        return _has_changed(dir_fd, name, since, levels)
    return False


def _sources(ledger: Ledger) -> set[str]:
    """Return what queued and running requests name as their source; the ledger's lock must be held."""
    at_hand = [*ledger.queue.entries(), *ledger.running.values()]
    bodies = [entry.claim.body for entry in at_hand if entry.claim is not None]
    return {source for body in bodies if (source := _source(body))}


def _source(body: bytes) -> str | None:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    source = document.get("source") if isinstance(document, dict) else None
    return source if isinstance(source, str) else None
