"""What keeps a name from being moved although its directory may be written to: attributes, mounts.

statx(2) tells them in one system call, which the extension makes, or else ctypes. Where it does not exist, or
a filesystem does not say, a file counts as having none, and its device stands for its mount.
"""

import ctypes
import errno
import os
import stat
import struct
from typing import NamedTuple

from gobblerd.storage import native
from gobblerd.storage.files import HERE

IMMUTABLE = 0x10  # chattr +i: it cannot be written, renamed or removed
APPEND_ONLY = 0x20  # chattr +a: nor can this; of a directory: what is in it
MOUNT_POINT = 0x2000

_NOFOLLOW = 0x100
_WANTED = 0x1000 | 0x7FF  # STATX_MNT_ID | STATX_BASIC_STATS
_MNT_ID = 0x1000
_SIZE = 256
_FIELDS = struct.Struct("=I4xQ4xI4xH114xQ")  # mask, attributes, uid, mode, mount id
_STATX = getattr(ctypes.CDLL(None, use_errno=True), "statx", None)


class Standing(NamedTuple):
    """How a name stands in its directory; `mount` is the same for all that can be renamed into each other."""

    mode: int
    uid: int
    attributes: int
    mount: int

    @property
    def is_directory(self) -> bool:
        """Tell whether it is a directory."""
        return stat.S_ISDIR(self.mode)


def standing(path: str, *, follow: bool = False) -> Standing | None:
    """Return how what is at `path` stands, of a link the link itself unless `follow`; None if nothing is.

    Raises OSError for other troubles.
    """
    if native.SINGLE is not None:
        told = native.SINGLE.standing(path, follow)
        if told is None or told:
            return told and Standing._make(told)
    if _STATX is None:
        return _by_stat(path, follow=follow)
    if "\0" in path:
        raise ValueError("embedded null byte")  # as elsewhere; ctypes would look at what is before it
    found = ctypes.create_string_buffer(_SIZE)
    if _STATX(HERE, os.fsencode(path), 0 if follow else _NOFOLLOW, _WANTED, found):
        number = ctypes.get_errno()
        if number in {errno.ENOENT, errno.ENOTDIR}:
            return None
        if number in {errno.ENOSYS, errno.EPERM}:  # an old kernel, or a sandbox that does not know the call
            return _by_stat(path, follow=follow)
        raise OSError(number, os.strerror(number), path)
    mask, attributes, uid, mode, mount = _FIELDS.unpack_from(found)
    if not mask & _MNT_ID:
        return _by_stat(path, follow=follow)
    return Standing(mode, uid, attributes, mount)


def _by_stat(path: str, *, follow: bool) -> Standing | None:
    try:
        found = os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Standing(found.st_mode, found.st_uid, 0, found.st_dev)
