"""Noticing new request files: yields names to the spool, nothing else.

Events are hints, and may be lost: by an overflow of the kernel's queue, or because another node wrote.
The sweep is the truth: at start, at intervals, and at once after an overflow. Between, a gate on the
directory's mtime makes an idle sweep cost two system calls.

Limit: a file rewritten in place on a network filesystem changes no directory's mtime, so it is noticed
only when the gate is ignored, once a minute.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchDescriptor,
)

from gobblerd.domain.messages import REQUEST_PREFIX
from gobblerd.domain.times import NANOSECONDS
from gobblerd.staging.directory import Staging
from gobblerd.staging.look import Hint
from gobblerd.staging.settings import WatchSettings
from gobblerd.staging.spool import Spool
from gobblerd.staging.sweep import sweep

_log = structlog.get_logger()
_MASK = Mask(InotifyConstants.IN_CLOSE_WRITE | InotifyConstants.IN_MOVED_TO | InotifyConstants.IN_ONLYDIR)
_TICK_MOST = 30.0  # seconds between two looks at whether staging is still there
_SILENCE_MOST = 60.0  # seconds without a tick: the sweep hangs
_UNGATED_EVERY = 60.0  # seconds
_LISTEN_AGAIN = 60.0  # seconds after events were refused
_GATHERING = 0.02  # seconds in which events gather while clients POST
_COARSE_NS = 2 * NANOSECONDS  # mtimes may be as coarse as this
EVENTS, SWEEP = "events", "sweep"


class Gate:
    """Whether the directory can have changed since it was listed last."""

    def __init__(self) -> None:
        self._mtime = -1
        self._was_old = False
        self._listed = float("-inf")

    def is_open(self, mtime: int, *, unsettled: bool, now: float) -> bool:
        """Tell whether to list: `now` in monotonic seconds, `mtime` in nanoseconds."""
        if unsettled or now - self._listed >= _UNGATED_EVERY:
            return True
        return mtime != self._mtime or not self._was_old

    def listed(self, mtime: int, clock: int, now: float) -> None:
        """Note a listing begun when the directory had this mtime, at `clock` (nanoseconds)."""
        self._mtime, self._was_old, self._listed = mtime, clock - mtime > _COARSE_NS, now


@dataclass(frozen=True, slots=True)
class Plan:
    """How to watch: with events or without, sweeping every so many seconds, and why."""

    events: bool
    interval: float
    reason: str

    @property
    def mode(self) -> str:
        """What to call it."""
        return EVENTS if self.events else SWEEP


def plan(settings: WatchSettings, filesystem: str, *, is_local: bool) -> Plan:
    """Choose how to watch a directory on a filesystem of this type."""
    often, rarely = settings.sweep_interval_remote, settings.sweep_interval_local
    if settings.mode == SWEEP:
        return Plan(False, often, 'the configuration says "sweep"')
    if settings.mode == EVENTS:
        return Plan(True, rarely, 'the configuration says "events"')
    if is_local:
        return Plan(True, rarely, f"{filesystem} is a local filesystem: all writes send events")
    return Plan(True, often, f"{filesystem} may be written to from elsewhere, which sends no events")


class _Listener:
    """Passes events on; called in the thread that reads them."""

    def __init__(self, spool: Spool, overflowed: Callable[[], None], ended: Callable[[], None]) -> None:
        self._spool = spool
        self._overflowed = overflowed
        self._ended = ended

    def on_event(self, event: InotifyEvent) -> None:
        """Offer the name of a request file."""
        if not event.name.startswith(REQUEST_PREFIX.encode()) or event.is_directory:
            return
        self._spool.offer(os.fsdecode(event.name), Hint.RENAMED if event.is_moved_to else Hint.CLOSED)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Take note: the directory was removed or unmounted, or we are stopping."""
        del wd
        self._ended()

    def on_queue_overflow(self) -> None:
        """Have staging swept at once."""
        self._overflowed()


class _Events(InotifyFD):
    """Reads events as they come; while clients POST, which say the same sooner, many at a time.

    Each waking takes the interpreter's lock from who performs requests.
    """

    def __init__(self, spool: Spool) -> None:
        super().__init__()
        self._spool = spool

    def read_events(self, **how: int) -> list[InotifyEvent]:
        """Wait for events."""
        if self._spool.awaits_posts:
            self.stopped_event.wait(_GATHERING)
        return super().read_events(**how)


