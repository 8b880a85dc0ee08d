"""Requests that one thread performs one after the other, and answers together.

Where one sync makes several commits durable, a sync for each would cost as much as performing it, and hand
the interpreter to and fro. So a few are performed, then one sync is waited for, then all are told. Nobody
waits long for others: before a thread performs one more, another stands by, which answers what the first has
so far if that steps aside for a lock or keeps the turn for too long.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

import structlog

from gobblerd.domain.messages import Claim
from gobblerd.service.dispatch import Dispatcher, Performed
from gobblerd.storage.turn import Turn

log = structlog.get_logger(__name__)

_MOST = 4  # requests: more save little, and the first would wait for them


class Batch:
    """What one thread has performed and nobody has answered yet."""

    def __init__(self, dispatcher: Dispatcher, stand_by: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._stand_by = stand_by
        self._lock = threading.Lock()  # others may answer too
        self._performed: list[Performed] = []

    def run(self, claim: Claim) -> None:
        """Perform a claim; it is answered now, or with others by `answer`. Never raises."""
        if self.is_full:
            self.answer()
        if not self.is_empty:
            self._stand_by()  # this one may take long
        try:
            performed = self._dispatcher.perform(claim)
        except Exception:  # a worker must survive whatever one request does to it
            log.exception("a request could not be answered", request=claim.name)
            return
        if performed is None:
            return
        if performed.is_pending and self._dispatcher.answers_together:
            with self._lock:
                self._performed.append(performed)
        else:  # it shares no sync with others
            self._dispatcher.answer([performed])

    def answer(self) -> None:
        """Answer what was performed so far."""
        with self._lock:
            performed, self._performed = self._performed, []
        if performed:
            self._dispatcher.answer(performed)

    def may_grow(self, turn: Turn) -> bool:
        """Between two requests: tell whether its thread goes on with one more, and keeps the turn for it."""
        if self.is_full or (self.is_empty and turn.is_wanted):
            return False
        return turn.keep()

    @property
    def is_empty(self) -> bool:
        """Tell whether nobody waits for it."""
        return not self._performed

    @property
    def is_full(self) -> bool:
        """Tell whether it is to be answered before more is performed."""
        return len(self._performed) >= _MOST


class Batches:
    """The batches that threads are at.

    `stand_by` is called when one is to be answered even if its thread hangs; it has some thread take the turn
    and open a batch.
    """

    def __init__(self, dispatcher: Dispatcher, stand_by: Callable[[], None]) -> None:
        self._dispatcher = dispatcher
        self._stand_by = stand_by
        self._open: dict[int, Batch] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[Batch]:
        """Begin one, for a thread that has the turn; it is answered at the end.

        What others hold whose thread lost the turn is answered first.
        """
        for other in [*self._open.values()]:
            other.answer()
        batch = Batch(self._dispatcher, self._stand_by)
        self._open[id(batch)] = batch
        try:
            yield batch
        finally:
            batch.answer()
            del self._open[id(batch)]
