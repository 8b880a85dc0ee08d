"""The threads that perform claims: a few for short actions, slots of their own for long ones.

Few handler threads are faster than many in one interpreter (design/performance.md), so they take turns
(storage/turn.py); the numbers are settings, since on a network filesystem one stalled call must not stall
the rest. A short request that is POSTed is performed by the thread that looked at its file.
"""

import threading
from functools import partial

import structlog

from gobblerd.domain.messages import Claim
from gobblerd.service.dispatch import Dispatcher
from gobblerd.service.line import Line
from gobblerd.staging.ledger import Waiter, new_waiter
from gobblerd.staging.spool import Lane, Spool
from gobblerd.storage.turn import Turn

log = structlog.get_logger(__name__)

_POSTING = 64  # threads at the most: each may perform what it looked at, and wait for locks


class Posts:
    """What the REST API needs: posting by way of the workers, and asking the spool."""

    def __init__(self, spool: Spool, workers: "Workers") -> None:
        self.post = workers.post
        self.response = spool.response
        self.progress = spool.progress


class Workers:
    """All worker threads of a daemon."""

    def __init__(self, spool: Spool, dispatcher: Dispatcher, turn: Turn, *, short: int, long: int) -> None:
        self._spool = spool
        self._dispatcher = dispatcher
        self._turn = turn
        self._line = Line(turn, _POSTING, "post")
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

    def post(self, name: str) -> Waiter:
        """Take up a POSTed request as `Spool.post` does, and perform it there if it is short and may go now.

        Returns at once; the future gets the response, or FileNotFoundError while there is no such file.
        """
        waiter = new_waiter()
        self._line.put(partial(self._post, name, waiter))
        return waiter

    def _post(self, name: str, waiter: Waiter) -> None:
        try:
            if self._spool.post(name, waiter, helping=True) is None:
                raise FileNotFoundError(name)  # noqa: TRY301  # as any other reason why nothing begins
            self._help(name)
        except Exception as error:  # noqa: BLE001  # whoever POSTed is told, and the line goes on
            if not waiter.done():
                waiter.set_exception(error)

    def _help(self, name: str) -> None:
        """Perform what is next, as long as the request of that name waits: who comes before goes before."""
        while self._spool.waits(name, Lane.SHORT):
            claim = self._spool.take_now(Lane.SHORT, just_seen=name)
            if claim is None:
                break
            self._run(claim)

    def _work(self, lane: Lane) -> None:
        while self._spool.wait(lane):
            with self._turn.taken():
                while (claim := self._spool.take_now(lane)) is not None:
                    self._run(claim)
                    if self._turn.is_wanted or not self._turn.keep():
                        break

    def _run(self, claim: Claim) -> None:
        try:
            self._dispatcher.run(claim)
        except Exception:  # a worker must survive whatever one request does to it
            log.exception("a request could not be answered", request=claim.name)
