"""The spool: from a name that somebody mentioned to a claim that can be taken (claims.py).

At most once per identity, round-robin between users, bounded. Names come from watcher, sweep and POST;
admission decides what becomes of them. Nothing is handed out before the answered identities are loaded
and it is known which files are to be taken over.

Threads of its own: one that starts (loading, first sweep, takeover), one that looks again at files that
were not complete, the clerk. `offer` and `post` read the file in the caller's thread.
"""

import threading
import time
from collections.abc import Callable

import structlog

from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Identity, Response, check_request_name
from gobblerd.staging.admission import Admission
from gobblerd.staging.claims import Claims
from gobblerd.staging.directory import Staging
from gobblerd.staging.intake import Intake
from gobblerd.staging.ledger import (
    Answering,
    Ledger,
    Waiter,
    new_waiter,
    tell,
    unobserved,
)
from gobblerd.staging.loading import finish_takeover, load, take_over
from gobblerd.staging.look import Gone, Hint
from gobblerd.staging.purge import purge
from gobblerd.staging.queue import Lane
from gobblerd.staging.settings import PurgeAges, SpoolLimits
from gobblerd.staging.settle import Waiting
from gobblerd.staging.status import Progress, PurgeCounts, SpoolStatus
from gobblerd.staging.sweep import sweep
from gobblerd.staging.users import NameServiceFailed
from gobblerd.storage.turn import Turn

__all__ = ["Lane", "Progress", "PurgeAges", "PurgeCounts", "Spool", "SpoolLimits", "SpoolStatus"]

_log = structlog.get_logger()
_LOADING_PAUSE = 1.0  # seconds
_POSTS_LATELY = 1.0  # seconds since the last POST: more are to be expected
_POST_FOLLOWS = 0.02  # seconds within which the POST of a dropped file is expected then
ABSENT = "there is no such request file"


