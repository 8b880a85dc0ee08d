"""Checksums of files and of trees (spec/archives.md, "Checksums of trees and files").

`gobblerd-tree-1` is SHA-256 over one record for each entry of the tree, sorted by the bytes of the path:

    8 bytes    length of the path in bytes, big-endian
    n bytes    the path, UTF-8, relative to the top, `/` between components
    1 byte     type: `f` a file, `d` an empty directory
    8 bytes    size in bytes, big-endian; 0 for a directory
    32 bytes   SHA-256 of the file's bytes; 32 zero bytes for a directory

A symbolic link is what it leads to. Directories that hold something have no record. Names that begin with
`..` are the registry's own (`..manifest`, `..links`) and are left out, at any depth. So a directory, the
version that it became, and an archive of either in any format have the same checksum. Test vectors are in
docs/archives.md.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.names import is_internal

TREE_ALGORITHM = "gobblerd-tree-1"
CHUNK = 256 << 10
_EMPTY = bytes(32)
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

Tick = Callable[[int], None]  # is told of bytes as they are read


class Hash(Protocol):
    """As much of a hashlib object as is needed."""

    def update(self, data: bytes | memoryview, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the checksum so far."""


@dataclass(frozen=True, slots=True, order=True)
class TreeEntry:
    """One entry of a tree: a file with its size and SHA-256 in hex, or an empty directory."""

    path: str
    kind: Literal["file", "directory"] = "file"
    size: int = 0
    sha256: str = ""


class TreeHash:
    """Computes `gobblerd-tree-1` from records that come sorted by the bytes of their paths."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, path: bytes, size: int, digest: bytes | None) -> None:
        """Add the next entry; `digest` is None for an empty directory."""
        kind = b"d" if digest is None else b"f"
        record = (len(path).to_bytes(8, "big"), path, kind, size.to_bytes(8, "big"), digest or _EMPTY)
        self._hash.update(b"".join(record))

    def hexdigest(self) -> str:
        """Return the checksum of what was added."""
        return self._hash.hexdigest()


def _hash_named(algorithm: str) -> Hash:
    if algorithm.startswith("xxh"):
        import xxhash  # noqa: PLC0415 - only who asks for it needs it

        if algorithm in xxhash.algorithms_available:
            found: Hash = getattr(xxhash, algorithm)()
            return found
    elif algorithm in hashlib.algorithms_available and not algorithm.lower().startswith("shake"):
        return hashlib.new(algorithm, usedforsecurity=False)
    raise Wrong("there is no checksum algorithm {name}: sha256, md5, xxh3_128 are some", name=algorithm)


def file_checksum(
    path: str | os.PathLike[str], algorithm: str = "sha256", *, tick: Tick | None = None
) -> str:
    """Return the checksum of a file in hex.

    `algorithm` is any of hashlib's with a fixed length, or of xxhash's ("xxh3_128"). Wrong if there is no
    such algorithm or it is not a regular file; OSError if it cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     file_checksum(file.name, "md5")
    'd41d8cd98f00b204e9800998ecf8427e'
    """
    found = _hash_named(algorithm)
    _feed(os.fspath(path), found, tick)
    return found.hexdigest()


def _feed(path: str, found: Hash, tick: Tick | None) -> int:
    """Hash the file's bytes; return how many there were."""
    size = 0
    with open(os.open(path, _FILE_FLAGS), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Wrong("{path} is not a regular file", path=path)
        while chunk := file.read(CHUNK):
            found.update(chunk)
            size += len(chunk)
            if tick is not None:
                tick(len(chunk))
    return size


def tree_checksum(tree: str | os.PathLike[str] | Iterable[TreeEntry], *, tick: Tick | None = None) -> str:
    """Return the `gobblerd-tree-1` checksum of a directory, or of entries in any order, in hex.

    Wrong if something in the directory is neither file, directory nor a link to one of them, or a link leads
    back to a directory above it, or two entries have one path. `tick` is told of bytes read.

    >>> tree_checksum([])
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    >>> tree_checksum([TreeEntry("empty", "directory")])
    '6a1ca1f0df92cbf95c1568a469fa1ddf194438ab59125499218fb57ad1ffd0ba'
    """
    entries = directory_entries(os.fspath(tree), tick) if isinstance(tree, str | os.PathLike) else tree
    found = TreeHash()
    last = None
    for path, entry in sorted((_as_bytes(entry.path), entry) for entry in entries):
        if path == last:
            raise Wrong("there are two entries for {path}", path=entry.path)
        if not any(is_internal(part) for part in entry.path.split("/")):
            found.add(path, entry.size, bytes.fromhex(entry.sha256) if entry.kind == "file" else None)
        last = path
    return found.hexdigest()


def _as_bytes(path: str) -> bytes:
    try:
        return path.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong("the name {path} is not valid UTF-8", path=path) from None


def directory_entries(root: str, tick: Tick | None = None) -> Iterator[TreeEntry]:
    """Yield the entries of a directory, in no order; files are read to hash them."""
    return _entries(root, "", (), tick)


def _entries(
    path: str, name: str, above: tuple[tuple[int, int], ...], tick: Tick | None
) -> Iterator[TreeEntry]:
    status = os.stat(path)
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise Wrong("{path} is a link to a directory above it", path=name)
    with os.scandir(path) as found:
        entries = [entry for entry in found if not is_internal(entry.name)]
    if name and not entries:
        yield TreeEntry(name, "directory")
    for entry in entries:
        below = f"{name}/{entry.name}" if name else entry.name
        if entry.is_dir():
            yield from _entries(entry.path, below, (*above, here), tick)
        elif entry.is_file():
            digest = hashlib.sha256()
            size = _feed(entry.path, digest, tick)
            yield TreeEntry(below, "file", size, digest.hexdigest())
        else:
            raise Wrong("{path} is {what}", path=below, what=Plain(_what(entry)))


def _what(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "a link to nothing"
    return "neither a file, a directory nor a link"
