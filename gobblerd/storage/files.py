"""Writing so that a reader sees the old bytes or the new ones, and a power cut loses neither.

Knows paths and descriptors; knows nothing of what the files mean. `Durability.PROCESS` leaves out every
sync: what was answered then survives the daemon's death, but not the machine's.
"""

import contextlib
import ctypes
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum

from gobblerd.storage import native
from gobblerd.storage.turn import SteppingAside, stepped_aside

DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
READ_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# Errors of opening what is there that last until somebody mends it, unlike those of a device or a server.
STANDING = frozenset({errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.ENODEV})
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
HERE = -100  # AT_FDCWD: the descriptor of paths
_TOGETHER = 64  # files that are open at a time to be settled
_ALL_BYTES = 1 << 62
_FIRST_READ, _LATER_READ = 1 << 14, 1 << 20  # bytes
_LIBC = ctypes.CDLL(None, use_errno=True)
_WRITE, _WRITE_AND_WAIT = 2, 7  # sync_file_range(2): WRITE; WAIT_BEFORE | WRITE | WAIT_AFTER
_FOR_DEVICE = SteppingAside()
_NO_RANGES = frozenset({errno.ENOSYS, errno.ESPIPE, errno.EINVAL})
_REWRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Durability(StrEnum):
    """What an answered request survives: `full` a power cut, `process` the death of the daemon."""

    FULL = "full"
    PROCESS = "process"


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, however little the kernel takes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def read_all(fd: int, most: int) -> bytes:
    """Read from the descriptor to its end, `most` + 1 bytes at the most (more means: too large)."""
    parts: list[bytes] = []
    left, size = most + 1, _FIRST_READ  # os.read makes room for all it may get
    while left > 0 and (part := os.read(fd, min(left, size))):
        parts.append(part)
        left -= len(part)
        size = _LATER_READ
    return b"".join(parts)


def read_file(path: str) -> bytes:
    """Return all bytes of a file of ours; a FIFO in its place has none, and hangs nobody. OSError."""
    if native.SINGLE is not None:
        found: bytes = native.SINGLE.read_file(path)
        return found
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        data = os.read(fd, size + 1)
        return data if len(data) == size else data + read_all(fd, _ALL_BYTES)
    finally:
        os.close(fd)


def sync(fd: int) -> None:
    """Make what was written by a descriptor durable; others may have our turn meanwhile."""
    with stepped_aside():
        os.fsync(fd)


def sync_all(fds: Sequence[int]) -> None:
    """Make what was written by several descriptors durable."""
    for fd in fds:
        sync(fd)


def write_back(fds: Sequence[int]) -> None:
    """Have the bytes of files on the device, but not yet what leads to them; all at once.

    Where a filesystem has one journal in order, any later sync of any file makes that durable too: this is
    the first half of fsync, which is shared then. Others may have our turn meanwhile, unless the device is
    faster than handing it on.
    """
    with _FOR_DEVICE.stepped_aside():
        errors = (_write_back if native.SINGLE is None else native.SINGLE.write_back)(fds)
    for fd, error in zip(fds, errors, strict=True):
        if error in _NO_RANGES:
            sync(fd)
        elif error:
            raise OSError(error, os.strerror(error))


def _write_back(fds: Sequence[int]) -> list[int]:
    """Return 0 or an error number for each."""
    for fd in fds[1:]:
        _sync_range(fd, 0, 0, _WRITE)
    return [_sync_range(fd, 0, 0, _WRITE_AND_WAIT) for fd in fds]


def begin_write_back(fd: int, start: int, size: int) -> None:
    """Have the device begin to write a piece of a file, and do not wait for it; OSError.

    Nothing is durable by that: whoever syncs later waits for less. Where it cannot be done it is left out.
    """
    error = _sync_range(fd, start, size, _WRITE)
    if error not in {0, *_NO_RANGES}:
        raise OSError(error, os.strerror(error))


def forget_pages(fd: int, start: int, size: int) -> None:
    """Let go of what the page cache has of a piece of a file, but for what is not on the device yet."""
    with contextlib.suppress(OSError):  # a hint
        os.posix_fadvise(fd, start, size, os.POSIX_FADV_DONTNEED)