class Spool:
    """Request files on their way to a worker, who takes them from `claims`. Thread-safe."""

    def __init__(
        self,
        staging: Staging,
        limits: Callable[[], SpoolLimits],
        is_long: Callable[[str], bool],
        is_administrator: Callable[[str], bool],
        intake: Intake | None = None,
        answered: Answering = unobserved,
        turn: Turn | None = None,
        stir: Callable[[], object] = lambda: None,
    ) -> None:
        """`stir` is called whenever a file is looked at, often: it must cost nothing."""
        self._staging = staging
        self._stir = stir
        self._turn = turn or Turn()
        self._limits = limits
        self._is_administrator = is_administrator
        self._intake = intake or Intake(staging, limits)
        self._ledger = Ledger(staging, answered)
        self._lock = self._ledger.lock
        self._admission = Admission(self._ledger, limits, is_long, is_administrator)
        self.claims = Claims(self._ledger, self._admission, self._intake, self._look_instead)
        self._open = False  # POSTs are looked at
        self._stopped = False
        self._early: list[tuple[str, Waiter]] = []  # POSTs until then
        self._last_post = float("-inf")
        self._threads = [
            threading.Thread(target=work, name=f"gobblerd-spool-{name}", daemon=True)
            for name, work in (("start", self._start_up), ("timer", self._keep_time))
        ]

    # Start and end

    def start(self) -> None:
        """Begin to load what is answered, then to hand out claims; returns at once."""
        self._ledger.clerk.start()
        for thread in self._threads:
            thread.start()

    def _start_up(self) -> None:
        while not self._stopped and not self._loaded():
            time.sleep(_LOADING_PAUSE)
        with self._lock:
            self._ledger.ready = True
            self._ledger.wake_all()
        self._sweep()  # what was dropped before we came is queued before a POST can be too late for it
        with self._lock:
            self._open = True
            early, self._early = self._early, []
        for name, waiter in early:
            if not self._posted(name, waiter):
                tell([waiter], self._ledger.nameless(name, 400, ABSENT))
        self._take_over()

    def _loaded(self) -> bool:
        try:
            self._admission.listed = load(self._staging, self._ledger)
        except OSError as error:
            _log.warning("responses cannot be loaded", error=str(error))
            return False
        return True

    def _take_over(self) -> None:
        """Answer what was here before us, in this thread; what cannot be is left to the next start."""
        listed = self._admission.listed
        for name, inode in sorted(listed):
            if self._stopped:
                return
            try:
                take_over(self._ledger, self._intake, name, inode)
            except OSError as error:
                _log.warning("request file cannot be taken over", request=name, error=str(error))
                return
        if finish_takeover(self._staging, self._ledger, listed):
            self._admission.listed = frozenset()

    def drain(self) -> None:
        """Hand out no more; what a POST waits for is answered 503, with its file, the rest stays."""
        with self._ledger.changing() as after:
            self._ledger.draining = True
            self._ledger.wake_all()
            for entry in self._ledger.queue.entries():
                self._ledger.turn_away(entry, after)
            waiting = self._ledger.settling.with_waiters()
            for each in waiting:
                self._ledger.settling.remove(each.name)
        for each in waiting:
            self._look_again(each)

    def settled(self) -> bool:
        """Tell whether nothing is running, and no POST waits for an incomplete file."""
        with self._lock:
            return not (self._ledger.running or self._early or self._ledger.settling.with_waiters())

    def stop(self) -> None:
        """End the threads; after `drain`, when `settled` or out of time."""
        with self._lock:
            self._stopped = self._ledger.draining = True
            self._ledger.tick.notify_all()
            self._ledger.wake_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)
        self._ledger.stop()

    # Names come in

    def offer(self, name: str, hint: Hint) -> None:
        """Look at a file that watcher or sweep noticed."""
        with self._lock:
            waiting = self._ledger.settling.get(name)
            if not self._ledger.ready or self._ledger.draining or (waiting and hint is Hint.SWEPT):
                return
            if waiting and waiting.waiters:
                hint = Hint.RENAMED  # a POST waits: no more time than it takes to be complete
            put_off = not waiting and hint is not Hint.SWEPT and self.awaits_posts
        if put_off and self._is_known(name):
            return
        if put_off:
            with self._lock:
                self._admission.put_off(name, hint, _POST_FOLLOWS)
            return
        with self._turn.taken():
            self._look(name, hint, [])

    def post(self, name: str, waiter: Waiter | None = None, *, helping: bool = False) -> Waiter | None:
        """Start, join or repeat a request; the future gets its response. None: no such file (yet).

        Reads the file in the caller's thread. Raises Wrong for a name that no request file has. `helping`:
        the caller calls `take_now` next, so that no worker need be woken for it.
        """
        check_request_name(name)
        self._last_post = time.monotonic()
        waiter = waiter or new_waiter()
        if not self._open:
            if not self._staging.has(name) and self.response(name) is None:
                return None
            with self._lock:
                if not self._open:
                    self._early.append((name, waiter))
                    return waiter
        return waiter if self._posted(name, waiter, helping=helping) else None

    @property
    def awaits_posts(self) -> bool:
        """Tell whether clients POST at the moment: then what they drop is looked at when they do."""
        return time.monotonic() - self._last_post < _POSTS_LATELY

    def _posted(self, name: str, waiter: Waiter, *, helping: bool = False) -> bool:
        looked = self._look(name, Hint.POSTED, [waiter], helped=helping)
        return looked or self._posted_without_file(name, waiter)

    def _posted_without_file(self, name: str, waiter: Waiter) -> bool:
        """Join what is known by that name, though its file is gone; False if nothing is."""
        with self._ledger.changing() as after:
            at_hand = self._ledger.running.get(name) or self._ledger.queue.get(name)
            if at_hand is not None:
                self._ledger.join(at_hand, [waiter], after)
                return True
        recorded = self.response(name)
        if recorded is not None:
            tell([waiter], recorded)
        return recorded is not None

    def _look(
        self,
        name: str,
        hint: Hint,
        waiters: list[Waiter],
        waiting: Waiting | None = None,
        *,
        helped: bool = False,
    ) -> bool:
        """Look at a file, and have it decided what becomes of it; False if a POST finds none."""
        self._stir()
        try:
            admitted = False
            while not admitted:
                known = self._admission.known(name, waiting)
                look = self._intake.look(name, hint, known.waiting.look if known.waiting else None)
                if isinstance(look, Gone) and hint is Hint.POSTED:
                    return False
                admitted = self._admission.admit(look, hint, waiters, known, helped=helped)
        except Exception:  # noqa: BLE001  whoever looks serves everybody: no file may end that
            _log.exception("request file could not be judged", request=name)
            tell(waiters, self._ledger.nameless(name, 500, "gobblerd failed to look at the request file"))
        return True

    def _look_instead(self, name: str, waiters: list[Waiter]) -> None:
        self._look(name, Hint.RENAMED, waiters)

    def _look_again(self, waiting: Waiting) -> None:
        if waiting.is_unseen and not waiting.waiters and self._is_known(waiting.name):
            return
        waiters, waiting.waiters = waiting.waiters, []
        self._look(waiting.name, waiting.hint, waiters, waiting)

    def _is_known(self, name: str) -> bool:
        """Tell whether what is there now under a name is a request that is known: its POST has come."""
        try:
            identity = self._staging.identity(name)
        except OSError:
            return False
        with self._lock:
            return self._is_at_hand(identity)

    def _keep_time(self) -> None:
        """Look again at incomplete files when they are due, and at staging when there is room again."""
        while True:
            with self._lock:
                due: list[Waiting] = []
                rescan = False
                while not (due or rescan or self._stopped):
                    due = self._ledger.settling.due(time.monotonic())
                    rescan = self._ledger.ready and not self._ledger.draining and self._admission.room_again()
                    if not due and not rescan:
                        self._ledger.tick.wait(self._ledger.settling.until_next(time.monotonic()))
                if self._stopped:
                    return
            for waiting in due:
                self._look_again(waiting)
            if rescan:
                self._sweep()

    def _sweep(self) -> None:
        try:
            sweep(self._staging, self)
        except OSError as error:
            _log.warning("staging cannot be listed", error=str(error))

    def knows(self, identity: Identity) -> bool:
        """Tell whether a request is answered, queued, running, waited for or to be taken over."""
        name = identity.name
        with self._lock:
            if name in self._ledger.settling or (name, identity.inode) in self._admission.listed:
                return True
            return self._is_at_hand(identity)

    def _is_at_hand(self, identity: Identity) -> bool:
        """Tell whether a request is running, queued or answered; under the lock."""
        ledger = self._ledger
        at_hand = (ledger.running.get(identity.name), ledger.queue.get(identity.name))
        if any(entry is not None and entry.identity.key == identity.key for entry in at_hand):
            return True
        return ledger.index.knows(identity)

    def has_room(self, uid: int) -> bool:
        """Tell whether a request of this user can be queued; if not, staging is looked at when it can."""
        try:
            administrator = self._is_administrator(self._intake.name_of(uid))
        except NameServiceFailed:
            administrator = False
        with self._lock:
            full = self._ledger.queue.is_full(uid, self._limits(), administrator=administrator)
            if full:
                self._admission.overflow.add(uid)
            return not full

    @property
    def unsettled(self) -> bool:
        """Tell whether files are waited for, or left in staging for want of room: sweep even if idle."""
        with self._lock:
            return bool(len(self._ledger.settling) or self._admission.overflow)

    # What is going on

    def response(self, name: str) -> Response | None:
        """Return what is recorded under a request's file name."""
        try:
            check_request_name(name)
            return self._ledger.files.read(name)
        except (Wrong, OSError):
            return None

    def progress(self, name: str) -> Progress | None:
        """Return how far a queued or running request is; a new one counts before a running old one."""
        with self._lock:
            queued = self._ledger.queue.get(name)
            if queued is not None:
                return Progress("queued", self._ledger.queue.ahead(queued))
            running = self._ledger.running.get(name)
            if running is None:
                return None
            return Progress("running", 0, running.bytes_done, running.bytes_total)

    def snapshot(self) -> SpoolStatus:
        """Return what is going on."""
        return self._ledger.snapshot(ready=self._open, overflowed=bool(self._admission.overflow))

    def purge(self, now: int, ages: PurgeAges, is_archive: Callable[[str], bool]) -> PurgeCounts:
        """Remove what is older than its age at `now` (nanoseconds): request files, responses, uploads."""
        complete = self._open and not self._admission.overflow and not self._admission.listed
        return purge(self._staging, self._ledger, now, ages, is_archive, all_known=complete)
