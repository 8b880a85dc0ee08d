"""The directory that a user offers for upload, read without trusting anything in it.

The staging directory is hostile: anything may be swapped for anything between two of our system calls. So
no component is ever followed: directories and files are opened one name at a time, relative to a held
descriptor, with O_NOFOLLOW and O_NONBLOCK, and the *descriptor* is judged, never the name. `survey` gives a
first picture (names, sizes, links' texts) that refuses early; `opened_file` is where bytes come from.
"""

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from gobblerd.domain.errors import Exceeded, Forbidden, Wrong
from gobblerd.domain.names import is_internal
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, opened

_ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")
_NAMED_USER, _OWNING_GROUP, _NAMED_GROUP, _MASK, _OTHER = 2, 4, 8, 16, 32
_READ, _SEARCH = 4, 1


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one upload may be; 0 means no limit. Bytes for sizes and paths."""

    files: int = 10_000_000
    size: int = 0
    depth: int = 256
    path: int = 4096


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells whether a file is still the one that was read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take the stamp from a stat result."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class Reader:
    """The user on whose behalf files are read: nothing is read that they could not read themselves."""

    uid: int
    groups: frozenset[int]

    def may(self, fd: int, wanted: int) -> bool:
        """Tell whether the user owns the opened file, or its mode (or ACL) gives them `wanted` (rwx bits)."""
        status = os.fstat(fd)
        if self.uid in {0, status.st_uid}:
            return True
        entries = _acl_of(fd)
        if entries is None:
            shift = 3 if status.st_gid in self.groups else 0
            return (status.st_mode >> shift) & wanted == wanted
        return self._by_acl(entries, status.st_gid, wanted)

    def _by_acl(self, entries: list[tuple[int, int, int]], group: int, wanted: int) -> bool:
        mask = next((perm for tag, perm, _ in entries if tag == _MASK), 7)
        for tag, perm, who in entries:
            if tag == _NAMED_USER and who == self.uid:
                return perm & mask & wanted == wanted
        mine = [
            perm
            for tag, perm, who in entries
            if (tag == _NAMED_GROUP and who in self.groups) or (tag == _OWNING_GROUP and group in self.groups)
        ]
        if mine:
            return any(perm & mask & wanted == wanted for perm in mine)
        return any(perm & wanted == wanted for tag, perm, _ in entries if tag == _OTHER)


def _acl_of(fd: int) -> list[tuple[int, int, int]] | None:
    """Return the (tag, permissions, id) entries of the opened file's access ACL, None where it has none."""
    try:
        value = os.getxattr(fd, _ACL)
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return None
        raise
    return list(_ACL_ENTRY.iter_unpack(value[4:]))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A regular file of the source as the survey saw it."""

    path: str
    size: int


@dataclass
class Survey:
    """What a source holds; paths are relative to it. `directories` lists parents before children."""

    files: list[SourceFile] = field(default_factory=list)
    symlinks: list[tuple[str, str]] = field(default_factory=list)  # path, text
    directories: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    size: int = 0

    def count(self) -> int:
        """Return how many things it holds."""
        return len(self.files) + len(self.symlinks) + len(self.directories)


class Source:
    """An opened source directory; `location` is its path, for resolving what its symlinks say."""

    def __init__(self, fd: int, name: str, location: str, reader: Reader) -> None:
        self.fd = fd
        self.name = name
        self.location = location
        self.reader = reader

    @property
    def inode(self) -> int:
        """The inode of the directory, to find it again."""
        return os.fstat(self.fd).st_ino

    def survey(self, limits: Limits, *, ignore_dot: bool) -> Survey:
        """Walk the whole source once; Wrong names what cannot be taken, Exceeded what is too much."""
        walk = _Walk(self, limits, ignore_dot=ignore_dot)
        walk.enter(self.fd, "", 1)
        walk.found.files.sort(key=lambda file: file.path)
        return walk.found

    def require_listable(self, fd: int, path: str) -> None:
        """Raise Wrong unless the requester may list and search the opened directory."""
        if not self.reader.may(fd, _READ | _SEARCH):
            raise Wrong("the directory {path} is not readable to the requester", path=path or self.name)

    @contextlib.contextmanager
    def opened_directory(self, path: str) -> Iterator[int]:
        """Open a directory of the source, name by name, following nothing."""
        with contextlib.ExitStack() as stack:
            fd, walked = self.fd, ""
            for name in path.split("/") if path else ():
                walked = f"{walked}/{name}" if walked else name
                fd = stack.enter_context(_opened_directory(name, walked, fd))
                self.require_listable(fd, walked)
            yield fd

    @contextlib.contextmanager
    def opened_file(self, name: str, path: str, dir_fd: int) -> Iterator[int]:
        """Open one regular file of a directory; Wrong if it is none, or not the requester's to read."""
        try:
            fd = os.open(name, READ_FILE, dir_fd=dir_fd)
        except OSError as error:
            raise _unopened(path, error) from error
        try:
            require_readable(fd, path, self.reader)
            yield fd
        finally:
            os.close(fd)