def _sync_range(fd: int, start: int, size: int, flags: int) -> int:
    """Return 0 or an error number."""
    failed = _LIBC.sync_file_range(fd, ctypes.c_int64(start), ctypes.c_int64(size), flags)
    return ctypes.get_errno() if failed else 0


Settle = Callable[[int], None]  # makes what was written by a descriptor durable: `sync`, or `Disk.settle`
SettleAll = Callable[[Sequence[int]], None]  # the same for several: `sync_all`, or `Disk.settle_all`


def write_file(
    path: str,
    data: bytes,
    durability: Durability,
    *,
    dir_fd: int | None = None,
    flags: int = CREATE,
    settle: Settle = sync,
) -> None:
    """Create a new file of mode 0644, whatever umask and default ACL say; FileExistsError if it is there."""
    fd = write_opened(path, data, flags, dir_fd=dir_fd)
    try:
        if durability is Durability.FULL:
            settle(fd)
    finally:
        os.close(fd)


def write_opened(
    path: str,
    data: bytes,
    flags: int = CREATE,
    mode: int = FILE_MODE,
    *,
    dir_fd: int | None = None,
    preallocates: bool = False,
) -> int:
    """Create a file of that very mode, whatever umask and default ACL say; return its descriptor. OSError.

    `preallocates`: its blocks are allocated first.
    """
    if native.SINGLE is not None:
        sys.audit("open", path, None, flags)  # as os.open does
        at = HERE if dir_fd is None else dir_fd
        written: int = native.SINGLE.write_opened(at, path, flags, mode, preallocates, data)
        return written
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    try:
        os.fchmod(fd, mode)
        if preallocates and data:
            os.posix_fallocate(fd, 0, len(data))
        write_all(fd, data)
    except BaseException:
        os.close(fd)
        raise
    return fd


def replace_file(
    dir_fd: int,
    temporary: str,
    name: str,
    data: bytes,
    durability: Durability,
    *,
    settle: Settle = sync,
    names: bool = True,
) -> None:
    """Write `name` in the directory atomically, by way of `temporary` in the same directory.

    The directory must be ours alone. Without `names` the name is not made durable.
    """
    try:
        write_file(temporary, data, durability, dir_fd=dir_fd, flags=_REWRITE, settle=settle)
        os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=dir_fd)
        raise
    if names and durability is Durability.FULL:
        sync(dir_fd)


def sync_directory(path: str) -> None:
    """Make the directory's entries durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(fd)
    finally:
        os.close(fd)


def sync_tree(path: str, *, settle: SettleAll = sync_all, names: bool = True) -> None:
    """Make every regular file below `path` durable, and with `names` every directory, itself included."""
    for _, _, files, fd in os.fwalk(path, follow_symlinks=False):
        there = [name for name in files if _is_file(name, fd)]
        for start in range(0, len(there), _TOGETHER):
            with contextlib.ExitStack() as stack:
                some = there[start : start + _TOGETHER]
                settle([stack.enter_context(opened(name, READ_FILE, dir_fd=fd)) for name in some])
        if names:
            sync(fd)


def _is_file(name: str, dir_fd: int) -> bool:
    return stat.S_ISREG(os.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_mode)


def exists(path: str) -> bool:
    """Tell whether anything is at `path`, a dangling link included; OSError for other troubles."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


@contextlib.contextmanager
def opened(path: str, flags: int, *, dir_fd: int | None = None) -> Iterator[int]:
    """Open a descriptor for the length of a block."""
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def opened_beneath(root_fd: int, parts: Sequence[str], flags: int = READ_FILE) -> Iterator[int]:
    """Open `parts[-1]` below `root_fd`, directory by directory, following no link on the way.

    Raises what `os.open` raises: NotADirectoryError or ELOOP where a component is a symbolic link.
    """
    with contextlib.ExitStack() as stack:
        fd = root_fd
        for name in parts[:-1]:
            fd = stack.enter_context(opened(name, READ_DIRECTORY, dir_fd=fd))
        yield stack.enter_context(opened(parts[-1], flags, dir_fd=fd))


def rename(source: str, target: str) -> None:
    """Rename, and believe the inodes rather than the error.

    On NFS a retransmitted rename can report failure after success.
    """
    inode = os.lstat(source).st_ino
    try:
        os.rename(source, target)
    except OSError:
        if exists(source) or not exists(target) or os.lstat(target).st_ino != inode:
            raise
