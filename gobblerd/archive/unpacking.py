"""Writing an archive's members below a directory of our own, hashing the very bytes that are written.

What the registry needs of each file (MD5, xxh3-128) comes from the buffer that goes to the disk. Members that
fit into memory are taken in batches, larger ones as their bytes come; a second thread hashes and writes while
this one reads on and decompresses. A symbolic link is noted, never made here. Memory: a few batches, or the
pieces of one large file, and what is known of each file.

Everything is opened by its path: the directory must be one that nobody else can write to.
"""

import collections
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, Self, TypeVar

import xxhash

from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged
from gobblerd.domain.manifest import FileAddress
from gobblerd.registry.copying import Digest
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Stamp
from gobblerd.storage.batches import create, write_files
from gobblerd.storage.files import DIRECTORY_MODE, HERE, write_all
from gobblerd.storage.lanes import md5_many

SMALL = 1 << 20  # a file up to this size is kept whole until its batch is full
_BATCH_FILES, _BATCH_BYTES = 256, 8 << 20
_WAITING = 2  # batches, or pieces of a large file, that the second thread may be behind

T = TypeVar("T")


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


class _Hand(Generic[T]):
    """A second thread that does one thing after the other; `done` takes the results."""

    def __init__(self, done: Callable[[T], None]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="unpacking")
        self._done = done
        self._pending: collections.deque[Future[T]] = collections.deque()

    def do(self, task: Callable[[], T]) -> None:
        """Have something done soon; raises what an earlier task raised."""
        self._pending.append(self._thread.submit(task))
        if len(self._pending) > _WAITING:
            self._done(self._pending.popleft().result())

    def finish(self) -> None:
        """Wait until everything is done."""
        while self._pending:
            self._done(self._pending.popleft().result())

    def close(self) -> None:
        """Wait for what is being done, and forget the rest."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Unpacking:
    """One archive on its way below `root`, which must not exist; a context, since a thread belongs to it.

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
        self._stored = 0
        self._writer: _Hand[list[Unpacked]] = _Hand(self._take)
        self.tree = Tree()
        os.mkdir(root, DIRECTORY_MODE)

    def __enter__(self) -> Self:
        """Return the unpacking."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the thread end."""
        self._writer.close()

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
                self._flush()

    def finish(self) -> None:
        """Write what is left, and wait until everything is written."""
        self._flush()
        self._writer.finish()

    def _flush(self) -> None:
        batch, self._batch, self._batched = self._batch, [], 0
        self._stored += sum(len(data) for _, data in batch if not self._candidates.has(len(data)))
        self._allow(self._stored)
        self._writer.do(lambda: self._write(batch))

    def _take(self, files: list[Unpacked]) -> None:
        """Note what was done with a batch."""
        self.tree.files += files
        self._stored += sum(
            file.digest.size
            for file in files
            if file.duplicate is None and self._candidates.has(file.digest.size)
        )

    # -- in the second thread --------------------------------------------------------------------------

    def _write(self, batch: Sequence[tuple[str, bytes]]) -> list[Unpacked]:
        """Hash a batch and write what has no equal."""
        texts = [data for _, data in batch]
        digests = [
            Digest(len(data), md5sum, xxhash.xxh3_128_hexdigest(data), self._stamp)
            for data, md5sum in zip(texts, md5_many(texts), strict=True)
        ]
        equals = self._candidates.equals(digests)
        pieces = [(HERE, f"{self._root}/{path}", len(data)) for path, data in batch]
        write_files(pieces, bytes(equal is None for equal in equals), memoryview(b"".join(texts)))
        return [
            Unpacked(path, digest, equal)
            for (path, _), digest, equal in zip(batch, digests, equals, strict=True)
        ]

    # -- large files -----------------------------------------------------------------------------------

    def _add_large(self, member: Judged, content: Content) -> None:
        """Write a large file as it comes; if it turns out to be a duplicate, it goes again."""
        may_be_duplicate = self._candidates.has(member.size)
        self._stored += 0 if may_be_duplicate else member.size
        self._allow(self._stored)
        target = f"{self._root}/{member.path}"
        digest = stored(target, content, self._stamp)
        duplicate = self._candidates.equal(digest) if may_be_duplicate else None
        if duplicate is not None:
            os.unlink(target)
        self._take([Unpacked(member.path, digest, duplicate)])


def stored(target: str, content: Content, stamp: Stamp) -> Digest:
    """Write a member's bytes to a new file as they come; a second thread hashes them."""
    md5, xxh, size = hashlib.md5(usedforsecurity=False), xxhash.xxh3_128(), 0
    hand: _Hand[None] = _Hand(lambda _: None)
    fd = create(target, HERE)
    try:
        for piece in content.chunks():
            hand.do(partial(md5.update, piece))
            xxh.update(piece)
            write_all(fd, piece)
            size += len(piece)
        hand.finish()
    finally:
        os.close(fd)
        hand.close()
    return Digest(size, md5.hexdigest(), xxh.hexdigest(), stamp)
