"""The system calls for one small file, in one go: a request makes a few dozen of them.

With the C extension each of these costs one call without the interpreter's lock; without it the same system
calls are made from here. `read_file` and `write_opened` (files.py) are done that way, too.
"""

import errno
import fcntl
import os
import stat
import sys
from typing import NamedTuple, Self

from gobblerd.storage import native
from gobblerd.storage.files import read_all
from gobblerd.storage.handles import handle_of

LOST = " (deleted)"  # how /proc shows the path of an open file that has no name any more


class Status(NamedTuple):
    """What fstat or lstat said of a file; times in nanoseconds."""

    inode: int
    mode: int
    links: int
    uid: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Self:
        """Take it from what the standard library makes of it."""
        return cls(
            found.st_ino,
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_size,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )


class Whole(NamedTuple):
    """A file that was read whole, with its handle (b"": none), which no other file ever has."""

    status: Status
    handle: bytes
    body: bytes


def read_whole(name: str, flags: int, most: int, *, dir_fd: int, handles: bool) -> Whole | None:
    """Open a file and read all of it, if nothing about it is out of the ordinary.

    None unless it is a regular file of at most `most` bytes and of one name, which it still has after it was
    opened, that does not change meanwhile. `handles`: they are to be had, and wanted.
    """
    if native.SINGLE is not None:
        found = native.SINGLE.read_whole(dir_fd, name, flags, most, handles)
        return None if found is None else Whole(Status._make(found[0]), found[1], found[2])
    try:
        fd = os.open(name, flags, dir_fd=dir_fd)
    except OSError:
        return None
    try:
        return _read_opened(fd, most, handles=handles)
    except OSError:
        return None
    finally:
        os.close(fd)


def _read_opened(fd: int, most: int, *, handles: bool) -> Whole | None:
    status = Status.of(os.fstat(fd))
    if not stat.S_ISREG(status.mode) or status.links != 1 or status.size > most or has_lost_its_name(fd):
        return None
    handle = handle_of(fd) if handles else b""
    body = read_all(fd, status.size)
    unchanged = len(body) == status.size and Status.of(os.fstat(fd)) == status
    return Whole(status, handle, body) if unchanged else None


def has_lost_its_name(fd: int) -> bool:
    """Tell whether the name by which the file was opened is gone; to be asked after fstat.

    Somebody else's file, linked to a request's name and unlinked again after we opened it, has one link by
    then: the other name. A name that is lost never comes back (proc(5): "(deleted)"), so one that is there
    after fstat was one of the links that fstat counted. A request whose own name ends like that is not taken.
    """
    return os.readlink(f"/proc/self/fd/{fd}").endswith(LOST)


def has_directory(parent: str, name: str) -> bool:
    """Tell whether a directory, or a link to one, is in another; OSError, also where there is no such parent.

    The parent is opened first: NFS caches absence, and opening a directory revalidates it.
    """
    if native.SINGLE is not None:
        found: bool = native.SINGLE.has_directory(parent, name)
        return found
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=fd).st_mode)
    except FileNotFoundError:
        return False
    finally:
        os.close(fd)


def flocked(path: str, flags: int, mode: int, operation: int) -> tuple[int, int] | None:
    """Open a lock file, and lock it as flock(2) does; return its descriptor and its mode. OSError.

    None if somebody else holds the lock: `operation` does not wait.
    """
    if native.SINGLE is not None:
        sys.audit("open", path, None, flags)  # as os.open does: it may make the file
        found: tuple[int, int] | None = native.SINGLE.flocked(path, flags, mode, operation)
        return found
    fd = os.open(path, flags, mode)
    try:
        fcntl.flock(fd, operation)
        return fd, os.fstat(fd).st_mode
    except OSError as error:
        os.close(fd)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return None
        raise
