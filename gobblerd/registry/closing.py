"""Ending transactions in batches: what many of them touched is made durable by one sync, in the background.

An applied transaction is answered as soon as its record is durable: the record holds its documents and its
response, so that a power cut loses neither. Only the record's removal has to wait until all of it is durable
by itself. Nobody waits for that, so it is done for a batch at a time.

Limit: where syncfs is not to be trusted (storage/sync.py), every touched path is synced by itself.
"""

import threading
import time
from collections.abc import Callable

import structlog

from gobblerd.registry.apply import sync_touched
from gobblerd.registry.transaction import Transaction
from gobblerd.storage.sync import Disk, sync_whole

_log = structlog.get_logger(__name__)

_GATHERING = 0.05  # seconds in which more are waited for
_ENDING_MOST = 5.0  # seconds that a stop waits

End = Callable[[Transaction], None]


class Closer:
    """A thread that ends applied transactions; `answered` makes all responses durable, `end` never raises.

    What cannot be synced stays for recovery: `leave` is called instead of `end`.
    """

    def __init__(self, disk: Disk, answered: Callable[[], None], end: End, leave: End) -> None:
        self._disk = disk
        self._answered = answered
        self._end = end
        self._leave = leave
        self._changed = threading.Condition()
        self._waiting: list[Transaction] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="closer", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> None:
        """End what waits, then the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(_ENDING_MOST)

    def take(self, transaction: Transaction) -> bool:
        """Take over an applied transaction; False once stopped."""
        with self._changed:
            if self._stopped:
                return False
            self._waiting.append(transaction)
            if len(self._waiting) == 1:
                self._changed.notify()
            return True

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._sync(batch)
            except OSError as error:
                _log.warning("the end of transactions is put off", count=len(batch), error=str(error))
                end = self._leave
            else:
                end = self._end
            for transaction in batch:
                end(transaction)

    def _next(self) -> list[Transaction]:
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
        if not self._stopped:
            time.sleep(_GATHERING)
        with self._changed:
            batch, self._waiting = self._waiting, []
            return batch

    def _sync(self, batch: list[Transaction]) -> None:
        if self._disk.syncs_whole:
            sync_whole(self._disk.root)
        else:
            for transaction in batch:
                assert transaction.record is not None  # only what was applied gets here
                sync_touched(self._disk.root, transaction.record)
        self._answered()
