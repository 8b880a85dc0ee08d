"""A cache of registry files on the reader's own disk: where things lie, who writes them, what is whole.

The layout is pygobbler's, whose caches are used as they are. Below `CACHE/<quoted URL>/`:
`REGISTRY/<path>` whole files only; `SUCCESS/<path>/....OK` marks a directory that was fetched whole;
`TEMP/` parts of files. A part's name is made from the file's path, so that whoever comes next continues
it; it is locked (flock) while somebody writes it, which ends with that process, however it ends. So two
processes on one cache share the work, and everything below REGISTRY came there by a rename.

Limit: where the filesystem knows no locks, each process writes parts of its own and continues nobody's.
"""

import errno
import fcntl
import hashlib
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from gobblerd.client.parallel import Stop

_PART = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})
_WAIT_FIRST = 0.01  # seconds between two attempts to lock a part, growing to the last
_WAIT_LAST = 0.25
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file, open, and locked if it is `shared`: if whoever comes next may continue it."""

    path: str
    fd: int
    shared: bool = True

    @property
    def size(self) -> int:
        """How many bytes there are."""
        return os.fstat(self.fd).st_size

    def validator(self) -> str | None:
        """Return what the server calls the content that this is a part of; None if that is not known."""
        with suppress(OSError), open(f"{self.path}.of", encoding="latin-1") as file:
            return file.read() or None
        return None

    def restart(self, validator: str | None) -> None:
        """Empty it, and note what it will be a part of. Killed in between, it is an empty part."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        with open(f"{self.path}.of", "w", encoding="latin-1") as file:
            file.write(validator or "")

    def fill(self, data: bytes) -> None:
        """Make it hold just this, which is the whole file."""
        os.ftruncate(self.fd, 0)
        view, at = memoryview(data), 0
        while at < len(data):
            at += os.pwrite(self.fd, view[at:], at)

    def publish(self, target: str) -> None:
        """Give it the file's name."""
        os.rename(self.path, target)
        self._forget()

    def discard(self) -> None:
        """Remove it."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
        self._forget()

    def _forget(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}.of")


class Cache:
    """What is kept of one service; `directory` None: in the user's data directory, as pygobbler has it."""

    def __init__(self, directory: str | None, url: str) -> None:
        self.root = local_registry(directory, url)

    def target(self, path: str) -> str:
        """Return where a file or directory of the registry lies; ValueError if it would not be in here."""
        _require_inside(path)
        return os.path.join(self.root, "REGISTRY", path)

    def marker(self, path: str) -> str:
        """Return the file whose presence says that a directory was fetched whole."""
        _require_inside(path)
        return os.path.join(self.root, "SUCCESS", path, "....OK")

    @contextmanager
    def part(self, path: str, stop: Stop, *, wait: bool) -> Iterator[Part | None]:
        """Yield the part of a file, locked; None if somebody else has it and `wait` is not set."""
        directory = os.path.join(self.root, "TEMP")
        os.makedirs(directory, exist_ok=True)
        path = os.path.normpath(path)
        name = hashlib.md5(path.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
        part = locked(os.path.join(directory, f"{name}.part"), stop, wait=wait)
        try:
            yield part
        finally:
            if part is not None:
                os.close(part.fd)


def local_registry(directory: str | None, url: str) -> str:
    """Return what of a cache belongs to the service at `url`; user and password are not written to disk."""
    if directory is None:
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        directory = os.path.join(data, "gobbler")
    scheme, separator, rest = url.partition("://")
    origin, slash, path = rest.partition("/")
    without_password = f"{scheme}{separator}{origin.rpartition('@')[2]}{slash}{path}"
    return os.path.join(directory, urllib.parse.quote_plus(without_password))


def md5_of(fd: int) -> "hashlib._Hash":
    """Return the MD5 of what a descriptor holds so far, to be continued."""
    digest = hashlib.md5(usedforsecurity=False)
    offset = 0
    while chunk := os.pread(fd, _CHUNK, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest


def is_same(path: str, size: int, md5sum: str) -> bool:
    """Tell whether a file is there with this content."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.fstat(fd).st_size == size and md5_of(fd).hexdigest() == md5sum
    except IsADirectoryError:
        return False
    finally:
        os.close(fd)


def _require_inside(path: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"{path!r} is not a path within the registry")


def locked(path: str, stop: Stop, *, wait: bool) -> Part | None:
    """Open a part and lock it; None if somebody else has it and `wait` is not set."""
    pause = _WAIT_FIRST
    while True:
        fd = os.open(path, _PART, 0o666)
        try:
            if _is_free(fd):
                if _is_at(fd, path):
                    return Part(path, fd)
            elif not wait:
                os.close(fd)
                return None
            else:
                stop.pause(pause)
                pause = min(pause * 1.5, _WAIT_LAST)
        except OSError as error:
            os.close(fd)
            if error.errno in _NO_LOCKS:
                with suppress(FileNotFoundError):
                    os.unlink(path)
                own = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
                return Part(own, os.open(own, _PART | os.O_EXCL, 0o666), shared=False)
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is_free(fd: int) -> bool:
    """Lock it; tell whether that worked."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: str) -> bool:
    """Tell whether a descriptor is still what lies at a path: its last owner may have published it."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))
