"""Large files side by side: a chunk of each is read, hashed in lanes and written, over and over.

While one thread hashes a round of chunks, this one writes that same round and reads the next, so that even a
single huge file, whose MD5 is one long chain, costs no more than the slower of the two. What is to be durable
goes to the device meanwhile, piece by piece: the sync at the end has little left to wait for, and there are
never so many dirty pages that the kernel makes us wait.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import xxhash

from gobblerd.domain.errors import Wrong
from gobblerd.registry.copying import Digest, no_longer_there
from gobblerd.registry.crew import Desk
from gobblerd.registry.source import SourceFile, Stamp, changed
from gobblerd.storage.files import begin_write_back, forget_pages, write_all
from gobblerd.storage.lanes import streams

_CHUNK = 256 * 1024
_LARGE_CHUNK = 1024 * 1024
_PIECE = 8 * 1024 * 1024  # written bytes of a file that the device is told of at once
_HUGE = 256 * 1024 * 1024  # files of which the page cache keeps no copy: they would push out all else,
_BEHIND = 4 * _PIECE  # let go so far behind what was written last
_NARROW = 4  # groups of fewer lanes take larger chunks, since each round of theirs is short
NOWHERE = -1  # as a target: nothing is written

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class LargeWays(Protocol[R_co]):
    """How large files are opened, and what becomes of what was read."""

    @property
    def is_durable(self) -> bool:
        """Tell whether what is written will be synced."""
        ...

    @property
    def only_reads(self) -> bool:
        """Tell whether nothing is written at all."""
        ...

    def opened(self, file: SourceFile) -> AbstractContextManager[tuple[int, int]]:
        """Open a file; give the descriptor to read, and the one to write to or NOWHERE."""
        ...

    def result(self, file: SourceFile, digest: Digest) -> R_co:
        """Say what became of a file that was read (and written) whole."""
        ...

    def failed(self, file: SourceFile, error: OSError | Wrong, /) -> R_co:
        """Say what became of a file that could not be read, or raise."""
        ...


@dataclass
class Lane:
    """One file under way."""

    file: SourceFile
    fd: int
    target: int
    before: Stamp
    close: contextlib.ExitStack
    xxh: Any = field(default_factory=xxhash.xxh3_128)
    done: int = 0
    written: int = 0
    begun: int = 0  # of what was written: what the device was told of
    error: OSError | Wrong | None = None

    def read(self, place: memoryview) -> memoryview:
        """Read the next chunk, as far as `place` has room; less only at the file's end, or at an error."""
        place = place[: self.before.size - self.done]
        filled = 0
        try:
            with no_longer_there(self.file.path):
                while filled < len(place):
                    got = os.preadv(self.fd, [place[filled:]], self.done + filled)
                    if not got:
                        raise changed(self.file.path)
                    filled += got
            self.done += filled
            if self.done == self.before.size and Stamp.of(os.fstat(self.fd)) != self.before:
                raise changed(self.file.path)
        except (OSError, Wrong) as error:
            self.error = error
            return place[:0]
        return place

    def write(self, chunk: memoryview, *, is_durable: bool) -> None:
        """Write the next chunk, if anything is to be written."""
        if self.target == NOWHERE:
            return
        write_all(self.target, chunk)
        self.written += len(chunk)
        waiting = self.written - self.begun
        if is_durable and (waiting >= _PIECE or self.written == self.before.size):
            begin_write_back(self.target, self.begun, waiting)
            self.begun = self.written
            behind = self.begun - _BEHIND
            if self.before.size >= _HUGE and behind >= _PIECE:
                forget_pages(self.target, behind - _PIECE, _PIECE)


class LaneGroup(Generic[R]):
    """A task that works off the waiting files, `width` at a time; several groups may share them."""

    def __init__(self, waiting: deque[SourceFile], ways: LargeWays[R], width: int) -> None:
        self._waiting = waiting
        self._ways = ways
        self._width = width
        self._chunk = _CHUNK if width >= _NARROW else _LARGE_CHUNK
        self._lanes: list[Lane | None] = [None] * width
        self._streams = streams(width)
        self._results: list[R] = []

    def __call__(self, desk: Desk) -> Iterator[list[R]]:
        """Do the files; yields results as files end."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._let_go)
            hasher = stack.enter_context(ThreadPoolExecutor(1, "hasher"))
            yield from self._rounds(desk, hasher)

    def _let_go(self) -> None:
        """Close what is still open, each whatever closing another says."""
        with contextlib.ExitStack() as stack:
            for lane in filter(None, self._lanes):
                stack.push(lane.close)

    def _rounds(self, desk: Desk, hasher: ThreadPoolExecutor) -> Iterator[list[R]]:
        this, other = self._places(), self._places()
        chunks = self._begun(this, [place[:0] for place in this])
        while any(self._lanes):
            hashing = hasher.submit(self._hash, chunks)
            try:
                self._write(chunks)
                desk.tick(sum(map(len, chunks)))
                following = self._read(other)
            finally:
                hashing.result()
            self._end(following)
            chunks = self._begun(other, following)
            this, other = other, this
            if self._results:
                yield self._results
                self._results = []
        if self._results:  # of files that could not even be opened
            yield self._results

    def _places(self) -> list[memoryview]:
        buffer = memoryview(bytearray(self._width * self._chunk))
        return [buffer[start : start + self._chunk] for start in range(0, len(buffer), self._chunk)]

    def _begun(self, places: list[memoryview], chunks: list[memoryview]) -> list[memoryview]:
        """Give waiting files to the lanes that have none, and read their first chunks."""
        for index, lane in enumerate(self._lanes):
            if lane is None and (begun := self._begin()) is not None:
                self._lanes[index] = begun
                chunks[index] = begun.read(places[index])
        return chunks

    def _begin(self) -> Lane | None:
        while True:
            try:
                file = self._waiting.popleft()
            except IndexError:
                return None
            with contextlib.ExitStack() as stack:
                try:
                    fd, target = stack.enter_context(self._ways.opened(file))
                except (OSError, Wrong) as error:
                    self._results.append(self._ways.failed(file, error))
                    continue
                return Lane(file, fd, target, Stamp.of(os.fstat(fd)), stack.pop_all())

    def _read(self, places: list[memoryview]) -> list[memoryview]:
        return [
            lane.read(place) if lane and lane.error is None else place[:0]
            for lane, place in zip(self._lanes, places, strict=True)
        ]

    def _hash(self, chunks: list[memoryview]) -> None:
        self._streams.update(chunks)
        for lane, chunk in zip(self._lanes, chunks, strict=True):
            if lane and chunk:
                lane.xxh.update(chunk)

    def _write(self, chunks: list[memoryview]) -> None:
        for lane, chunk in zip(self._lanes, chunks, strict=True):
            if lane and chunk:
                lane.write(chunk, is_durable=self._ways.is_durable)

    def _end(self, following: list[memoryview]) -> None:
        """Let go of the files of which nothing follows: they are hashed (and written) whole, or failed."""
        for index, lane in enumerate(self._lanes):
            if lane is None or following[index]:
                continue
            md5sum = self._streams.take(index)
            self._lanes[index] = None
            lane.close.close()
            if lane.error is not None:
                self._results.append(self._ways.failed(lane.file, lane.error))
            else:
                digest = Digest(lane.done, md5sum, lane.xxh.hexdigest(), lane.before)
                self._results.append(self._ways.result(lane.file, digest))
