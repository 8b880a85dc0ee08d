"""The one way in which files are read, hashed and written: for upload, reindex, validation, audit and scrub.

Each file is read once, into a buffer; that buffer is hashed (MD5, which the format wants, and xxh3-128), and
that same buffer is written, if anything is. Small files go in batches, large ones side by side in the lanes
of a group (`lane_group.py`, and `read_group.py` where many are only read); two threads work them off. What a
file is, how it is opened and where it goes is the business of `Ways`.

Memory is bounded whatever the files: for each thread a batch's buffer and two chunks a lane.
"""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from gobblerd.registry.copying import Digest
from gobblerd.registry.crew import THREADS, Crew, Desk, Task
from gobblerd.registry.lane_group import LaneGroup, LargeWays
from gobblerd.registry.meter import Tick
from gobblerd.registry.read_group import ReadGroup
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.storage import native
from gobblerd.storage.batches import Piece, digest_files, places
from gobblerd.storage.lanes import LANES

SMALL = 256 * 1024  # files up to this size go in batches
BATCH_BYTES = LANES * SMALL
_BATCH_FILES = 256
_FEW = 32  # files for which no thread is started, if they hold
_KEPT = 50_000  # files that are made once, and not each time
_LITTLE = 2 * SMALL  # no more than so many bytes

R = TypeVar("R")


class Ways(LargeWays[R], Protocol[R]):
    """How files are opened, and what becomes of what was read."""

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[R]:
        """Do a batch of small files, which fit the desk's buffer together; `digest_batch` reads them."""
        ...


def work_off(files: Iterable[SourceFile], ways: Ways[R], tick: Tick) -> Iterator[R]:
    """Do every file, in no particular order; raises the first error, or what `tick` raises to cancel.

    `files` is gone through several times, and many are not kept: a million may be made as they are needed.
    """
    if not isinstance(files, list):
        some = list(itertools.islice(files, _KEPT + 1))
        files = some if len(some) <= _KEPT else files
    large = [file for file in files if file.size > SMALL]
    if not large:
        few = list(itertools.islice(files, _FEW + 1))
        size = sum([file.size for file in few])
        if len(few) <= _FEW and size <= _LITTLE:
            return _at_once(few, size, ways, tick)
    tasks = itertools.chain(_groups(large, ways), _batches(files, ways))
    return Crew(tasks, BATCH_BYTES).work(tick)


def _at_once(files: Sequence[SourceFile], size: int, ways: Ways[R], tick: Tick) -> Iterator[R]:
    """Do a few small files in this thread: that is done before another has started."""
    if files:
        yield from ways.batch(files, Desk(size, tick))
        tick(size)


def _batches(files: Iterable[SourceFile], ways: Ways[R]) -> Iterator[Task[R]]:
    """Cut the small files into batches in the order in which they are given."""
    batch: list[SourceFile] = []
    size = 0
    for file in files:
        if file.size > SMALL:
            continue
        if batch and (size + file.size > BATCH_BYTES or len(batch) == _BATCH_FILES):
            yield _batch(batch, ways)
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield _batch(batch, ways)


def _batch(files: Sequence[SourceFile], ways: Ways[R]) -> Task[R]:
    def task(desk: Desk) -> Iterator[list[R]]:
        yield ways.batch(files, desk)
        desk.tick(sum(file.size for file in files))

    return task


def _groups(files: Sequence[SourceFile], ways: Ways[R]) -> list[Task[R]]:
    """Share out large files, the largest first: a lane whose file ends takes the next.

    With vector lanes up to sixteen files are hashed by one thread as fast as one is, while another reads and
    writes; only more than those, or just two, keep two groups busy.
    """
    waiting = collections.deque(sorted(files, key=lambda file: -file.size))
    most = LANES if native.NATIVE is not None else 1
    groups = 1 if 2 < len(files) <= most else min(THREADS, len(files))  # noqa: PLR2004
    width = min(most, -(-len(files) // max(1, groups)))
    reads_alone = ways.only_reads and len(files) > most > 1
    kind = ReadGroup[R] if reads_alone else LaneGroup[R]
    return [kind(waiting, ways, width) for _ in range(groups)]


def digest_batch(
    pieces: Sequence[Piece],
    buffer: memoryview,
    flags: int,
    owner: int,
    slowly: Callable[[int, memoryview], R],
) -> list[Digest | R]:
    """Read and hash a batch. What is not as expected is left to `slowly`, with its index and its place.

    The bytes of each file then lie in the buffer one after the other.
    """
    there = places(pieces, buffer)
    columns = zip(there, *digest_files(pieces, buffer, flags, owner), strict=True)
    return [
        Digest(stamp[1], md5sum, xxh128, Stamp(*stamp)) if stamp else slowly(index, place)
        for index, (place, stamp, md5sum, xxh128) in enumerate(columns)
    ]
