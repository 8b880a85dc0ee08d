"""Writing an archive's members below a directory of our own, hashing the very bytes that are written.

What the registry needs of each file (MD5, xxh3-128) comes from the buffer that goes to the disk. Members that
fit into memory are taken in batches; larger ones as their bytes come. A symbolic link is noted, never made
here. Memory: a batch, or the pieces of one large file, and what is known of each file.

Everything is opened by its path: the directory must be one that nobody else can write to.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import xxhash

from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged
from gobblerd.domain.manifest import FileAddress
from gobblerd.registry.copying import Digest, digest_of_bytes
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Stamp
from gobblerd.storage.files import DIRECTORY_MODE, FILE_MODE, write_all

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
SMALL = 1 << 20  # a file up to this size is kept whole until its batch is full
_BATCH_FILES, _BATCH_BYTES = 256, 8 << 20


@dataclass(frozen=True, slots=True)
class Unpacked:
    """One file of the archive: it lies in the tree, unless it equals `duplicate`."""

    path: str
    digest: Digest
    duplicate: FileAddress | None


@dataclass
class Tree:
    """What was unpacked, by path below the archive's root."""

    files: list[Unpacked] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)  # path, text
    directories: dict[str, bool] = field(default_factory=dict)  # -> whether it holds something
    stored: int = 0  # bytes written


class Unpacking:
    """One archive on its way below `root`, which must not exist.

    `allow` is told of the bytes that will have been stored before they are (those that may yet prove to be
    duplicates left out); it raises to stop. All files have the stamp of the archive that they come from.
    """

    def __init__(self, root: str, stamp: Stamp, candidates: Candidates, allow: Callable[[int], None]) -> None:
        self._root = root
        self._stamp = stamp
        self._candidates = candidates
        self._allow = allow
        self._batch: list[tuple[str, bytes]] = []
        self._batched = 0
        self.tree = Tree()
        os.mkdir(root, DIRECTORY_MODE)

    def add_directory(self, path: str) -> None:
        """Make a directory, and those above it, unless they are there."""
        directories = self.tree.directories
        missing = []
        while path and path not in directories:
            missing.append(path)
            path = path.rpartition("/")[0]
        if path and missing:
            directories[path] = True
        for each in reversed(missing):
            os.mkdir(f"{self._root}/{each}", DIRECTORY_MODE)
            directories[each] = each != missing[0]

    def add(self, member: Judged, content: Content) -> None:
        """Take a file or a link in."""
        path = member.path
        parent = path.rpartition("/")[0]
        if parent and not self.tree.directories.get(parent):
            self.add_directory(parent)
            self.tree.directories[parent] = True
        if member.kind == "link":
            self.tree.links.append((path, member.target))
        elif member.size > SMALL:
            self._add_large(member, content)
        else:
            self._batch.append((path, content.whole()))
            self._batched += member.size
            if len(self._batch) == _BATCH_FILES or self._batched > _BATCH_BYTES:
                self.flush()

    def flush(self) -> None:
        """Write what is in the batch."""
        batch, self._batch, self._batched = self._batch, [], 0
        has = self._candidates.has
        self._allow(self.tree.stored + sum(len(data) for _, data in batch if not has(len(data))))
        for (path, data), digest in zip(batch, self._digests(data for _, data in batch), strict=True):
            duplicate = self._candidates.equal(digest) if has(digest.size) else None
            if duplicate is None:
                self._write(path, data)
                self.tree.stored += digest.size
            self.tree.files.append(Unpacked(path, digest, duplicate))

    def _digests(self, contents: Iterable[bytes]) -> list[Digest]:
        return [digest_of_bytes(data, self._stamp) for data in contents]

    def _write(self, path: str, data: bytes) -> None:
        fd = os.open(f"{self._root}/{path}", _CREATE, FILE_MODE)
        try:
            write_all(fd, data)
        finally:
            os.close(fd)

    def _add_large(self, member: Judged, content: Content) -> None:
        """Write a large file as it comes; if it turns out to be a duplicate, it goes again."""
        may_be_duplicate = self._candidates.has(member.size)
        self._allow(self.tree.stored + (0 if may_be_duplicate else member.size))
        target = f"{self._root}/{member.path}"
        digest = stored(target, content, self._stamp)
        duplicate = self._candidates.equal(digest) if may_be_duplicate else None
        if duplicate is None:
            self.tree.stored += member.size
        else:
            os.unlink(target)
        self.tree.files.append(Unpacked(member.path, digest, duplicate))


def stored(target: str, content: Content, stamp: Stamp) -> Digest:
    """Write a member's bytes to a new file as they come; return what was written."""
    md5, xxh, size = hashlib.md5(usedforsecurity=False), xxhash.xxh3_128(), 0
    fd = os.open(target, _CREATE, FILE_MODE)
    try:
        for piece in content.chunks():
            md5.update(piece)
            xxh.update(piece)
            write_all(fd, piece)
            size += len(piece)
    finally:
        os.close(fd)
    return Digest(size, md5.hexdigest(), xxh.hexdigest(), stamp)
