"""The thread that looks after a serving daemon, in rounds.

A thread that wakes up after idle seconds finds cold caches, which costs many times what its round does. So
rounds follow each other fast only while something happens; `stir` says that it does. The round comes a
moment after that, not into the middle of what is happening. What nobody stirs for is seen within a minute.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gobblerd.service.status import HEARTBEAT, STATUS_INTERVAL

log = structlog.get_logger(__name__)

_WHOLE_EVERY = 60.0  # seconds
_ENDING_MOST = 1.0  # seconds that a stop waits for the round at hand


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between two rounds: while something happens, and at rest."""

    busy: float = STATUS_INTERVAL
    rest: float = HEARTBEAT


class Housekeeping:
    """Calls `tend` in rounds; it hears whether something may have happened, and tells whether nothing does.

    `watchdog` is how often it is to be fed, in seconds, as long as `makes_progress`; None: nobody watches. A
    round that hangs starves it.
    """

    def __init__(
        self,
        tend: Callable[[bool], bool],
        makes_progress: Callable[[], bool],
        watchdog: float | None,
        pace: Pace = Pace(),
    ) -> None:
        self._tend = tend
        self._makes_progress = makes_progress
        self._watchdog = watchdog
        most = watchdog or pace.rest
        self._pace = Pace(min(pace.busy, most), min(pace.rest, most))
        self._feed: Callable[[], object] = lambda: None
        self._fed = self._whole = float("-inf")  # when last
        self._was_quiet = False
        self._one = threading.Lock()  # round at a time
        self._stirred = threading.Event()
        self._listening = False  # nothing has stirred since the last round began
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    def start(self, feed: Callable[[], object]) -> None:
        """Begin, with a round; `feed` is what feeds the watchdog."""
        self._feed = feed
        self._thread.start()

    def stop(self) -> None:
        """End; the round at hand is waited for, but not for long."""
        self._stopped.set()
        self._stirred.set()
        if self._thread.is_alive():
            self._thread.join(_ENDING_MOST)

    def stir(self) -> None:
        """Say that something happens: the next round comes soon. Costs next to nothing, for every request."""
        if self._listening:
            self._listening = False
            self._stirred.set()

    def do_round(self) -> bool:
        """Do a round now, in this thread; tell whether nothing happens."""
        with self._one:
            now, stirred = time.monotonic(), self._stirred.is_set()
            if stirred:  # one that is set from here on is for the next round
                self._stirred.clear()
            self._listening = True
            whole = stirred or not self._was_quiet or now - self._whole >= _WHOLE_EVERY
            if whole:
                self._whole = now
            self._was_quiet = False
            try:
                self._was_quiet = self._tend(whole)
                self._feed_in_time(now)
            except Exception:  # without these rounds nothing is mended, and the watchdog ends the daemon
                log.exception("housekeeping failed")
            return self._was_quiet

    def _feed_in_time(self, now: float) -> None:
        """Feed the watchdog if after the next round it could be too late."""
        late = self._watchdog is not None and now - self._fed + self._pace.rest >= self._watchdog
        if late and self._makes_progress():
            self._fed = now
            self._feed()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self.do_round() and not self._stirred.wait(self._pace.rest):
                continue
            self._stopped.wait(self._pace.busy)
