"""A thread that writes responses which nobody else writes: refusals, and those that failed before.

A job is tried until it succeeds, with growing pauses: an answer that cannot be written now (no space,
storage that fails) is written when it can be.
"""

import heapq
import threading
import time
from collections.abc import Callable

import structlog

_log = structlog.get_logger()
_PAUSE_FIRST = 0.1
_PAUSE_MOST = 30.0

Job = Callable[[], None]


class Clerk:
    """Runs jobs one after the other, in order; those that raise OSError again and again."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, float, Job, str]] = []  # due, number, pause, job, request
        self._number = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="gobblerd-clerk", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job at hand; what could not be written stays unwritten."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def do(self, name: str, job: Job, *, failed: bool = False) -> None:
        """Take on a job for a request; `failed`: it failed once just now, so wait a little first."""
        pause = _PAUSE_FIRST if failed else 0.0
        with self._changed:
            self._put(pause, job, name)
            self._changed.notify()

    def _put(self, pause: float, job: Job, name: str) -> None:
        self._number += 1
        heapq.heappush(self._jobs, (time.monotonic() + pause, self._number, pause, job, name))

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            pause, job, name = taken
            try:
                job()
            except OSError as error:
                pause = min(max(pause * 2, _PAUSE_FIRST), _PAUSE_MOST)
                _log.error("response could not be written", request=name, error=str(error), again_in=pause)
                with self._changed:
                    self._put(pause, job, name)
            except Exception:  # noqa: BLE001  the thread outlives any one request
                _log.exception("response could not be made", request=name)

    def _next(self) -> tuple[float, Job, str] | None:
        with self._changed:
            while not self._stopped:
                wait = self._jobs[0][0] - time.monotonic() if self._jobs else None
                if wait is not None and wait <= 0:
                    _, _, pause, job, name = heapq.heappop(self._jobs)
                    return pause, job, name
                self._changed.wait(wait)
            return None
