"""One version's directory as it lies on disk: what is where, and whether it is still so.

The registry is the daemon's own, so paths are followed as they are; but a symbolic link never is. Nothing
stops the walk: what cannot be read, or cannot be in a version, is listed as such.
"""

import contextlib
import errno
import itertools
import os
import stat
import threading
from array import array
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

import msgspec

from gobblerd.domain.errors import Wrong
from gobblerd.domain.names import is_internal, is_utf8
from gobblerd.registry import layout
from gobblerd.registry.copying import Digest, digest_file
from gobblerd.registry.crew import Crew, Desk, Task, share, work_here
from gobblerd.registry.engine import BATCH_BYTES, SMALL, work_off
from gobblerd.registry.lane_group import NOWHERE
from gobblerd.registry.meter import Tick
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.storage.batches import (
    DIGEST,
    HASHED,
    LARGE,
    STAMP,
    UNREAD,
    Listed,
    RawStamp,
    digest_names,
    list_directories,
)
from gobblerd.storage.files import READ_FILE, opened

FILE = "a regular file"
SYMLINK = "a symbolic link"
EMPTY = "an empty directory"
DIRECTORY = "a directory that holds something"
NOTHING = "nothing"
_TOP = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TOGETHER = 16  # directories that are listed in one go
_UNNOTED = READ_FILE | os.O_NOATIME  # a look is no access: it would change each inode
_FEW = 32  # files for which no other thread begins
_SHARE, _LEAST, _MOST = 5, 128, 1024  # a batch is that part of the files that are left, within these
NO_STAMP: RawStamp = (0, 0, 0, 0)


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
        return iter(list_directories(top, directories, tree.files, NO_STAMP))
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
            if stat.S_ISREG(mode) and is_utf8(name):
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


def _take_other(tree: Tree, name: str, mode: int, path: str, below: list[str], top: int) -> None:
    if not is_utf8(name):
        tree.others[path] = "a name that is not valid UTF-8"
    elif stat.S_ISDIR(mode):
        tree.directories.add(path)
        below.append(path)
    elif stat.S_ISLNK(mode):
        tree.symlinks[path] = os.readlink(path, dir_fd=top)
    else:
        tree.others[path] = "a FIFO, socket or device"


Hashed = tuple[str, Digest | str]


class Columns(msgspec.Struct, frozen=True, gc=False):
    """What was read of some small files: a column each, the same file at the same index."""

    paths: list[str]
    raw_stamps: bytes
    md5s: bytes
    xxh128s: bytes

    @property
    def sizes(self) -> list[int]:
        """Bytes of each."""
        return memoryview(self.raw_stamps).cast("q")[1::4].tolist()

    @property
    def stamps(self) -> list[RawStamp]:
        """Their stamps."""
        return list(STAMP.iter_unpack(self.raw_stamps))

    def each(self) -> Iterator[tuple[str, Digest]]:
        """Yield the files one by one."""
        columns = zip(self.paths, self.stamps, hexes(self.md5s), hexes(self.xxh128s), strict=True)
        return ((path, Digest(stamp[1], md5, xxh, Stamp(*stamp))) for path, stamp, md5, xxh in columns)

    def some(self, indices: list[int]) -> "Columns":
        """Return those at these indices."""
        return Columns(
            [self.paths[index] for index in indices],
            b"".join([self.raw_stamps[index * STAMP.size : (index + 1) * STAMP.size] for index in indices]),
            b"".join([self.md5s[index * DIGEST : (index + 1) * DIGEST] for index in indices]),
            b"".join([self.xxh128s[index * DIGEST : (index + 1) * DIGEST] for index in indices]),
        )


def hexes(digests: bytes) -> list[str]:
    """Return each of the digests in lower-case hex."""
    text = digests.hex()
    return [text[start : start + 2 * DIGEST] for start in range(0, len(text), 2 * DIGEST)]


def digest_files(root: str, paths: list[str], tick: Tick) -> Iterator[Hashed]:
    """Hash files of a directory, each read once; yields a sentence in place of what cannot be read."""
    with Hashing(root, paths) as hashing:
        for some in hashing.results(tick):
            if isinstance(some, Columns):
                yield from some.each()
            else:
                yield some


def _bytes_of(some: Columns | Hashed) -> int:
    if isinstance(some, Columns):
        return sum(some.sizes)
    return some[1].size if isinstance(some[1], Digest) else 0


