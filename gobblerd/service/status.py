"""What a running daemon says of itself: a JSON document in the staging directory, for `gobblerd status`.

The daemon replaces `responses/.status.json` at start, at stop, and within two seconds of a change of what it
says; while nothing changes, only its mtime is renewed, every few seconds. Anyone may read it.
Whether a daemon lives at all is told by the lock that it holds, not by the document, which outlives it.
Known limit: where this account may not open the lock, the document's age has to do.
"""

import contextlib
import fcntl
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gobblerd import __version__
from gobblerd.domain.times import format_time
from gobblerd.storage.files import READ_FILE, Durability, opened, read_all, replace_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

STATUS_FILE = ".status.json"
STATUS_INTERVAL = 2.0  # seconds between two writings while something changes
HEARTBEAT = 8.0  # seconds between two signs of life; below the 10 s after which older readers miss a daemon
_RESPONSES = "responses"
_LOCK_FILE = ".daemon"  # held by the daemon of the staging directory (spec/requests.md)
_STALE = 3 * HEARTBEAT
_MAX_BYTES = 1 << 22


@dataclass(frozen=True, slots=True)
class Watching:
    """How requests are noticed: the mode, why it was chosen, and whether the watcher lives."""

    mode: str
    reason: str
    alive: bool


@dataclass(frozen=True, slots=True)
class Serving:
    """Who serves what. `state` is starting, serving, draining or stopped; `started` RFC 3339."""

    state: str
    started: str
    staging: str
    registry: str
    url: str | None


def status_document(
    serving: Serving,
    watching: Watching,
    spool: "DataclassInstance",
    schedules: Sequence["DataclassInstance"],
    problems: Sequence[str],
) -> dict[str, Any]:
    """Return the daemon's status as a JSON object; `spool` and `schedules` are the rooms' snapshots."""
    return {
        "name": "gobblerd",
        "version": __version__,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "written": format_time(time.time_ns()),
        **asdict(serving),
        "watch": asdict(watching),
        "problems": list(problems),
        "spool": asdict(spool),
        "schedules": [asdict(schedule) for schedule in schedules],
    }


def write_status(responses_fd: int, document: dict[str, Any]) -> None:
    """Replace the status document; OSError if it cannot be written."""
    data = json.dumps(document, default=str).encode("ascii")
    replace_file(responses_fd, f"{STATUS_FILE}.new", STATUS_FILE, data, Durability.PROCESS)


class StatusFile:
    """The status document of a running daemon in `responses/`; for one thread at a time."""

    def __init__(self, responses_fd: int) -> None:
        self._fd = responses_fd
        self._said: object = None

    def keep(self, facts: object, document: Callable[[], dict[str, Any]]) -> bool:
        """Write the document if `facts`, of which it is made, have changed, and tell whether; OSError."""
        if facts == self._said and self.touch():
            return False
        write_status(self._fd, document())
        self._said = facts
        return True

    def touch(self) -> bool:
        """Renew the file's mtime, a sign of life; False if it is gone. OSError."""
        try:
            os.utime(STATUS_FILE, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found in a staging directory: whether a daemon lives, its last document, its age."""

    alive: bool
    document: dict[str, Any] | None
    age: float | None  # seconds


def read_status(staging: str) -> Reading:
    """Look for the daemon of a staging directory; OSError if the directory is not there."""
    os.stat(staging)
    responses = os.path.join(staging, _RESPONSES)
    document, age = _read_document(os.path.join(responses, STATUS_FILE))
    alive = _is_locked(os.path.join(responses, _LOCK_FILE))
    if alive is None:
        alive = age is not None and age < _STALE
    return Reading(alive, document, age)


def _read_document(path: str) -> tuple[dict[str, Any] | None, float | None]:
    with contextlib.suppress(OSError, ValueError), opened(path, READ_FILE) as fd:
        info = os.fstat(fd)
        found = json.loads(read_all(fd, _MAX_BYTES))
        if stat.S_ISREG(info.st_mode) and isinstance(found, dict):
            return found, max(0.0, time.time() - info.st_mtime)
    return None, None


def _is_locked(path: str) -> bool | None:
    """Tell whether somebody holds the lock; None if this account may not ask.

    Asking takes a shared lock for an instant.
    """
    try:
        with opened(path, READ_FILE) as fd:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
