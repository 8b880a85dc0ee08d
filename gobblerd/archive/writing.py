"""Files and directories that appear whole: written under a temporary name, made durable, renamed.

Every temporary file is held with flock while it is written, so that what a killed writer left can be told
from what is being written; the next writer into that directory removes it, if it is the same user's. Not
every filesystem has locks that reach from one machine to another, so the name says whose it is: what another
one left must have lain untouched for a day.

Who may read them is for the user's umask to say, as with everything that users write: what is packed or
extracted may have been private where it came from.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from gobblerd.domain.times import NANOSECONDS
from gobblerd.domain.where import made_in, written_in
from gobblerd.storage.files import READ_DIRECTORY, sync_directory
from gobblerd.storage.removal import last_touched, remove_tree

_BEFORE = ".gobblerd-"  # what temporary names begin and end with
_AFTER = ".partial"
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})
_DAY = 86_400 * NANOSECONDS
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def is_temporary(name: str) -> bool:
    """Tell whether a file name is one of those that only last while something is written."""
    return name.startswith(_BEFORE) and name.endswith(_AFTER)


def permitted(mode: int) -> int:
    """Return a mode without what the umask forbids: for what cannot be made with it from the beginning."""
    return mode & ~_umask()


def _umask() -> int:
    """Return the umask, which umask(2) tells only whoever sets another one, for all threads."""
    with (
        contextlib.suppress(OSError),
        open("/proc/self/status", encoding="utf-8", errors="replace") as status,
    ):
        for line in status:
            name, _, value = line.partition(":")
            if name == "Umask":
                return int(value, 8)
    found = os.umask(0o077)  # no /proc: for a moment, what other threads make is private
    os.umask(found)
    return found


class Temporary:
    """A new file under a temporary name in a directory, until it is renamed or given up."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.path = _temporary_name(directory)

    def create(self) -> None:
        """Make it, and hold its lock; again if it was taken for an abandoned one before it was locked."""
        while (fd := _locked(os.open(self.path, _CREATE, 0o666), self.path)) is None:
            self.path = _temporary_name(self._directory)
        self.file: BinaryIO = os.fdopen(fd, "w+b")

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
        # Interrupted before there was one; or no room, once more, for what nobody needs any longer.
        with contextlib.suppress(AttributeError, OSError):
            self.file.close()


@contextlib.contextmanager
def temporary(directory: str) -> Iterator[Temporary]:
    """Yield a new file; what was not renamed at the end of the block is gone."""
    found = Temporary(directory)
    try:  # before it is made: an interruption may come at any moment
        with made_in(directory):
            found.create()
        remove_abandoned(directory, os.fstat(found.file.fileno()).st_ctime_ns)
        with written_in(directory):
            yield found
    finally:
        found.give_up()


@contextlib.contextmanager
def temporary_directory(directory: str) -> Iterator[str]:
    """Yield the path of a new directory (0700); what was not renamed at the end of the block is gone."""
    path, fd = _temporary_name(directory), None
    try:  # as above
        with made_in(directory):
            while (fd := _made(path)) is None:
                path = _temporary_name(directory)
        remove_abandoned(directory, os.fstat(fd).st_ctime_ns)
        with written_in(directory):
            yield path
    finally:
        if os.path.lexists(path):
            remove_tree(path)
        if fd is not None:
            os.close(fd)


def _made(path: str) -> int | None:
    """Make a directory and lock it; None if it was taken for an abandoned one before it was locked."""
    os.mkdir(path, 0o700)
    try:
        return _locked(os.open(path, READ_DIRECTORY), path)
    except FileNotFoundError:
        return None


def _temporary_name(directory: str) -> str:
    return os.path.join(directory, f"{_BEFORE}{_machine()}-{secrets.token_hex(8)}{_AFTER}")


@functools.cache
def _machine() -> str:
    """Return what tells this machine from the others of a cluster."""
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


def _locked(fd: int, path: str) -> int | None:
    """Lock the descriptor of a new file or directory; close it and return None if `path` is gone by then."""
    try:
        _lock(fd, fcntl.LOCK_EX)
        if os.path.lexists(path):
            return fd
    except BaseException:
        os.close(fd)  # what is left is an abandoned one
        raise
    os.close(fd)
    return None


def _lock(fd: int, how: int) -> bool:
    """Take a lock; False where the filesystem has none. BlockingIOError if it is another's."""
    try:
        fcntl.flock(fd, how)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def remove_abandoned(directory: str, now: int = 0) -> int:
    """Remove what writers of ours left that were killed; return how much.

    `now` is the file server's time in nanoseconds; without it, what other machines left stays.
    """
    try:
        with os.scandir(directory) as entries:
            paths = [entry.path for entry in entries if is_temporary(entry.name)]
    except OSError:  # one may write there, and not look
        return 0
    return sum(_remove_abandoned(path, now) for path in paths)


def _remove_abandoned(path: str, now: int) -> bool:
    try:
        fd = os.open(path, _LOOK)
    except OSError:  # gone meanwhile, or another user's
        return False
    try:
        if not _is_abandoned(fd, path, now):
            return False
        remove_tree(path)
    except OSError:  # it is being written, or cannot be removed
        return False
    finally:
        os.close(fd)
    return True


def _is_abandoned(fd: int, path: str, now: int) -> bool:
    """Tell whether nobody writes it any more, and it is ours; BlockingIOError if it is locked."""
    if os.fstat(fd).st_uid != os.geteuid():
        return False
    is_locked = _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if is_locked and os.path.basename(path).startswith(f"{_BEFORE}{_machine()}-"):
        return True
    touched = last_touched(path)
    return touched is not None and touched < now - _DAY


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
