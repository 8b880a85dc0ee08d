"""The threads that perform claims: a few for short actions, slots of their own for long ones.

Few handler threads are faster than many in one interpreter (design/performance.md), so they take turns
(storage/turn.py); the numbers are settings, since on a network filesystem one stalled call must not stall
the rest. A request that is POSTed is performed by the thread that looked at its file, if there is a slot.
"""

import threading
from functools import partial

from gobblerd.service.batch import Batch, Batches
from gobblerd.service.dispatch import Dispatcher
from gobblerd.service.line import Line
from gobblerd.staging.ledger import Waiter, new_waiter
from gobblerd.staging.spool import Lane, Spool
from gobblerd.storage.turn import Turn

_POSTING = 64  # threads at the most: each may perform what it looked at, and wait for locks


class Posts:
    """What the REST API needs: posting by way of the workers, and asking the spool."""

    def __init__(self, spool: Spool, workers: "Workers") -> None:
        self.post = workers.post
        self.line = workers.line
        self.response = spool.response
        self.progress = spool.progress


class Workers:
    """All worker threads of a daemon."""

    def __init__(self, spool: Spool, dispatcher: Dispatcher, turn: Turn, *, short: int, long: int) -> None:
        self._spool = spool
        self._claims = spool.claims
        self._turn = turn
        self._batches = Batches(dispatcher, self._stand_by)
        self.line = Line(turn, self._batches, _POSTING, "post")
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
        begun = [thread for thread in self._threads if thread.ident is not None]  # none yet, perhaps
        for thread in begun:
            thread.join(seconds / len(begun))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def alive(self) -> bool:
        """Tell whether every thread still works."""
        return all(thread.is_alive() for thread in self._threads)

    def _stand_by(self) -> None:
        self.line.stand_by()

    def post(self, name: str) -> Waiter:
        """Take up a POSTed request as `Spool.post` does, and perform it there if it may go now.

        Returns at once; the future gets the response, or FileNotFoundError while there is no such file.
        """
        waiter = new_waiter()
        self.line.put(partial(self._post, name, waiter))
        return waiter

    def _post(self, name: str, waiter: Waiter, batch: Batch) -> None:
        try:
            if self._spool.post(name, waiter, helping=True) is None:
                raise FileNotFoundError(name)  # noqa: TRY301  # as any other reason why nothing begins
            self._help(name, batch)
        except Exception as error:  # noqa: BLE001  # whoever POSTed is told, and the line goes on
            if not waiter.done():
                waiter.set_exception(error)

    def _help(self, name: str, batch: Batch) -> None:
        """Perform what is next, as long as the request of that name waits: who comes before goes before."""
        while (lane := self._claims.lane_of(name)) is not None:
            claim = self._claims.take_now(lane, just_seen=name)
            if claim is None:
                break
            if lane is Lane.LONG and claim.name != name:
                self._claims.wake(lane)  # ours has to wait: whoever is free may have it
            batch.run(claim)

    def _work(self, lane: Lane) -> None:
        while self._claims.wait(lane):
            with self._turn.taken(), self._batches.opened() as batch:
                while (claim := self._claims.take_now(lane)) is not None:
                    batch.run(claim)
                    if not batch.may_grow(self._turn):
                        break
