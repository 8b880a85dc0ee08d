"""The directory that a user offers for upload, read without trusting anything in it.

The staging directory is hostile: anything may be swapped for anything between two of our system calls. So
no component is ever followed: directories and files are opened one name at a time, relative to a held
descriptor, with O_NOFOLLOW and O_NONBLOCK, and the *descriptor* is judged, never the name. `survey` gives a
first picture (names, sizes, links' texts) that refuses early; `opened_file` is where bytes come from.

Known limits: a directory at depth n costs n opens (none but the last is kept open); NFSv4 ACLs are not
read, the mode bits that the server shows for them are.
"""

import contextlib
import errno
import operator
import os
import stat
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

import msgspec

from gobblerd.domain.errors import Exceeded, Forbidden, Wrong
from gobblerd.domain.names import is_internal
from gobblerd.storage.batches import Offered, RawStamp, survey_directory
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE

_ACL = "system.posix_acl_access"
_ACL_ENTRY = struct.Struct("<HHI")
_NAMED_USER, _OWNING_GROUP, _NAMED_GROUP, _MASK, _OTHER = 2, 4, 8, 16, 32
_READ, _SEARCH = 4, 1
_PATH_OF = operator.attrgetter("path")

# What opening, reading or judging a name gives when it is not (any more) what it was listed as; EAGAIN: its
# owner holds a lease on it, as writers on file servers do.
_SWAPPED = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.ENXIO,
        errno.ENODEV,
        errno.ESTALE,
        errno.EAGAIN,
    }
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one upload may be; 0 means no limit. Bytes for sizes and paths."""

    files: int = 10_000_000
    size: int = 0
    depth: int = 256
    path: int = 4096


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """What tells whether a file is still the one that was read."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Stamp":
        """Take the stamp from a stat result."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def raw(self) -> RawStamp:
        """The same as a plain tuple."""
        return self.inode, self.size, self.mtime_ns, self.ctime_ns


@dataclass(frozen=True, slots=True)
class Reader:
    """The user on whose behalf files are read: nothing is read that they could not read themselves."""

    uid: int
    groups: Container[int]

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


OURSELVES = Reader(0, frozenset())  # an administrator asks: whatever the service may read


def _acl_of(fd: int) -> list[tuple[int, int, int]] | None:
    """Return the (tag, permissions, id) entries of the opened file's access ACL, None where it has none."""
    try:
        value = os.getxattr(f"/proc/self/fd/{fd}", _ACL)  # which takes descriptors of O_PATH, too
    except OSError as error:
        if error.errno in {errno.ENODATA, errno.ENOTSUP}:
            return None
        raise
    return list(_ACL_ENTRY.iter_unpack(value[4:]))


