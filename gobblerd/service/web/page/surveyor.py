"""The latest survey of the registry, renewed in the background while somebody looks at the page."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from gobblerd.registry.survey import Survey

log = structlog.get_logger(__name__)

_FRESH = 15.0  # seconds for which a survey is good enough
_SHARE = 0.05  # of the time: the most that surveying may take
_FIRST = 2.0  # seconds for which the first reader waits


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A survey and its age in seconds."""

    survey: Survey
    age: float


class Surveyor:
    """Thread-safe. Nothing is read while nobody asks; a survey that fails leaves the one before it."""

    def __init__(self, take: Callable[[], Survey], now: Callable[[], float] = time.monotonic) -> None:
        self._take = take
        self._now = now
        self._lock = threading.Condition()
        self._latest: Survey | None = None
        self._ended = 0.0
        self._lasted = 0.0
        self._thread: threading.Thread | None = None

    def latest(self) -> Surveyed | None:
        """Return what is known, and see to it that it is renewed; None while the first is being made."""
        with self._lock:
            if self._is_stale() and self._thread is None:
                self._thread = threading.Thread(target=self._renew, name="surveyor", daemon=True)
                self._thread.start()
            if self._latest is None:
                self._lock.wait_for(lambda: self._thread is None, _FIRST)
            return None if self._latest is None else Surveyed(self._latest, self._now() - self._ended)

    def _is_stale(self) -> bool:
        return self._latest is None or self._now() - self._ended > max(_FRESH, self._lasted / _SHARE)

    def _renew(self) -> None:
        began, found = self._now(), None
        try:
            found = self._take()
        except Exception:  # whatever the storage did: the page shows what it has
            log.exception("the registry could not be surveyed")
        with self._lock:
            self._latest = found or self._latest
            self._ended = self._now()
            self._lasted = self._ended - began
            self._thread = None
            self._lock.notify_all()
