"""Taking turns: one thread at a time does the short work of requests.

The interpreter runs one thread at a time anyway, but lets go of its lock at every system call. Threads that
each make a hundred short calls for a request then spend nine tenths of their time handing the lock to and
fro. A thread that has the turn meets nobody at those calls. It steps aside for what really waits: a sync, a
lock that somebody holds.

The turn goes from hand to hand in order of arrival, and to those who are in the middle of something before
those who would begin something; but these let no more than a few pass. It is a courtesy, not a lock: it
guards no data. Who holds it for longer than `patience` (a storage that hangs, a large upload) loses it to the
next, and both run.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator

_PATIENCE = 0.02  # seconds
_PASSED_MOST = 8  # turns that who would begin something lets pass

_BRIEF = 0.001  # seconds: handing the turn on and getting it back takes about a fifth of that

_Ticket = threading.Lock  # its turn comes when somebody lets it go


class Turn:
    """The turn of one process's requests. Thread-safe."""

    def __init__(self, patience: float = _PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._holder: threading.Lock | None = None
        self._since = 0.0
        self._waiting: deque[threading.Lock] = deque()
        self._beginning: deque[threading.Lock] = deque()
        self._passed = 0  # turns since the first of these was passed over

    @contextlib.contextmanager
    def taken(self, *, beginning: bool = False) -> Iterator[None]:
        """Wait for the turn, and have it for the length of a block; not to be nested.

        `beginning`: behind everybody else, since nothing is begun yet.
        """
        self._take(beginning=beginning)
        try:
            yield
        finally:
            _give()

    def keep(self) -> bool:
        """Between two things that this thread does: its patience begins anew; False if the turn was lost."""
        with self._lock:
            if self._holder is None or self._holder is not _OWN.ticket:
                return False
            self._since = time.monotonic()
            return True

    @property
    def is_wanted(self) -> bool:
        """Tell whether somebody waits who has begun something: to be asked before the next thing is begun."""
        return bool(self._waiting)

    def _take(self, *, beginning: bool = False) -> None:
        ticket = _Ticket()
        _OWN.turn, _OWN.ticket = self, ticket
        queue = self._beginning if beginning else self._waiting
        with self._lock:
            if self._holder is None:
                self._hand_to(ticket)
                return
            ticket.acquire()
            queue.append(ticket)
        while not ticket.acquire(timeout=self._patience):
            if self._taken_over(ticket, queue):
                return

    def _taken_over(self, ticket: threading.Lock, queue: "deque[threading.Lock]") -> bool:
        """Tell whether to wait no longer: it is our turn, or its holder has had it for too long."""
        with self._lock:
            if ticket not in queue:  # it was given to us meanwhile, and perhaps lost again before we saw it
                return True
            if time.monotonic() - self._since < self._patience:
                return False
            queue.remove(ticket)
            self._hand_to(ticket)
            return True

    def _hand_to(self, ticket: threading.Lock) -> None:
        self._holder = ticket
        self._since = time.monotonic()

    def _give(self, ticket: threading.Lock) -> None:
        with self._lock:
            if self._holder is not ticket:
                return  # lost
            self._holder = None
            queue = self._next_queue()
            if queue:
                following = queue.popleft()
                self._hand_to(following)
                following.release()

    def _next_queue(self) -> "deque[threading.Lock]":
        """Return the queue whose first comes next: work under way must not shut out what begins for ever."""
        if not self._beginning:
            return self._waiting
        self._passed = self._passed + 1 if self._waiting and self._passed < _PASSED_MOST else 0
        return self._waiting if self._passed else self._beginning


class _Own(threading.local):
    """What the running thread has: whose turn, by which ticket."""

    turn: Turn | None = None
    ticket: "threading.Lock | None" = None


_OWN = _Own()  # by thread, like the thread's name: so that whatever syncs can step aside


def _give() -> None:
    turn, ticket, _OWN.turn, _OWN.ticket = _OWN.turn, _OWN.ticket, None, None
    if turn is not None and ticket is not None:
        turn._give(ticket)  # noqa: SLF001  # of the class above


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


class SteppingAside:
    """Steps aside for one kind of wait, but only if it took long the last time. Thread-safe."""

    def __init__(self, brief: float = _BRIEF) -> None:
        self._brief = brief  # seconds
        self._last = 0.0

    @contextlib.contextmanager
    def stepped_aside(self) -> Iterator[None]:
        """Let others have this thread's turn, if that is worth it, for the length of a block that waits."""
        with stepped_aside() if self._last > self._brief else contextlib.nullcontext():
            began = time.monotonic()
            try:
                yield
            finally:
                self._last = time.monotonic() - began
