"""Taking turns: one thread at a time does the short work of requests.

The interpreter runs one thread at a time anyway, but lets go of its lock at every system call. Threads that
each make a hundred short calls for a request then spend nine tenths of their time handing the lock to and
fro. A thread that has the turn meets nobody at those calls. It steps aside for what really waits: a sync, a
lock that somebody holds.

The turn is a courtesy, not a lock: it guards no data. Who holds it for longer than `patience` (a storage that
hangs, a large upload) loses it to the next, and both run.
"""

import contextlib
import threading
import time
from collections.abc import Iterator

_PATIENCE = 0.02  # seconds


class Turn:
    """The turn of one process's requests. Thread-safe."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()  # replaced when its holder has lost the turn
        self._since = 0.0
        self._replacing = threading.Lock()

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and have it for the length of a block; not to be nested."""
        self._take()
        try:
            yield
        finally:
            _give()

    def _take(self) -> None:
        while True:
            lock = self._lock
            if lock.acquire(timeout=self._patience):
                if lock is self._lock:
                    break
                lock.release()  # its holder had lost the turn: wait with the others
            elif (mine := self._taken_over(lock)) is not None:
                lock = mine
                break
        self._since = time.monotonic()
        _OWN.turn, _OWN.lock = self, lock

    def _taken_over(self, lost: "threading.Lock") -> "threading.Lock | None":
        """Return the lock by which the turn is ours, if its holder has had it for too long."""
        with self._replacing:
            if self._lock is not lost or time.monotonic() - self._since < self._patience:
                return None
            mine = threading.Lock()
            mine.acquire()
            self._lock = mine
            return mine


class _Own(threading.local):
    """What the running thread has: whose turn, by which lock."""

    turn: Turn | None = None
    lock: "threading.Lock | None" = None


_OWN = _Own()  # by thread, like the thread's name: so that whatever syncs can step aside


def _give() -> None:
    lock, _OWN.turn, _OWN.lock = _OWN.lock, None, None
    if lock is not None:
        lock.release()


@contextlib.contextmanager
def stepped_aside() -> Iterator[None]:
    """Let others have this thread's turn, if it has one, for the length of a block that waits."""
    turn = _OWN.turn
    if turn is None:
        yield
        return
    _give()
    try:
        yield
    finally:
        turn._take()  # noqa: SLF001  # of the class above