class Watcher:
    """Watches one staging directory; `mode` and `reason` tell how and why."""

    def __init__(self, staging: Staging, spool: Spool, settings: Callable[[], WatchSettings]) -> None:
        self._staging = staging
        self._spool = spool
        self._settings = settings
        self._plan = self._chosen()
        self._gate = Gate()
        self._inotify: InotifyFD | None = None
        self._wake = threading.Event()
        self._stopped = False
        self._trouble = ""
        self._ticked = time.monotonic()
        self._due = 0.0
        self._lost = False  # events ended by themselves
        self._deaf_until = 0.0  # no use in asking for events before
        self._thread = threading.Thread(target=self._run, name="gobblerd-sweep", daemon=True)

    @property
    def mode(self) -> str:
        """What is done now: "events" (with sweeps), or "sweep" alone."""
        return self._plan.mode

    @property
    def reason(self) -> str:
        """Why it is not alive, else why this mode was chosen."""
        return self._trouble or self._plan.reason

    @property
    def alive(self) -> bool:
        """Tell whether new files are being noticed."""
        silent = time.monotonic() - self._ticked > _SILENCE_MOST
        return self._thread.is_alive() and not silent and not self._trouble

    def start(self) -> None:
        """Begin to watch, with a sweep."""
        self._announce()
        if self._plan.events:
            self._listen()
        self._thread.start()

    def sweep_now(self) -> None:
        """Take up changed settings and sweep, without waiting for the time to."""
        self._wake.set()

    def stop(self) -> None:
        """End the threads."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._deafen()

    def _chosen(self) -> Plan:
        filesystem = self._staging.filesystem
        return plan(self._settings(), filesystem.type, is_local=filesystem.is_local)

    def _announce(self) -> None:
        _log.info(
            "watching staging", mode=self._plan.mode, interval=self._plan.interval, reason=self._plan.reason
        )

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._tick()
            except OSError as error:
                self._note(f"staging cannot be listed: {error.strerror}")
            except Exception:  # noqa: BLE001  without this thread files of other nodes are never noticed
                _log.exception("sweep failed")
            self._ticked = time.monotonic()
            self._wake.wait(min(_TICK_MOST, max(0.0, self._due - time.monotonic())))

    def _tick(self) -> None:
        """Follow the settings, see whether staging is still there, and sweep if it is time to."""
        self._follow()
        self._note(self._staging.trouble())
        overflowed = self._wake.is_set()
        self._wake.clear()
        now = time.monotonic()
        if not overflowed and now < self._due:
            return
        self._due = now + self._plan.interval
        mtime = self._staging.changed()
        if overflowed or self._gate.is_open(mtime, unsettled=self._spool.unsettled, now=now):
            self._gate.listed(mtime, self._staging.clock.now(), now)
            sweep(self._staging, self._spool)

    def _follow(self) -> None:
        """Take up changed settings, and listen again where events ended."""
        if time.monotonic() < self._deaf_until:
            return
        chosen = self._chosen()
        if chosen != self._plan:
            self._plan, self._due = chosen, 0.0
            self._announce()
        if self._lost or not chosen.events:
            self._deafen()
        if chosen.events and self._inotify is None:
            self._listen()

    def _listen(self) -> None:
        inotify: InotifyFD | None = None
        try:
            inotify = _Events(self._spool)  # our own instance: the shared one is never closed
            path = f"/proc/self/fd/{self._staging.fd}".encode()  # that directory, wherever its path leads
            listener = _Listener(self._spool, self.sweep_now, self._ended)
            inotify.add_callback(path, _MASK, listener, CallbackId(0))
        except OSError as error:
            if inotify is not None:
                inotify.close()
            reason = f"no events to be had: {error.strerror}"
            self._plan = Plan(False, self._settings().sweep_interval_remote, reason)
            self._deaf_until = time.monotonic() + _LISTEN_AGAIN
            self._announce()
            return
        inotify.name = "gobblerd-events"
        inotify.start()
        self._inotify = inotify

    def _deafen(self) -> None:
        inotify, self._inotify, self._lost = self._inotify, None, False
        if inotify is not None:
            inotify.stop()
            inotify.join(timeout=5)

    def _ended(self) -> None:
        if not self._stopped:
            _log.warning("events ended: the staging directory was removed or unmounted")
            self._lost = True
            self._wake.set()

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            _log.error("watcher is in trouble", reason=trouble)
        elif self._trouble and not trouble:
            _log.info("watcher is well again")
        self._trouble = trouble
