"""A few threads for one long action: they work off tasks, and whoever asked takes the results.

Threads, not processes: hashing, reading and writing happen without the interpreter's lock, in C. They live
as long as the one call, so nothing is left over for a fork, a stop or the next action to stumble over.
"""

import contextlib
import functools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
Tick = Callable[[int], None]  # told of bytes done; raises to cancel

THREADS = 2
_WAITING = 8  # results that a task may be ahead of who takes them


class _EndedError(Exception):
    """Whoever asked for the results wants no more of them."""


class Desk:
    """What one thread works with."""

    def __init__(self, size: int, tick: Tick) -> None:
        self._size = size
        self.tick = tick

    @functools.cached_property
    def buffer(self) -> bytearray:
        """Room for a batch; memory only once it is needed."""
        return bytearray(self._size)

    @functools.cached_property
    def spare(self) -> bytearray:
        """As much room again."""
        return bytearray(self._size)


Task = Callable[[Desk], Iterator[list[T]]]  # yields results as it has some


class Crew(Generic[T]):
    """Works off tasks in threads; `tick` is called by the thread that takes the results."""

    def __init__(self, tasks: Iterable[Task[T]], buffer_size: int) -> None:
        self._tasks = iter(tasks)
        self._next = threading.Lock()
        self._size = buffer_size
        self._results: queue.Queue[Sequence[T] | int | BaseException | None] = queue.Queue(_WAITING)
        self._ended = threading.Event()

    def work(self, tick: Tick, threads: int = THREADS) -> Iterator[T]:
        """Yield the results as they come; raises the first error of a task, or what `tick` raises."""
        crew = [threading.Thread(target=self._run, name=f"crew-{n}", daemon=True) for n in range(threads)]
        for thread in crew:
            thread.start()
        try:
            yield from self._taken(len(crew), tick)
        finally:
            self._ended.set()
            while any(thread.is_alive() for thread in crew):
                with contextlib.suppress(queue.Empty):
                    self._results.get(timeout=0.05)
            for thread in crew:
                thread.join()

    def _taken(self, working: int, tick: Tick) -> Iterator[T]:
        while working:
            result = self._results.get()
            if result is None:
                working -= 1
            elif isinstance(result, int):
                tick(result)
            elif isinstance(result, BaseException):
                raise result
            else:
                yield from result

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
