"""One version's directory as it lies on disk: what is where, and whether it is still so.

The registry is the daemon's own, so paths are followed as they are; but a symbolic link never is. Nothing
stops the walk: what cannot be read, or cannot be in a version, is listed as such.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gobblerd.domain.errors import Wrong
from gobblerd.domain.names import is_internal
from gobblerd.registry import layout
from gobblerd.registry.copying import Digest, Tick, digest_file
from gobblerd.registry.crew import Desk
from gobblerd.registry.engine import digest_batch, work_off
from gobblerd.registry.lane_group import NOWHERE
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.storage.batches import ANYBODY, HERE, read_directory
from gobblerd.storage.files import READ_FILE, opened

FILE = "a regular file"
SYMLINK = "a symbolic link"
EMPTY = "an empty directory"
DIRECTORY = "a directory that holds something"
NOTHING = "nothing"
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_STAMP = Stamp(0, 0, 0, 0)


@dataclass(slots=True)
class Tree:
    """What a version's directory holds, by path relative to it; internal names apart. Compares by value.

    Of two equal trees, taken at different times, nothing changed between.
    """

    files: dict[str, Stamp] = field(default_factory=dict)
    symlinks: dict[str, str] = field(default_factory=dict)  # with their texts
    directories: set[str] = field(default_factory=set)  # the empty ones among them, the top not
    empty: set[str] = field(default_factory=set)
    links: dict[str, Stamp] = field(default_factory=dict)  # directory -> its `..links`
    others: dict[str, str] = field(default_factory=dict)  # what may not be there, and what it is
    unreadable: dict[str, str] = field(default_factory=dict)  # directories, and why
    stamped: bool = True  # else files have the stamp of nothing

    def what(self, path: str) -> str:
        """Say what is at the path."""
        if path in self.files:
            return FILE
        if path in self.symlinks:
            return SYMLINK
        if path in self.directories:
            return EMPTY if path in self.empty else DIRECTORY
        return self.others.get(path, NOTHING)

    def paths(self) -> Iterator[str]:
        """Yield every path that a manifest must list, and what may not be there."""
        yield from self.files
        yield from self.symlinks
        yield from self.empty
        yield from self.others


def take_tree(root: str, *, stamped: bool = True) -> Tree:
    """Walk the version's directory `root` (absolute); without `stamped`, files are listed and no more."""
    tree = Tree(stamped=stamped)
    pending = [""]
    while pending:
        pending.extend(_enter(tree, root, pending.pop()))
    return tree


def _enter(tree: Tree, root: str, directory: str) -> list[str]:
    """Take what lies directly in a directory; return its subdirectories."""
    below: list[str] = []
    holds = False
    prefix = f"{directory}/" if directory else ""
    try:
        with opened(layout.join(root, directory), _LIST) as fd:
            for name, mode, stamp in itertools.chain.from_iterable(read_directory(fd)):
                if is_internal(name):
                    if name == layout.LINKS:
                        tree.links[directory] = Stamp(*stamp)
                    continue
                holds = True
                if stat.S_ISREG(mode) and _is_utf8(name):
                    tree.files[prefix + name] = Stamp(*stamp) if tree.stamped else _NO_STAMP
                else:
                    _take_other(tree, name, mode, prefix + name, below, fd)
    except OSError as error:
        tree.unreadable[directory] = error.strerror or "cannot be read"
        return []
    if directory and not holds:
        tree.empty.add(directory)
    return below


def _is_utf8(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _take_other(tree: Tree, name: str, mode: int, path: str, below: list[str], fd: int) -> None:
    if not _is_utf8(name):
        tree.others[path] = "a name that is not valid UTF-8"
    elif stat.S_ISDIR(mode):
        tree.directories.add(path)
        below.append(path)
    elif stat.S_ISLNK(mode):
        tree.symlinks[path] = os.readlink(name, dir_fd=fd)
    else:
        tree.others[path] = "a FIFO, socket or device"


@dataclass(frozen=True)
class FilesOf:
    """Some files of about these sizes, to be read; made afresh each time, since there may be a million."""

    paths: Sequence[str]
    size_of: Callable[[str], int]

    def __iter__(self) -> Iterator[SourceFile]:
        """Go through the files."""
        return (SourceFile(path, self.size_of(path)) for path in self.paths)


def digest_files(root: str, files: Iterable[SourceFile], tick: Tick) -> Iterator[tuple[str, Digest | str]]:
    """Hash files of a directory, each read once; yields a sentence in place of what cannot be read."""
    return work_off(files, _Hashing(root), tick)


Hashed = tuple[str, Digest | str]


@dataclass(frozen=True)
class _Hashing:
    """Files below `root` are hashed; one that cannot be read is told of, and stops nothing."""

    root: str
    is_durable = False  # nothing is written

    @contextlib.contextmanager
    def opened(self, file: SourceFile) -> Iterator[tuple[int, int]]:
        with opened(f"{self.root}/{file.path}", READ_FILE) as fd:
            yield fd, NOWHERE

    def result(self, file: SourceFile, digest: Digest) -> Hashed:
        return file.path, digest

    def failed(self, file: SourceFile, error: OSError | Wrong) -> Hashed:
        return file.path, _sentence(error)

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[Hashed]:
        pieces = [(HERE, f"{self.root}/{file.path}", file.size) for file in files]

        def slowly(index: int, _: memoryview) -> Digest | str:
            return digest_at(pieces[index][1], files[index].path, lambda _: None)

        digests = digest_batch(pieces, desk.buffer, READ_FILE, ANYBODY, slowly)
        return [(file.path, digest) for file, digest in zip(files, digests, strict=True)]


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
