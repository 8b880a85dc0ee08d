"""Files and directories that appear whole: written under a temporary name, made durable, renamed.

Every temporary file is held with flock while it is written, so that what a writer left that was killed can be
told from what is being written, and is removed by the next one to write into that directory.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from typing import BinaryIO

from gobblerd.storage.files import FILE_MODE, READ_DIRECTORY, sync_directory
from gobblerd.storage.removal import remove_tree

_BEFORE = ".gobblerd-"  # what temporary names begin and end with
_AFTER = ".partial"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one of those that only last while something is written."""
    return name.startswith(_BEFORE) and name.endswith(_AFTER)


class Temporary:
    """A new file under a temporary name in a directory, until it is renamed or given up."""

    def __init__(self, directory: str) -> None:
        while (fd := self._created(directory)) is None:
            pass
        try:
            os.fchmod(fd, FILE_MODE)
            self.file: BinaryIO = os.fdopen(fd, "w+b")
        except BaseException:
            os.close(fd)
            os.unlink(self.path)
            raise

    def _created(self, directory: str) -> int | None:
        """Create and lock a file; None if it was taken for an abandoned one before it was locked."""
        self.path = _temporary_name(directory)
        return _locked(os.open(self.path, _CREATE, FILE_MODE), self.path)

    def sync(self) -> int:
        """Make what was written durable; return its size in bytes."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return os.fstat(self.file.fileno()).st_size

    def rename(self, target: str) -> None:
        """Give it its name, in place of what may have had it."""
        os.rename(self.path, target)

    def give_up(self) -> None:
        """Remove it, unless it has its name."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self.file.close()


@contextlib.contextmanager
def temporary(directory: str) -> Iterator[Temporary]:
    """Yield a new file; what was not renamed at the end of the block is gone."""
    remove_abandoned(directory)
    found = Temporary(directory)
    try:
        yield found
    finally:
        found.give_up()


@contextlib.contextmanager
def temporary_directory(directory: str) -> Iterator[str]:
    """Yield the path of a new directory; what was not renamed at the end of the block is gone."""
    remove_abandoned(directory)
    while (made := _made(directory)) is None:
        pass
    path, fd = made
    try:
        yield path
    finally:
        if os.path.lexists(path):
            remove_tree(path)
        os.close(fd)


def _made(directory: str) -> tuple[str, int] | None:
    """Make and lock a directory; None if it was taken for an abandoned one before it was locked."""
    path = _temporary_name(directory)
    os.mkdir(path)
    try:
        fd = _locked(os.open(path, READ_DIRECTORY), path)
    except FileNotFoundError:
        return None
    return None if fd is None else (path, fd)


def _temporary_name(directory: str) -> str:
    return os.path.join(directory, f"{_BEFORE}{secrets.token_hex(8)}{_AFTER}")


def _locked(fd: int, path: str) -> int | None:
    """Lock the descriptor of a new file or directory; close it and return None if `path` is gone by then."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return fd
    except BaseException:
        os.close(fd)  # what is left is an abandoned one
        raise
    os.close(fd)
    return None


def remove_abandoned(directory: str) -> int:
    """Remove temporary files that nobody writes any more; return how many there were."""
    with os.scandir(directory) as entries:
        paths = [entry.path for entry in entries if is_temporary(entry.name)]
    return sum(_remove_abandoned(path) for path in paths)


def _remove_abandoned(path: str) -> bool:
    try:
        fd = os.open(path, _LOOK)
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            remove_tree(path)
        else:
            os.unlink(path)
    except OSError:  # it is being written, or is not ours to remove
        return False
    finally:
        os.close(fd)
    return True


def move_into(source: Temporary, directory: str, into: contextlib.ExitStack) -> Temporary:
    """Return the same file as a temporary one in `directory`: itself if it is there, else a copy."""
    if os.path.dirname(source.path) == directory:
        return source
    copy = into.enter_context(temporary(directory))
    source.file.flush()
    source.file.seek(0)
    shutil.copyfileobj(source.file, copy.file, 1 << 20)
    return copy


def publish(files: list[tuple[Temporary, str]]) -> None:
    """Make all files durable, then give them their names, in this order."""
    for each, _ in files:
        each.sync()
    for each, target in files:
        each.rename(target)
    for directory in {os.path.dirname(target) for _, target in files}:
        sync_directory(directory)