class Hashing:
    """Files of a directory are read and hashed, each once, from the moment in which this is entered.

    Another thread begins then; who asks for the results takes part from then on, and is told by `tick` of the
    bytes read. How large a file is shows when it is opened: the large ones come last, side by side.
    """

    def __init__(self, root: str, paths: list[str]) -> None:
        self._root = root
        self._paths = paths
        self._large = _Large([], array("q"))
        self._adding = threading.Lock()  # to the large ones
        self._stack = contextlib.ExitStack()
        self._top = -1  # the directory's descriptor: the way there is walked once, not for each file
        self._error: OSError | None = None
        self._crew: Crew[Columns | Hashed] | None = None

    def __enter__(self) -> Self:
        """Begin, unless there is so little to do that it would be done before another thread has started."""
        try:
            self._top = os.open(self._root, _TOP)
        except OSError as error:
            self._error = error
            return self
        self._stack.callback(os.close, self._top)
        if len(self._paths) > _FEW:
            self._crew = self._stack.enter_context(Crew(self._tasks(), BATCH_BYTES))
        return self

    def __exit__(self, *_: object) -> None:
        """End whatever is under way."""
        self._stack.close()

    def results(self, tick: Tick, wanted: Callable[[str], bool] = bool) -> Iterator[Columns | Hashed]:
        """Yield small files many at a time, for whoever can do without an object for each; in no order.

        Large ones are only read if they are `wanted`, which may be known later than that there are any.
        """
        if self._error is not None:
            sentence = _sentence(self._error)
            yield from ((path, sentence) for path in self._paths)
        elif self._crew is not None:
            yield from self._crew.results(tick)
        else:
            yield from work_here(self._tasks(), BATCH_BYTES, tick)
        if self._large.paths:
            yield from work_off(self._large.those(wanted), _HashingLarge(self._root), tick)

    def _tasks(self) -> Iterator[Task[Columns | Hashed]]:
        """Cut the files into batches: large ones at first, since those who are in C need no interpreter."""
        start = 0
        while start < len(self._paths):
            size = min(max((len(self._paths) - start) // _SHARE, _LEAST), _MOST)
            yield self._batch(self._paths[start : start + size])
            start += size

    def _batch(self, paths: list[str]) -> Task[Columns | Hashed]:
        def task(desk: Desk) -> Iterator[list[Columns | Hashed]]:
            rest = paths
            while rest:
                read, found = self._some(rest, desk, _UNNOTED)
                desk.tick(sum(map(_bytes_of, found)))
                yield found
                rest = rest[read:]

        return task

    def _some(self, paths: list[str], desk: Desk, flags: int) -> tuple[int, list[Columns | Hashed]]:
        """Hash the first of these; return how many, and what came of them."""
        states, *columns = digest_names(self._top, paths, desk.buffer, flags, SMALL)
        count = len(states)
        found = Columns(paths[:count], *columns)
        if states.count(HASHED) == count:
            return count, [found]
        at: dict[int, list[int]] = {HASHED: [], LARGE: [], UNREAD: []}
        for index, state in enumerate(states):
            at[state].append(index)
        self._add_large(found.some(at[LARGE]))
        others = [paths[index] for index in at[UNREAD]]
        return count, [found.some(at[HASHED]), *self._others(others, desk, flags)]

    def _add_large(self, files: Columns) -> None:
        with self._adding:
            self._large.paths.extend(files.paths)
            self._large.sizes.extend(files.sizes)

    def _others(self, paths: list[str], desk: Desk, flags: int) -> Iterator[Columns | Hashed]:
        """Hash what could not be read: once more if only owners may read it that way, then slowly."""
        if flags != _UNNOTED:
            yield from ((path, digest_at(f"{self._root}/{path}", path, lambda _: None)) for path in paths)
            return
        while paths:
            read, found = self._some(paths, desk, READ_FILE)
            yield from found
            paths = paths[read:]


@dataclass(frozen=True)
class _Large:
    """Large files and their sizes; made afresh each time, since there may be a million."""

    paths: list[str]
    sizes: "array[int]"

    def __iter__(self) -> Iterator[SourceFile]:
        """Go through the files."""
        return map(SourceFile, self.paths, self.sizes)

    def those(self, wanted: Callable[[str], bool]) -> "_Large":
        """Return the wanted ones."""
        chosen = list(map(wanted, self.paths))
        sizes = array("q", itertools.compress(self.sizes, chosen))
        return _Large(list(itertools.compress(self.paths, chosen)), sizes)


@dataclass(frozen=True)
class _HashingLarge:
    """Files below `root` are hashed; one that cannot be read is told of, and stops nothing."""

    root: str
    is_durable = False  # nothing is written
    only_reads = True

    @contextlib.contextmanager
    def opened(self, file: SourceFile) -> Iterator[tuple[int, int]]:
        with opened(f"{self.root}/{file.path}", READ_FILE) as fd:
            yield fd, NOWHERE

    def result(self, file: SourceFile, digest: Digest) -> Columns | Hashed:
        return file.path, digest

    def failed(self, file: SourceFile, error: OSError | Wrong) -> Columns | Hashed:
        return file.path, _sentence(error)

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[Columns | Hashed]:
        """Small files are not asked for."""
        raise NotImplementedError


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
