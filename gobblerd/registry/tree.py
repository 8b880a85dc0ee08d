"""One version's directory as it lies on disk: what is where, and whether it is still so.

The registry is the daemon's own, so paths are followed as they are; but a symbolic link never is. Nothing
stops the walk: what cannot be read, or cannot be in a version, is listed as such.
"""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import xxhash

from gobblerd.domain.errors import Wrong
from gobblerd.domain.names import is_internal
from gobblerd.registry import layout
from gobblerd.registry.copying import Digest, Tick, digest_file
from gobblerd.registry.crew import Desk, share
from gobblerd.registry.engine import work_off
from gobblerd.registry.lane_group import NOWHERE
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.storage.batches import ANYBODY, Listed, RawStamp, list_directories, places
from gobblerd.storage.batches import digest_files as read_and_digest
from gobblerd.storage.files import READ_FILE, opened

FILE = "a regular file"
SYMLINK = "a symbolic link"
EMPTY = "an empty directory"
DIRECTORY = "a directory that holds something"
NOTHING = "nothing"
_TOP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TOGETHER = 16  # directories that are listed in one go
_UNNOTED = READ_FILE | os.O_NOATIME  # a look is no access: it would change each inode
_NO_STAMP: RawStamp = (0, 0, 0, 0)


@dataclass(slots=True)
class Tree:
    """What a version's directory holds, by path relative to it; internal names apart. Compares by value.

    Of two equal trees, taken at different times, nothing changed between.
    """

    files: dict[str, RawStamp] = field(default_factory=dict)
    symlinks: dict[str, str] = field(default_factory=dict)  # with their texts
    directories: set[str] = field(default_factory=set)  # the empty ones among them, the top not
    empty: set[str] = field(default_factory=set)
    links: dict[str, RawStamp] = field(default_factory=dict)  # directory -> its `..links`
    others: dict[str, str] = field(default_factory=dict)  # what may not be there, and what it is
    unreadable: dict[str, str] = field(default_factory=dict)  # directories, and why
    stamped: bool = True  # else what has a stamp has that of nothing

    def what(self, path: str) -> str:
        """Say what is at the path."""
        if path in self.files:
            return FILE
        if path in self.symlinks:
            return SYMLINK
        if path in self.directories:
            return EMPTY if path in self.empty else DIRECTORY
        return self.others.get(path, NOTHING)

    def unlisted(self, manifest: Collection[str]) -> Iterator[str]:
        """Yield every path that a manifest must list and does not, and what may not be there."""
        for paths in (self.files, self.symlinks, self.empty, self.others):
            yield from itertools.filterfalse(manifest.__contains__, paths)


def take_tree(root: str, *, stamped: bool = True) -> Tree:
    """Walk the version's directory `root` (absolute); without `stamped`, files are listed and no more."""
    tree = Tree(stamped=stamped)
    try:
        top = os.open(root, _TOP)
    except OSError as error:
        tree.unreadable[""] = error.strerror or "cannot be read"
        return tree
    try:
        pending = [""]
        while pending:
            listed = zip(pending, _listed(tree, top, pending), strict=True)
            pending = [below for directory, each in listed for below in _enter(tree, top, directory, each)]
    finally:
        os.close(top)
    return tree


def _listed(tree: Tree, top: int, directories: list[str]) -> Iterator[Listed]:
    """List directories; two threads look at what is in them, if anything is looked at."""
    if not tree.stamped:
        return iter(list_directories(top, directories, tree.files, _NO_STAMP))
    parts = [directories[start : start + _TOGETHER] for start in range(0, len(directories), _TOGETHER)]
    return itertools.chain.from_iterable(share(lambda part: list_directories(top, part, tree.files), parts))


def _enter(tree: Tree, top: int, directory: str, listed: Listed) -> list[str]:
    """Take what lies directly in a directory; return its subdirectories."""
    below: list[str] = []
    holds = listed.holds_files
    prefix = f"{directory}/" if directory else ""
    try:
        for name, mode, stamp in listed.others:
            if is_internal(name):
                if name == layout.LINKS:
                    tree.links[directory] = stamp
                continue
            holds = True
            if stat.S_ISREG(mode) and _is_utf8(name):
                tree.files[prefix + name] = stamp
            else:
                _take_other(tree, name, mode, prefix + name, below, top)
    except OSError as error:
        listed = Listed(holds, [], error.errno or errno.EIO)
    if listed.error:
        tree.unreadable[directory] = os.strerror(listed.error)
        return []
    if directory and not holds:
        tree.empty.add(directory)
    return below


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _take_other(tree: Tree, name: str, mode: int, path: str, below: list[str], top: int) -> None:
    if not _is_utf8(name):
        tree.others[path] = "a name that is not valid UTF-8"
    elif stat.S_ISDIR(mode):
        tree.directories.add(path)
        below.append(path)
    elif stat.S_ISLNK(mode):
        tree.symlinks[path] = os.readlink(path, dir_fd=top)
    else:
        tree.others[path] = "a FIFO, socket or device"


