"""The threads that perform claims: a few for short actions, slots of their own for long ones.

Few handler threads are faster than many in one interpreter (design/performance.md); the numbers are
settings, since on a network filesystem one stalled call must not stall the rest.
"""

import threading

import structlog

from gobblerd.service.dispatch import Dispatcher
from gobblerd.staging.spool import Lane, Spool

log = structlog.get_logger(__name__)


class Workers:
    """All worker threads of a daemon."""

    def __init__(self, spool: Spool, dispatcher: Dispatcher, *, short: int, long: int) -> None:
        self._spool = spool
        self._dispatcher = dispatcher
        lanes = [Lane.SHORT] * short + [Lane.LONG] * long
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name=f"{lane}-{number}", daemon=True)
            for number, lane in enumerate(lanes)
        ]

    def start(self) -> None:
        """Begin to perform what the spool hands out."""
        for thread in self._threads:
            thread.start()

    def join(self, seconds: float) -> bool:
        """Wait for all threads to end, which they do when the spool is drained; tell whether they did."""
        for thread in self._threads:
            thread.join(seconds / max(1, len(self._threads)))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def alive(self) -> bool:
        """Tell whether every thread still works."""
        return all(thread.is_alive() for thread in self._threads)

    def _work(self, lane: Lane) -> None:
        while (claim := self._spool.take(lane)) is not None:
            try:
                self._dispatcher.run(claim)
            except Exception:  # a worker must survive whatever one request does to it
                log.exception("a request could not be answered", request=claim.name)
