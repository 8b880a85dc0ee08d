"""How often a request was begun by a daemon that then died: the slots of `responses/.attempts/.begun`.

A slot is a line of JSON at a fixed place, written before a claim is handed out. Once that is answered the
slot counts nothing, since the response file is asked first; the next claim's line is written over it, or it
is struck out at the end. One small write: a file for each request would cost as much as the rest of a short
one. Not synced: what they count is the death of the daemon, and a power cut at worst forgives one.

Files named like requests beside it are an older gobblerd's, and are still read.
"""

import contextlib
import json
import os
import threading
from typing import Any

import msgspec
import structlog

from gobblerd.domain.messages import REQUEST_PREFIX, Identity
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, opened, read_all

_log = structlog.get_logger()
_DIRECTORY = ".attempts"
_BEGUN = f"{_DIRECTORY}/.begun"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_SLOT_BYTES = 2048  # more than any name takes, with each byte of it escaped, as an older gobblerd did
_STRUCK = b"\n"  # what a slot begins with that counts nothing
_MOST_BYTES = 1 << 16
ATTEMPTS_MAX = 3


class Attempts:
    """Counts starts by identity; thread-safe."""

    def __init__(self, responses_fd: int) -> None:
        self._fd = responses_fd
        with contextlib.suppress(FileExistsError):
            os.mkdir(_DIRECTORY, 0o700, dir_fd=responses_fd)
        self._begun = os.open(_BEGUN, _FLAGS, 0o600, dir_fd=responses_fd)
        self._lock = threading.Lock()
        self._slots: dict[str, int] = {}
        self._free: list[int] = []
        self._answered: list[int] = []  # free as well, but not struck out
        self._used = 0
        self._left: dict[str, dict[str, Any]] = {}  # by a daemon that died
        self._files: set[str] = set()  # of an older gobblerd

    def close(self) -> None:
        """Let go of the file; nothing is counted from then on."""
        with self._lock:
            if self._begun >= 0:
                for slot in self._answered:
                    self._strike(slot)
                os.close(self._begun)
            self._begun = -1

    def load(self) -> None:
        """Read what a killed daemon left."""
        self._load_files()
        size = os.fstat(self._begun).st_size
        with self._lock:
            self._used = -(-size // _SLOT_BYTES)
            for slot in range(self._used):
                found = _parsed(os.pread(self._begun, _SLOT_BYTES, slot * _SLOT_BYTES))
                if found is None:
                    self._free.append(slot)
                else:
                    self._slots[found["name"]], self._left[found["name"]] = slot, found

    def _load_files(self) -> None:
        with opened(_DIRECTORY, READ_DIRECTORY, dir_fd=self._fd) as fd, os.scandir(fd) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            if name.startswith(REQUEST_PREFIX):
                self._files.add(name)
                if (found := self._read(name)) is not None:
                    self._left[name] = found

    def begin(self, identity: Identity) -> bool:
        """Count one more start; False, and nothing is counted, after three that nobody survived."""
        left = self._left.get(identity.name)
        count = left["count"] if left is not None and _is_of(left, identity) else 0
        if count >= ATTEMPTS_MAX:
            return False
        line = msgspec.json.encode({**_key(identity), "count": count + 1, "name": identity.name})
        try:
            with self._lock:
                os.pwrite(self._begun, line + b"\n", self._slot(identity.name) * _SLOT_BYTES)
        except OSError as error:  # a full disk stops the response too; that one is tried for ever
            _log.warning("attempt could not be counted", request=identity.name, error=str(error))
        return True

    def _slot(self, name: str) -> int:
        slot = self._slots.get(name)
        if slot is None:
            free = self._answered or self._free
            if not free:
                free.append(self._used)
                self._used += 1
            slot = self._slots[name] = free.pop()
        return slot

    def clear(self, name: str) -> None:
        """Forget the starts of a name: its start was taken back in good order."""
        slot = self._forget(name)
        if slot is not None:
            with self._lock:
                self._strike(slot)
                self._free.append(slot)

    def answered(self, name: str) -> None:
        """Forget the starts of a name whose response file is there."""
        slot = self._forget(name)
        if slot is not None:
            with self._lock:
                self._answered.append(slot)

    def _forget(self, name: str) -> int | None:
        """Return the slot that is free by that, if there is one."""
        with self._lock:
            self._left.pop(name, None)
            slot = self._slots.pop(name, None)
        if name in self._files:
            self._files.discard(name)
            self._unlink(name)
        return slot

    def _strike(self, slot: int) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._begun, _STRUCK, slot * _SLOT_BYTES)

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


def _parsed(slot: bytes) -> dict[str, Any] | None:
    """Return what a slot counts; None if nothing."""
    try:
        found = json.loads(slot.partition(b"\n")[0])
        return found if isinstance(found["count"], int) and isinstance(found["name"], str) else None
    except (ValueError, KeyError, TypeError):
        return None


def _path(name: str) -> str:
    return f"{_DIRECTORY}/{name}"


def _key(identity: Identity) -> dict[str, int]:
    return {"inode": identity.inode, "mtime_ns": identity.mtime_ns, "size": identity.size}


def _is_of(left: dict[str, Any], identity: Identity) -> bool:
    return all(left.get(key) == value for key, value in _key(identity).items())