@dataclass(frozen=True)
class FilesOf:
    """Some files of about these sizes, to be read; made afresh each time, since there may be a million."""

    paths: Sequence[str]
    size_of: Callable[[str], int]

    def __iter__(self) -> Iterator[SourceFile]:
        """Go through the files."""
        return map(SourceFile, self.paths, map(self.size_of, self.paths))


Hashed = tuple[str, Digest | str]


class Columns(msgspec.Struct, frozen=True, gc=False):
    """What was read of some small files: a column each, the same file at the same index."""

    paths: list[str]
    stamps: list[RawStamp]
    md5sums: list[str]
    xxh128s: list[str]

    def each(self) -> Iterator[tuple[str, Digest]]:
        """Yield the files one by one."""
        columns = zip(self.paths, self.stamps, self.md5sums, self.xxh128s, strict=True)
        return ((path, Digest(stamp[1], md5, xxh, Stamp(*stamp))) for path, stamp, md5, xxh in columns)


def digest_files(root: str, files: Iterable[SourceFile], tick: Tick) -> Iterator[Hashed]:
    """Hash files of a directory, each read once; yields a sentence in place of what cannot be read."""
    for some in digest_batches(root, files, tick):
        if isinstance(some, Columns):
            yield from some.each()
        else:
            yield some


def digest_batches(root: str, files: Iterable[SourceFile], tick: Tick) -> Iterator[Columns | Hashed]:
    """Do the same, but yield small files many at a time, for whoever can do without an object for each."""
    try:
        top = os.open(root, _TOP)
    except OSError as error:
        yield from ((file.path, _sentence(error)) for file in files)
        return
    try:
        yield from work_off(files, _Hashing(root, top), tick)
    finally:
        os.close(top)


@dataclass(frozen=True)
class _Hashing:
    """Files below `root` are hashed; one that cannot be read is told of, and stops nothing."""

    root: str
    top: int  # its descriptor: the way there is walked once, not for each small file
    is_durable = False  # nothing is written

    @contextlib.contextmanager
    def opened(self, file: SourceFile) -> Iterator[tuple[int, int]]:
        with opened(f"{self.root}/{file.path}", READ_FILE) as fd:
            yield fd, NOWHERE

    def result(self, file: SourceFile, digest: Digest) -> Columns | Hashed:
        return file.path, digest

    def failed(self, file: SourceFile, error: OSError | Wrong) -> Columns | Hashed:
        return file.path, _sentence(error)

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[Columns | Hashed]:
        return self._batch(files, desk, _UNNOTED)

    def _batch(self, files: Sequence[SourceFile], desk: Desk, flags: int) -> list[Columns | Hashed]:
        pieces = [(self.top, file.path, file.size) for file in files]
        found, md5sums = read_and_digest(pieces, desk.buffer, flags, ANYBODY)
        xxh128s = list(map(xxhash.xxh3_128_hexdigest, places(pieces, desk.buffer)))
        paths = [file.path for file in files]
        stamps = [stamp for stamp in found if stamp is not None]
        if len(stamps) == len(found):
            return [Columns(paths, stamps, md5sums, xxh128s)]
        read = [index for index, stamp in enumerate(found) if stamp is not None]
        columns = [[column[index] for index in read] for column in (paths, md5sums, xxh128s)]
        others = [file for file, stamp in zip(files, found, strict=True) if stamp is None]
        return [Columns(columns[0], stamps, columns[1], columns[2]), *self._others(others, desk, flags)]

    def _others(self, files: Sequence[SourceFile], desk: Desk, flags: int) -> list[Columns | Hashed]:
        """Hash what was not as expected: once more if only owners may read it that way, then slowly."""
        if flags == _UNNOTED:
            return self._batch(files, desk, READ_FILE)
        return [
            (file.path, digest_at(f"{self.root}/{file.path}", file.path, lambda _: None)) for file in files
        ]


def digest_at(full: str, shown: str, tick: Tick) -> Digest | str:
    """Hash one file, or say why it cannot be read."""
    try:
        with opened(full, READ_FILE) as fd:
            return digest_file(fd, shown, tick)
    except (OSError, Wrong) as error:
        return _sentence(error)


def _sentence(error: OSError | Wrong) -> str:
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return "it changed while it was read"


def stamp_at(path: str) -> Stamp | None:
    """Return the stamp of what is at an absolute path, links not followed; None where nothing is."""
    try:
        return Stamp.of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
