"""Doing the same to many things in a few threads, so that an error or Ctrl-C ends all of them soon.

Work is handed a `Stop` and asks it between pieces of a few MiB. Imported only where files are moved.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Progress = Callable[[int, int, int, int], None]  # files done, files in all, bytes done, bytes in all
Each = Callable[[str, int, int], None]  # path of a file, its bytes done, its size (-1: not known)


class Stopped(Exception):
    """Somebody else failed, or the user has had enough; nothing to report."""


class Stop:
    """Tells threads to end."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Make everybody who checks end."""
        self._event.set()

    def check(self) -> None:
        """Raise Stopped if it is time to end."""
        if self._event.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait; Stopped as soon as it is time to end."""
        self._event.wait(seconds)
        self.check()


class Meter:
    """Counts what is done and tells `progress`, and `each` of single files, one call at a time."""

    def __init__(self, progress: Progress | None, files: int, size: int, each: Each | None = None) -> None:
        self._progress, self._each = progress, each
        self._lock = threading.Lock()
        self._files, self._size = files, size
        self._files_done = self._size_done = 0
        self.add(0, 0)

    def add(self, files: int, size: int) -> None:
        """Count files and bytes that are done; `size` may be negative, where work was in vain."""
        with self._lock:
            self._files_done += files
            self._size_done += size
            if self._progress is not None:
                self._progress(self._files_done, self._files, self._size_done, self._size)

    def tell(self, path: str, done: int, size: int) -> None:
        """Tell how far one file is."""
        if self._each is not None:
            with self._lock:
                self._each(path, done, size)


def for_each(items: Iterable[Item], work: Callable[[Item, Stop], None], concurrent: int) -> None:
    """Do `work` for each item, in `concurrent` threads (1: in this one); raise the first error.

    ValueError if `concurrent` is less than 1.
    """
    if concurrent < 1:
        raise ValueError(f"'concurrent' must be at least 1, not {concurrent}")
    crew = _Crew(items, work)
    if concurrent == 1:
        crew.run()
    else:
        _run_threads(crew, concurrent)
    if crew.error is not None:
        raise crew.error


def _run_threads(crew: "_Crew[Item]", concurrent: int) -> None:
    threads = [threading.Thread(target=crew.run, daemon=True) for _ in range(concurrent)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: nothing may go on behind the caller's back
        crew.stop.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        raise


class _Crew(Generic[Item]):
    """Takes items from one iterator, in any number of threads."""

    def __init__(self, items: Iterable[Item], work: Callable[[Item, Stop], None]) -> None:
        self.stop = Stop()
        self.error: BaseException | None = None
        self._items = iter(items)
        self._work = work
        self._lock = threading.Lock()

    def run(self) -> None:
        """Work until nothing is left or somebody failed."""
        try:
            while True:
                with self._lock:
                    self.stop.check()
                    item = next(self._items)
                self._work(item, self.stop)
        except (Stopped, StopIteration):
            return
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
            with self._lock:
                self.error = self.error or error
            self.stop.set()
