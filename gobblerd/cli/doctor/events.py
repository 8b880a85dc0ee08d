"""Listening for inotify events in one directory, the way the daemon's watcher does."""

import os
import threading
import time
from types import TracebackType
from typing import Self

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

_MASK = Mask(InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_ONLYDIR)
PATIENCE = 5.0  # seconds for an event to come


class Listener:
    """Hears which names are written or renamed into a directory; use as a context. OSError if it cannot."""

    def __init__(self, directory: str) -> None:
        self._heard: set[str] = set()
        self._changed = threading.Condition()
        self._inotify = InotifyFD()
        try:
            self._inotify.add_callback(os.fsencode(directory), _MASK, self, CallbackId(0))
        except OSError:
            self._inotify.close()
            raise
        self._inotify.start()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        self._inotify.stop()
        self._inotify.join(timeout=5)

    def hears(self, names: set[str], patience: float = PATIENCE) -> bool:
        """Wait for all these names; tell whether they came."""
        deadline = time.monotonic() + patience
        with self._changed:
            while not names <= self._heard:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    return names <= self._heard
            return True

    # What the library calls, in the thread that reads events.

    def on_event(self, event: InotifyEvent) -> None:
        """Note a name."""
        with self._changed:
            self._heard.add(os.fsdecode(event.name))
            self._changed.notify_all()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Ignore: the directory ends with the check."""

    def on_queue_overflow(self) -> None:
        """Ignore: two names do not overflow anything."""
