"""A read-only view of the registry for readers who are not on its filesystem: list and open, no locks.

Every path is opened beneath the registry, directory by directory, following no link on the way. Of
symbolic links only those that the registry made are followed, once, by the rules of this file: a relative
one to a file of a version, or an absolute one into a whitelisted directory that the manifest lists as a
plain file (spec/details.md, "REST"). What is hidden (`layout.HIDDEN`) does not exist here.

Limits: whether a relative link is the one that its manifest records is validate_version's business. A file
whose manifest exceeds 4 MiB gets an entity tag of its inode, not of its checksum.
"""

import errno
import os
import posixpath
import re
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from types import TracebackType
from typing import Self

import msgspec

from gobblerd.domain.errors import Absent, Fault, Plain, Wrong
from gobblerd.domain.names import is_internal, is_utf8
from gobblerd.registry.content_types import content_type
from gobblerd.registry.layout import HIDDEN
from gobblerd.registry.listed import KEPT_MOST, ListedFiles, Slow
from gobblerd.registry.listing import names_below, names_in
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, opened

Parts = tuple[str, ...]
Pieces = Generator[bytes, None, None]

_NAMES = msgspec.json.Decoder(list[str])
_VERSION_DEPTH = 3
_MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
# Nothing of that name, or something in its place that is no directory, no file, or a link not to follow.
_ABSENCES = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO, errno.ENODEV}
)


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A regular file, open for reading; leaving the context closes it.

    `size` in bytes; `mtime_ns` since the epoch; `etag` is a strong validator without its quotes.
    """

    fd: int
    size: int
    mtime_ns: int
    etag: str
    content_type: str

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class Browser:
    """The registry at `root` as readers see it; may be used from any thread.

    The root is opened anew each time, so that a remounted registry is seen without a restart.
    """

    def __init__(self, root: str, whitelist: Callable[[], Sequence[str]]) -> None:
        self.root = root
        self.whitelist = whitelist
        self._listed = ListedFiles()

    def list(self, path: str, *, recursive: bool) -> Iterator[str]:
        """Return the names in the directory, relative to it; Wrong or Absent before the first.

        Directories end with `/`. With `recursive`: files at any depth, and only empty directories.
        """
        pieces = self.pieces(path, recursive=recursive)
        return chain.from_iterable(_NAMES.decode(b"[" + piece + b"]") for piece in pieces)

    def pieces(self, path: str, *, recursive: bool) -> Pieces:
        """Return what `list` does, as JSON: each piece is what stands between the brackets of an array."""
        parts = _visible_parts(path)
        with self._directory(path, parts):
            pass  # for its errors, now
        return self._names(path, parts, recursive=recursive)

    def _names(self, path: str, parts: Parts, *, recursive: bool) -> Pieces:
        with self._directory(path, parts) as fd:
            yield from names_below(fd) if recursive else names_in(fd)

    @contextmanager
    def opened_directory(self, path: str) -> Iterator[int]:
        """Open the directory at `path` for the length of a block; Wrong or Absent as for `list`."""
        with self._directory(path, _visible_parts(path)) as fd:
            yield fd

    @contextmanager
    def _directory(self, path: str, parts: Parts) -> Iterator[int]:
        """Open the directory at `parts` for the length of a block."""
        with self._opened_root() as root:
            with _absent_where_nothing_is(path):
                fd = _open_directory(root, parts[:-1])
                try:
                    below = _open_listed(fd, parts[-1], path) if parts else os.dup(fd)
                finally:
                    os.close(fd)
            try:
                yield below
            finally:
                os.close(below)

    def open(self, path: str) -> OpenedFile:
        """Open the file; Wrong if the path leaves the registry, Absent if readers can see no file there."""
        return self._open(path, at_once=False)

    def open_at_once(self, path: str) -> OpenedFile | None:
        """Open the file as `open` does, but None where that takes more than a few system calls.

        So where a large manifest must be parsed first, or the file lies outside the registry.
        """
        try:
            return self._open(path, at_once=True)
        except Slow:
            return None

    def _open(self, path: str, *, at_once: bool) -> OpenedFile:
        parts = _visible_parts(path)
        if not parts:
            raise _nothing_at(path)
        # Whatever the version's directory becomes meanwhile, file and manifest are of the same one.
        top = parts[:_VERSION_DEPTH] if _is_version_file(parts) else ()
        with self._opened_root() as root, _absent_where_nothing_is(path):
            top_fd = _open_directory(root, top)
            try:
                fd = self._descriptor(root, top_fd, parts, len(top), at_once=at_once)
                try:
                    return self._judged(fd, top_fd, path, parts, at_once=at_once)
                except BaseException:
                    os.close(fd)
                    raise
            finally:
                os.close(top_fd)

    @contextmanager
    def _opened_root(self) -> Iterator[int]:
        try:
            fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Fault("the registry cannot be read: {why}", why=Plain(error.strerror)) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _descriptor(self, root: int, top_fd: int, parts: Parts, depth: int, *, at_once: bool) -> int:
        """Open the file at `parts`, of which the first `depth` lead to `top_fd`."""
        found = _open_or_read_link(top_fd, parts[depth:])
        if isinstance(found, int):
            return found
        if not depth:
            raise _not_followed()
        if posixpath.isabs(found):
            return self._whitelisted(top_fd, parts, found, at_once=at_once)
        target = _link_target(parts, found)
        version_fd = _open_directory(root, target[:_VERSION_DEPTH])
        try:
            again = _open_or_read_link(version_fd, target[_VERSION_DEPTH:])
            if isinstance(again, int):
                return again
            if not posixpath.isabs(again):  # links go to real files: a chain is not of our making
                raise _not_followed()
            return self._whitelisted(version_fd, target, again, at_once=at_once)
        finally:
            os.close(version_fd)

    def _whitelisted(self, version_fd: int, parts: Parts, target: str, *, at_once: bool) -> int:
        """Open the file outside the registry that an absolute link of a version goes to."""
        if at_once:
            raise Slow  # another filesystem, which may hang
        entry = self._listed.find(*_in_version(version_fd, parts), read_most=None, at_once=False)
        if entry is None or entry.link is not None:
            raise _not_followed()
        return open_whitelisted(target, self.whitelist())

    def _judged(self, fd: int, top_fd: int, path: str, parts: Parts, *, at_once: bool) -> OpenedFile:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise _nothing_at(path)
        etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
        if _is_version_file(parts):
            entry = self._listed.find(*_in_version(top_fd, parts), read_most=KEPT_MOST, at_once=at_once)
            if entry is not None and entry.size == status.st_size and _MD5.fullmatch(entry.md5sum or ""):
                etag = str(entry.md5sum)
        return OpenedFile(fd, status.st_size, status.st_mtime_ns, etag, content_type(parts))


def _visible_parts(path: str) -> Parts:
    """Return the path's components, normalised lexically; Wrong if it leaves the registry."""
    if "\0" in path or not is_utf8(path):
        raise Wrong("the path {path} is not valid UTF-8 without NUL", path=path)
    clean = posixpath.normpath(path)
    if clean.startswith("/") or clean.partition("/")[0] == "..":
        raise Wrong("the path {path} is not local to the registry", path=path)
    parts = () if clean == "." else tuple(clean.split("/"))
    if not HIDDEN.isdisjoint(parts):
        raise _nothing_at(path)
    return parts


