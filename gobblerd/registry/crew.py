"""A few threads for one long action: they work off tasks, and whoever asked takes the results.

Threads, not processes: hashing, reading and writing happen without the interpreter's lock, in C. They live
as long as the one call, so nothing is left over for a fork, a stop or the next action to stumble over.
"""

import collections
import itertools
import mmap
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, Self, TypeVar

from gobblerd.registry.meter import Tick

T = TypeVar("T")
S = TypeVar("S")

THREADS = 2
_MAPPED = 1 << 20  # bytes from which on room is a mapping of its own
_WAITING = 8  # results that a task may be ahead of who takes them,
_HELD_MOST = 256  # and that who takes them holds while he has a long task in hand


class _EndedError(Exception):
    """Whoever asked for the results wants no more of them."""


class Desk:
    """What one thread works with."""

    def __init__(self, size: int, tick: Tick) -> None:
        self._size = size
        self._buffer: memoryview | None = None
        self._spare: memoryview | None = None
        self.tick = tick

    @property
    def buffer(self) -> memoryview:
        """Room for a batch; memory only once it is needed."""
        if self._buffer is None:
            self._buffer = _room(self._size)
        return self._buffer

    @property
    def spare(self) -> memoryview:
        """As much room again."""
        if self._spare is None:
            self._spare = _room(self._size)
        return self._spare


def _room(size: int) -> memoryview:
    """Return so many bytes to write to; of many, those that nobody touches take no memory."""
    return memoryview(mmap.mmap(-1, size) if size >= _MAPPED else bytearray(size))


Task = Callable[[Desk], Iterator[list[T]]]  # yields results as it has some


class Crew(Generic[T]):
    """Works off tasks in threads, of which whoever takes the results is one; only that one calls `tick`."""

    def __init__(self, tasks: Iterable[Task[T]], buffer_size: int, threads: int = THREADS) -> None:
        self._tasks = iter(tasks)
        self._next = threading.Lock()
        self._size = buffer_size
        self._results: queue.Queue[Sequence[T] | int | BaseException | None] = queue.Queue(_WAITING)
        self._ended = threading.Event()
        self._held: collections.deque[Sequence[T]] = collections.deque()  # what others did, not yielded yet
        self._gone = 0  # threads that have ended
        names = [f"crew-{number}" for number in range(1, threads)]
        self._crew = [threading.Thread(target=self._run, name=name, daemon=True) for name in names]

    def work(self, tick: Tick) -> Iterator[T]:
        """Begin, and yield the results as they come."""
        with self:
            yield from self.results(tick)

    def __enter__(self) -> Self:
        """Have the others begin."""
        for thread in self._crew:
            thread.start()
        return self

    def results(self, tick: Tick) -> Iterator[T]:
        """Take part, and yield results as they come; raises a task's first error, or what `tick` raises."""
        yield from self._take_part(tick)
        yield from self._rest(len(self._crew), tick)

    def __exit__(self, *_: object) -> None:
        """End the others, if they have not ended yet."""
        self._ended.set()
        while self._gone < len(self._crew):  # they say so last of all, and may wait for room to say it
            self._gone += self._results.get() is None
        for thread in self._crew:
            thread.join()

    def _take_part(self, tick: Tick) -> Iterator[T]:
        """Work as one of them: waking somebody for each result would cost as much as a small task."""

        def told(size: int) -> None:
            tick(size)
            self._gather(tick)  # also in a task that is long: others wait with what they have, or failed

        desk = Desk(self._size, told)
        while (task := self._task()) is not None:
            for results in task(desk):
                yield from results
                self._gather(tick)
                yield from self._gathered()

    def _gather(self, tick: Tick) -> None:
        """Take what others have done by now."""
        while len(self._held) < _HELD_MOST and not self._results.empty():
            self._take(self._results.get(), tick)

    def _gathered(self) -> Iterator[T]:
        while self._held:
            yield from self._held.popleft()

    def _rest(self, others: int, tick: Tick) -> Iterator[T]:
        """Yield what others do until so many of them have ended."""
        yield from self._gathered()
        while self._gone < others:
            self._take(self._results.get(), tick)
            yield from self._gathered()

    def _take(self, result: Sequence[T] | int | BaseException | None, tick: Tick) -> None:
        if result is None:
            self._gone += 1
        elif isinstance(result, int):
            tick(result)
        elif isinstance(result, BaseException):
            raise result
        else:
            self._held.append(result)

    def _run(self) -> None:
        try:
            desk = Desk(self._size, self._report)
            while (task := self._task()) is not None:
                for results in task(desk):
                    self._report(results)
        except _EndedError:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised where the results are taken
            self._results.put(error)
        self._results.put(None)

    def _task(self) -> Task[T] | None:
        with self._next:
            return next(self._tasks, None)

    def _report(self, result: Sequence[T] | int) -> None:
        if self._ended.is_set():
            raise _EndedError
        self._results.put(result)


def work_here(tasks: Iterable[Task[T]], buffer_size: int, tick: Tick) -> Iterator[T]:
    """Work off tasks in this thread: little work is done before a thread has started."""
    desk = Desk(buffer_size, tick)
    for task in tasks:
        for results in task(desk):
            yield from results


def share(work: Callable[[S], T], parts: Iterable[S]) -> list[T]:
    """Do each part in one more thread while they are being found, then in this one, too; in their order.

    With the page cache warm, more threads have nothing to wait for, and would only hand the interpreter on.
    """
    rest = iter(parts)
    first = list(itertools.islice(rest, 2))
    if len(first) < 2:  # noqa: PLR2004 - nobody to share it with
        return [work(part) for part in first]
    with ThreadPoolExecutor(1, thread_name_prefix="share") as pool:
        begun = [(part, pool.submit(work, part)) for part in itertools.chain(first, rest)]
        done = [work(part) if other.cancel() else other.result() for part, other in reversed(begun)]
    return done[::-1]