class _Walk:
    """One survey of a source."""

    def __init__(self, source: Source, limits: Limits, *, ignore_dot: bool) -> None:
        self._source = source
        self._limits = limits
        self._ignore_dot = ignore_dot
        self.found = Survey()

    def enter(self, fd: int, base: str, depth: int) -> bool:
        """Survey one directory and what is below; tell whether it holds anything that counts."""
        if depth > self._limits.depth:
            raise Exceeded("{path} is nested deeper than {most} levels", path=base, most=self._limits.depth)
        self._source.require_listable(fd, base)
        before = self.found.count()
        below = self._list(fd, base)
        holds = bool(below) or self.found.count() > before
        for name, path in below:
            self.found.directories.append(path)
            with _opened_directory(name, path, fd) as child:
                if not self.enter(child, path, depth + 1):
                    self.found.empty.append(path)
        return holds

    def _list(self, fd: int, base: str) -> list[tuple[str, str]]:
        """Take what lies directly in a directory; return its subdirectories (name, path)."""
        below = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if is_internal(entry.name) or (self._ignore_dot and entry.name.startswith(".")):
                    continue
                path = f"{base}/{entry.name}" if base else entry.name
                _check_path(path, self._limits)
                if entry.is_dir(follow_symlinks=False):
                    below.append((entry.name, path))
                else:
                    self._take(entry, path, fd)
                _check_amount(self.found, len(below), self._limits)
        return below

    def _take(self, entry: "os.DirEntry[str]", path: str, fd: int) -> None:
        try:
            if entry.is_symlink():
                self.found.symlinks.append((path, _text(os.readlink(entry.name, dir_fd=fd), path)))
                return
            status = entry.stat(follow_symlinks=False)
        except OSError as error:
            raise changed(path) from error
        if not stat.S_ISREG(status.st_mode):
            raise Wrong("{path} is neither a regular file, a directory nor a symbolic link", path=path)
        self.found.files.append(SourceFile(path, status.st_size))
        self.found.size += status.st_size


@contextlib.contextmanager
def _opened_directory(name: str, path: str, dir_fd: int) -> Iterator[int]:
    try:
        fd = os.open(name, READ_DIRECTORY, dir_fd=dir_fd)
    except OSError as error:
        raise _unopened(path, error) from error
    try:
        yield fd
    finally:
        os.close(fd)


def require_readable(fd: int, path: str, reader: Reader) -> None:
    """Raise Wrong unless the descriptor is of a regular file that the reader owns or may read."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise changed(path)
    if not reader.may(fd, _READ):
        raise Wrong("{path} is neither the requester's own file nor readable to them", path=path)


def open_source(staging_fd: int, staging: str, name: str, reader: Reader) -> Source:
    """Open the directory `name` directly inside the staging directory; the caller closes `fd`.

    Wrong where it cannot be used, Forbidden where the requester does not own it.
    """
    try:
        fd = os.open(name, READ_DIRECTORY, dir_fd=staging_fd)
    except FileNotFoundError:
        raise Wrong("there is no directory {source} in the staging directory", source=name) from None
    except PermissionError:
        raise Wrong(
            "the service account may not read the directory {source}; try chmod -R a+rX", source=name
        ) from None
    except OSError:
        raise Wrong("the source {source} is not a directory (nor may it be a link)", source=name) from None
    if os.fstat(fd).st_uid != reader.uid:
        os.close(fd)
        raise Forbidden("the source {source} is not owned by the requester", source=name)
    return Source(fd, name, f"{staging}/{name}", reader)


def _check_path(path: str, limits: Limits) -> None:
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        raise Wrong("the name {path} is not valid UTF-8", path=path) from None
    if limits.path and size > limits.path:
        raise Exceeded("the path {path} is longer than {most} bytes", path=path, most=limits.path)


def _check_amount(found: Survey, pending: int, limits: Limits) -> None:
    if limits.files and found.count() + pending > limits.files:
        raise Exceeded("the source holds more than {most} files and directories", most=limits.files)
    if limits.size and found.size > limits.size:
        raise Exceeded("the source holds more than {most} bytes", most=limits.size)


def _text(text: str, path: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong("the target of the symbolic link {path} is not valid UTF-8", path=path) from None
    return text


def changed(path: str) -> Wrong:
    """Return the refusal of a file that did not hold still."""
    return Wrong("{path} changed while it was read; upload again when nothing writes to it", path=path)


def _unopened(path: str, error: OSError) -> Wrong | OSError:
    if isinstance(error, PermissionError):
        return Wrong("the service account may not read {path}; try chmod -R a+rX on the source", path=path)
    if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE}:
        return changed(path)
    return error


@contextlib.contextmanager
def opened_for(path: str, reader: Reader, shown: str) -> Iterator[int]:
    """Open a file outside staging (a whitelisted one) by its resolved path, on behalf of the reader."""
    try:
        with opened(path, READ_FILE) as fd:
            require_readable(fd, shown, reader)
            yield fd
    except OSError as error:
        raise _unopened(shown, error) from error
