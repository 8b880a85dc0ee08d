"""How often a request was begun by a daemon that then died: `responses/.attempts/<request file name>`.

Written before a claim is handed out, removed with its response. Not synced: what they count is the death
of the daemon, and a power cut at worst forgives one.
"""

import contextlib
import json
import os
from typing import Any

import structlog

from gobblerd.domain.messages import REQUEST_PREFIX, Identity
from gobblerd.storage.files import FILE_MODE, READ_DIRECTORY, READ_FILE, opened, read_all, write_all

_log = structlog.get_logger()
_DIRECTORY = ".attempts"
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 1 << 16
ATTEMPTS_MAX = 3


class Attempts:
    """Counts starts by identity; one thread at a time per name, any number of names."""

    def __init__(self, responses_fd: int) -> None:
        self._fd = responses_fd
        with contextlib.suppress(FileExistsError):
            os.mkdir(_DIRECTORY, 0o700, dir_fd=responses_fd)
        self._left: dict[str, dict[str, Any]] = {}  # by a daemon that died; single operations are atomic

    def load(self) -> None:
        """Read what a killed daemon left."""
        with opened(_DIRECTORY, READ_DIRECTORY, dir_fd=self._fd) as fd, os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if not name.startswith(REQUEST_PREFIX):
                self._unlink(name)
            elif (found := self._read(name)) is not None:
                self._left[name] = found

    def begin(self, identity: Identity) -> bool:
        """Count one more start; False, and nothing is counted, after three that nobody survived."""
        left = self._left.get(identity.name)
        count = left["count"] if left is not None and _is_of(left, identity) else 0
        if count >= ATTEMPTS_MAX:
            return False
        data = json.dumps({**_key(identity), "count": count + 1}).encode("ascii")
        try:
            fd = os.open(_path(identity.name), _WRITE, FILE_MODE, dir_fd=self._fd)
            try:
                write_all(fd, data)
            finally:
                os.close(fd)
        except OSError as error:  # a full disk stops the response too; that one is tried for ever
            _log.warning("attempt could not be counted", request=identity.name, error=str(error))
        return True

    def clear(self, name: str) -> None:
        """Forget the starts of a name: it is answered, or its start was taken back in good order."""
        self._left.pop(name, None)
        self._unlink(name)

    def left(self) -> list[str]:
        """Return the names with starts left by a killed daemon."""
        return list(self._left)

    def is_of(self, identity: Identity) -> bool:
        """Tell whether what is left under the identity's name is of this identity."""
        left = self._left.get(identity.name)
        return left is not None and _is_of(left, identity)

    def _unlink(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(_path(name), dir_fd=self._fd)

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            with opened(_path(name), READ_FILE, dir_fd=self._fd) as fd:
                found = json.loads(read_all(fd, _MOST_BYTES))
            return found if isinstance(found["count"], int) else None
        except (OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("attempt file is unreadable", request=name, error=repr(error))
            return None


def _path(name: str) -> str:
    return f"{_DIRECTORY}/{name}"


def _key(identity: Identity) -> dict[str, int]:
    return {"inode": identity.inode, "mtime_ns": identity.mtime_ns, "size": identity.size}


def _is_of(left: dict[str, Any], identity: Identity) -> bool:
    return all(left.get(key) == value for key, value in _key(identity).items())
