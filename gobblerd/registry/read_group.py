"""Large files side by side that are only read: the extension reads and hashes chunk after chunk by itself.

A chunk of each lane is in the core's cache while it is hashed, which reading the next one meanwhile, as
`LaneGroup` does in a thread of its own, would push out; so each group keeps a core busy. For so many files
that there is more than one group, and only with the extension.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import TypeVar

from gobblerd.domain.errors import Wrong
from gobblerd.registry.copying import Digest, no_longer_there
from gobblerd.registry.crew import Desk
from gobblerd.registry.lane_group import Lane, LaneGroup
from gobblerd.registry.source import Stamp, changed
from gobblerd.storage.lanes import FileSums

_ROOM = 512 * 1024  # bytes of all chunks: they stay in the cache of a core, with what else it needs

R = TypeVar("R")


class ReadGroup(LaneGroup[R]):
    """A task that works off the waiting files, `width` at a time; several groups may share them."""

    def __call__(self, desk: Desk) -> Iterator[list[R]]:
        """Do the files; yields results as files end."""
        sums = FileSums(self._width, desk.buffer[:_ROOM])
        with contextlib.ExitStack() as stack:
            stack.callback(self._let_go)
            while self._fill():
                self._advance(sums, desk)
                if self._results:
                    yield self._results
                    self._results = []
        if self._results:  # of files that could not even be opened
            yield self._results

    def _fill(self) -> bool:
        """Give waiting files to the lanes that have none; tell whether there are any."""
        for index, lane in enumerate(self._lanes):
            if lane is None:
                self._lanes[index] = self._begin()
        return any(self._lanes)

    def _advance(self, sums: FileSums, desk: Desk) -> None:
        files = [(lane.fd, lane.done, lane.before.size) if lane else (-1, 0, 0) for lane in self._lanes]
        read = 0
        for index, done in enumerate(sums.advance(files)):
            lane = self._lanes[index]
            if lane is None:
                continue
            if done >= 0:
                read += done - lane.done
                lane.done = done
            if done < 0 or done == lane.before.size:
                self._lanes[index] = None
                self._results.append(self._ended(lane, done, sums.take(index)))
        desk.tick(read)

    def _ended(self, lane: Lane, done: int, sums: tuple[str, str]) -> R:
        """Return what became of a file that was read to its end, or could not be, which `done` < 0 says."""
        try:
            _require_same(lane, done)
        except (OSError, Wrong) as error:
            lane.close.close()
            return self._ways.failed(lane.file, error)
        lane.close.close()
        return self._ways.result(lane.file, Digest(done, *sums, lane.before))


def _require_same(lane: Lane, done: int) -> None:
    with no_longer_there(lane.file.path):
        if done < 0:
            raise OSError(-done, os.strerror(-done))
        if Stamp.of(os.fstat(lane.fd)) != lane.before:
            raise changed(lane.file.path)
