"""User names of UIDs, telling "there is none" from "the name service did not answer".

`pwd.getpwuid` raises KeyError for both, so that a moment without LDAP would turn alice into 1001, whom no
permission names. getpwuid_r(3) tells: 0, or one of four errors that its manual lists, is "there is none".
"""

import ctypes
import errno
import os
import time
from collections.abc import Callable
from typing import Any

NOBODY = 65534  # what root_squash makes of root
_NONE = frozenset({0, errno.ENOENT, errno.ESRCH, errno.EBADF, errno.EPERM})
_STRUCT_BYTES = 256  # more than any struct passwd; its first member is the name
_BUFFER_MAX = 1 << 20
_LIBC = ctypes.CDLL(None)
_KEPT_SECONDS = 60.0
_KEPT_MOST = 4096


class NameServiceFailed(Exception):
    """The name service could not say whether the UID has a name."""


def look_up_name(uid: int, libc: Any = _LIBC) -> str | None:
    """Return the name of `uid`, or None if it has none; NameServiceFailed if that cannot be known."""
    size = 4096
    while True:
        entry = ctypes.create_string_buffer(_STRUCT_BYTES)
        buffer = ctypes.create_string_buffer(size)
        found = ctypes.c_void_p()
        error = libc.getpwuid_r(ctypes.c_uint(uid), entry, buffer, ctypes.c_size_t(size), ctypes.byref(found))
        if error != errno.ERANGE or size >= _BUFFER_MAX:
            break
        size *= 4
    if found.value:
        name = ctypes.c_char_p.from_buffer(entry).value
        return os.fsdecode(name or b"")
    if error not in _NONE:
        raise NameServiceFailed(f"the name of user {uid} could not be looked up: {os.strerror(error)}")
    return None


class Users:
    """Names by UID; found ones are kept for a minute, since every request asks."""

    def __init__(self, look_up: Callable[[int], str | None] = look_up_name) -> None:
        self._look_up = look_up
        self._kept: dict[int, tuple[str, float]] = {}  # single operations on it are atomic

    def name(self, uid: int) -> str:
        """Return the user's name, the decimal UID where there is none; NameServiceFailed."""
        kept = self._kept.get(uid)
        if kept is not None and time.monotonic() - kept[1] < _KEPT_SECONDS:
            return kept[0]
        name = self._asked(uid)
        if name is None:
            return str(uid)
        if len(self._kept) >= _KEPT_MOST:
            self._kept.clear()
        self._kept[uid] = (name, time.monotonic())
        return name

    def _asked(self, uid: int) -> str | None:
        try:
            return self._look_up(uid)
        except NameServiceFailed:
            raise
        except Exception as error:
            raise NameServiceFailed(f"the name of user {uid} could not be looked up") from error