def _is_version_file(parts: Parts) -> bool:
    """Tell whether this is the path of a user's file in a version."""
    return len(parts) > _VERSION_DEPTH and not any(is_internal(part) for part in parts)


def _in_version(version_fd: int, parts: Parts) -> tuple[str, int, str]:
    """Return the version's path, its descriptor, and the file's path within it."""
    return "/".join(parts[:_VERSION_DEPTH]), version_fd, "/".join(parts[_VERSION_DEPTH:])


def _nothing_at(path: str) -> Absent:
    return Absent("there is nothing to read at {path} in the registry", path=path)


def _not_followed() -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP))


@contextmanager
def _absent_where_nothing_is(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENCES:
            raise _nothing_at(path) from None
        raise Fault("{path} cannot be read: {why}", path=path, why=Plain(error.strerror)) from error


def _open_directory(fd: int, names: Sequence[str]) -> int:
    """Open the directory `names` below `fd`, following no link; the caller closes it."""
    found = os.dup(fd)
    for name in names:
        try:
            below = os.open(name, READ_DIRECTORY, dir_fd=found)
        finally:
            os.close(found)
        found = below
    return found


def _open_listed(fd: int, name: str, path: str) -> int:
    """Open the directory that is to be listed; Wrong if it is something else."""
    try:
        return os.open(name, READ_DIRECTORY, dir_fd=fd)
    except NotADirectoryError:
        raise Wrong("{path} is not a directory of the registry", path=path) from None


def _open_or_read_link(fd: int, names: Sequence[str]) -> int | str:
    """Open the file `names` below `fd`, or return what it says if it is a symbolic link."""
    parent = _open_directory(fd, names[:-1])
    try:
        return os.open(names[-1], READ_FILE, dir_fd=parent)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        try:
            return os.readlink(names[-1], dir_fd=parent)
        except OSError:  # a file again meanwhile
            raise error from None
    finally:
        os.close(parent)


def _link_target(parts: Parts, target: str) -> Parts:
    """Return where a relative link at `parts` goes: a user's file in a version, or it is not followed."""
    clean = posixpath.normpath("/".join((*parts[:-1], target)))
    found = tuple(clean.split("/"))
    if not _is_version_file(found):  # leaving the registry shows as a first ".."
        raise _not_followed()
    return found


def open_whitelisted(target: str, whitelist: Sequence[str]) -> int:
    """Open a file outside the registry, if its path and the file itself lie in one whitelisted directory.

    Returns a descriptor; raises ELOOP otherwise.
    """
    for directory in whitelist:
        if _beneath(posixpath.normpath(target), directory) is None:
            continue
        base = os.path.realpath(directory)
        names = _beneath(os.path.realpath(target), base)
        if names is not None:
            with opened(base, READ_DIRECTORY) as fd:
                return _open_outside(fd, names)
    raise _not_followed()


def _open_outside(fd: int, names: Sequence[str]) -> int:
    try:
        found = _open_or_read_link(fd, names)
    except PermissionError:  # what our account may not read is not there for readers
        raise _not_followed() from None
    if isinstance(found, str):  # swapped for a link since it was resolved
        raise _not_followed()
    return found


def _beneath(path: str, directory: str) -> Sequence[str] | None:
    """Return the components of `path` below `directory`, both absolute; None if it is not below."""
    mine = [part for part in path.split("/") if part]
    theirs = [part for part in directory.split("/") if part]
    return mine[len(theirs) :] if len(mine) > len(theirs) and mine[: len(theirs)] == theirs else None