class SourceFile(msgspec.Struct, frozen=True, gc=False):
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
    """An opened source directory, held by its descriptor from the start."""

    def __init__(self, fd: int, name: str, reader: Reader) -> None:
        self.fd = fd
        self.name = name
        self.reader = reader

    @property
    def inode(self) -> int:
        """The inode of the directory, to find it again."""
        return os.fstat(self.fd).st_ino

    def survey(self, limits: Limits, *, ignore_dot: bool) -> Survey:
        """Walk the whole source once; Wrong names what cannot be taken, Exceeded what is too much."""
        walk = _Walk(self, limits, ignore_dot=ignore_dot)
        pending = [""]
        while pending:
            pending.extend(walk.enter(pending.pop()))
        walk.found.files.sort(key=_PATH_OF)
        walk.found.symlinks.sort()
        return walk.found

    @contextlib.contextmanager
    def opened_directory(self, path: str) -> Iterator[int]:
        """Open a directory of the source for the length of a block."""
        fd = self.open_directory(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def open_directory(self, path: str) -> int:
        """Open a directory of the source, name by name, following nothing; the caller closes it."""
        fd, walked = os.dup(self.fd), ""
        try:
            for name in path.split("/") if path else ():
                walked = f"{walked}/{name}" if walked else name
                above, fd = fd, self._opened_below(name, walked, fd)
                os.close(above)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _opened_below(self, name: str, path: str, dir_fd: int) -> int:
        """Open one subdirectory; Wrong unless the requester may list and search it."""
        try:
            fd = os.open(name, READ_DIRECTORY, dir_fd=dir_fd)
        except OSError as error:
            raise _unopened(path, error) from error
        if not self.reader.may(fd, _READ | _SEARCH):
            os.close(fd)
            raise Wrong("the directory {path} is not readable to the requester", path=path)
        return fd

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

    def enter(self, directory: str) -> list[str]:
        """Take what lies directly in a directory ("" for the top); return its subdirectories."""
        found, before = self.found, len(self.found.directories)
        prefix = f"{directory}/" if directory else ""
        holds = False
        with self._source.opened_directory(directory) as fd:
            for names in self._listed(fd, prefix):
                for name, kind, what in names:
                    if name[0] == "." and (self._ignore_dot or is_internal(name)):
                        continue
                    holds = True
                    path = prefix + name
                    _check_path(path, self._limits)
                    if isinstance(what, int):
                        found.files.append(SourceFile(path, what))
                        found.size += what
                    elif isinstance(what, str):
                        found.symlinks.append((path, what if what.isascii() else _text(what, path)))
                    else:
                        self._take_other(kind, name, path, fd)
                _check_amount(found, self._limits)
        if directory and not holds:
            found.empty.append(directory)
        return found.directories[before:]

    def _listed(self, fd: int, prefix: str) -> Iterator[list[Offered]]:
        """List a directory, a part at a time; what went meanwhile is told by its path."""
        try:
            yield from survey_directory(fd)
        except OSError as error:
            if not isinstance(error.filename, str):
                raise
            raise _unopened(prefix + error.filename, error) from error

    def _take_other(self, kind: int, name: str, path: str, fd: int) -> None:
        """Add to the survey what is neither a regular file nor a symbolic link that could be read at once."""
        if stat.S_ISDIR(kind):
            self.found.directories.append(path)
        elif stat.S_ISLNK(kind):
            self.found.symlinks.append((path, _text(_link_text(name, path, fd), path)))
        else:
            raise Wrong("{path} is neither a regular file, a directory nor a symbolic link", path=path)


def require_readable(fd: int, path: str, reader: Reader) -> None:
    """Raise Wrong unless the descriptor is of a regular file that the reader owns or may read."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise changed(path)
    if not reader.may(fd, _READ):
        raise Wrong("{path} is neither the requester's own file nor readable to them", path=path)


def open_source(staging_fd: int, name: str, reader: Reader) -> Source:
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
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Wrong("there is no directory {source} in the staging directory", source=name) from None
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        raise Wrong("the source {source} is not a directory (nor may it be a link)", source=name) from None
    if os.fstat(fd).st_uid != reader.uid:
        os.close(fd)
        raise Forbidden("the source {source} is not owned by the requester", source=name)
    return Source(fd, name, reader)


def _check_path(path: str, limits: Limits) -> None:
    if path.isascii():
        size = len(path)
    else:
        try:
            size = len(path.encode("utf-8"))
        except UnicodeEncodeError:
            raise Wrong("the name {path} is not valid UTF-8", path=path) from None
    if limits.path and size > limits.path:
        raise Exceeded("the path {path} is longer than {most} bytes", path=path, most=limits.path)


def _check_amount(found: Survey, limits: Limits) -> None:
    if limits.files and found.count() > limits.files:
        raise Exceeded("the source holds more than {most} files and directories", most=limits.files)
    if limits.size and found.size > limits.size:
        raise Exceeded("the source holds more than {most} bytes", most=limits.size)
    deepest = found.directories[-1] if found.directories else ""  # as deep as the others found with it
    if limits.depth and deepest.count("/") >= limits.depth:
        raise Exceeded("{path} is nested deeper than {most} levels", path=deepest, most=limits.depth)


def _link_text(name: str, path: str, dir_fd: int) -> str:
    """Read one symbolic link, and say what is wrong with it if that fails."""
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError as error:
        raise _unopened(path, error) from error


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
    return changed(path) if error.errno in _SWAPPED else error


@contextlib.contextmanager
def opened_for(path: str, reader: Reader, shown: str, within: str = "") -> Iterator[int]:
    """Open a file outside staging (a whitelisted one) by its resolved path, on behalf of the reader.

    Wrong also where a directory on the way is no longer the one that `path` was resolved through, or where
    one between the whitelisted `within` and the file is closed to the reader.
    """
    try:
        fd = os.open(path, READ_FILE)
    except OSError as error:
        raise _unopened(shown, error) from error
    try:
        if os.readlink(f"/proc/self/fd/{fd}") != path:
            raise changed(shown)
        require_readable(fd, shown, reader)
        _require_way(path, within, reader, shown)
        yield fd
    finally:
        os.close(fd)


def _require_way(path: str, within: str, reader: Reader, shown: str) -> None:
    """Raise Wrong unless the reader may search each directory below `within` that leads to the file."""
    directory = os.path.dirname(path)
    while within and directory != within and directory.startswith(f"{within.rstrip('/')}/"):
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not reader.may(fd, _SEARCH):
                raise Wrong("{path} goes through a directory that is closed to the requester", path=shown)
        finally:
            os.close(fd)
        directory = os.path.dirname(directory)
