"""Every request at hand, under one lock: queued, running, not settled yet, answered; and how it is answered.

A name in `running` has exactly one who is responsible for its response: a worker, or the clerk. So two
responses for one name are never written at the same time, and an identity is never executed beside
another of its name. Order of an answer: file durable, index, those who wait.

No I/O under the lock. What is to be done after it is released is appended to the list that `changing`
yields.
"""

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import structlog

from gobblerd.domain.messages import Identity, Response, action_of, error_body
from gobblerd.staging.attempts import Attempts
from gobblerd.staging.clerk import Clerk
from gobblerd.staging.directory import Staging
from gobblerd.staging.index import Answered, Index, is_same
from gobblerd.staging.look import Found, Refusal
from gobblerd.staging.queue import Entry, FairQueue, Lane
from gobblerd.staging.responses import ResponseFiles, error_response
from gobblerd.staging.settle import Settling
from gobblerd.staging.status import AtHand, Recent, SpoolStatus

_log = structlog.get_logger()
_RECENT_MOST = 50
_REASON_MOST = 300  # characters of a reason that are shown

Waiter = Future[Response]
After = list[Callable[[], None]]
Answering = Callable[[str, int, float], None]  # told of each answer: action, code, seconds since taken up

GONE = "withdrawn: the request file is gone"
REPLACED = "withdrawn: the request file was replaced before its turn came"
STOPPING = "gobblerd is shutting down; nothing was done, drop a new file to try again"
UNWRITTEN = (
    "the response cannot be written at the moment, and is being tried again: "
    "see the response file for how the request ended"
)


def new_waiter() -> Waiter:
    """Return a future that its client cannot cancel: a begun request is finished."""
    waiter: Waiter = Future()
    waiter.set_running_or_notify_cancel()
    return waiter


def unobserved(_action: str, _code: int, _seconds: float) -> None:
    """Do nothing: nobody counts the answers."""


def tell(waiters: Iterable[Waiter], response: Response) -> None:
    """Give those who wait their answer."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(response)


class _Changing:
    """What `Ledger.changing` returns; a class, since each request does that four times."""

    __slots__ = ("_after", "_lock")

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock
        self._after: After = []

    def __enter__(self) -> After:
        self._lock.acquire()
        return self._after

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._lock.release()
        if kind is None:
            for do in self._after:
                do()


class Ledger:
    """The requests at hand. Methods that take `after` are called within `changing`, the others outside."""

    def __init__(self, staging: Staging, answered: Answering = unobserved) -> None:
        self._staging = staging
        self._answered = answered
        self.lock = threading.Lock()
        self._work = {lane: threading.Condition(self.lock) for lane in Lane}  # something to take
        self.tick = threading.Condition(self.lock)  # for the thread that looks again
        self.queue = FairQueue()
        self.running: dict[str, Entry] = {}
        self.settling = Settling()
        self.index = Index()
        self.recent: deque[Recent] = deque(maxlen=_RECENT_MOST)
        self.ready = False  # claims may be handed out
        self.draining = False
        self.files = ResponseFiles(staging)
        self.attempts = Attempts(staging.responses_fd)
        self.clerk = Clerk()

    def changing(self) -> "_Changing":
        """Hold the lock; afterwards do what was appended."""
        return _Changing(self.lock)

    def entry(self, look: Found | Refusal, waiters: list[Waiter]) -> Entry:
        """Make the entry of what was found in a file."""
        return Entry(
            identity=look.identity,
            action=look.action,
            uid=look.uid,
            user=look.user,
            since=time.monotonic(),
            claim=look if isinstance(look, Found) else None,
            waiters=list(waiters),
            handle=look.handle,
        )

    def await_work(self, lane: Lane) -> None:
        """Wait, the lock released meanwhile, until there may be something to take in a lane."""
        self._work[lane].wait()

    def wake(self, lane: Lane) -> None:
        """Have one of those who wait look, if there is something to take."""
        if self.queue.count(lane):
            self._work[lane].notify()

    def wake_all(self) -> None:
        """Have everybody who waits look: the time has come to begin, or to end."""
        for work in self._work.values():
            work.notify_all()

    def freed(self) -> None:
        """Have one of each lane look, where there is something: a name or a slot has come free."""
        self.wake(Lane.SHORT)
        self.wake(Lane.LONG)

    def join(self, entry: Entry, waiters: list[Waiter], after: After) -> None:
        """Let these wait for the entry's response as well."""
        if entry.interim is not None:
            after.append(partial(tell, list(waiters), entry.interim))
        else:
            entry.waiters += waiters

    def withdraw(self, entry: Entry, reason: str, after: After) -> None:
        """Neither execute nor answer an entry: its file is gone, or is another request by now."""
        self.drop(entry)
        waiters, entry.waiters = entry.waiters, []
        if waiters:
            after.append(lambda: tell(waiters, self.response(entry, 400, reason)))

    def answer(self, entry: Entry, code: int, reason: str, after: After) -> None:
        """Have the clerk answer an entry that is not executed; no other of its name may be running."""
        if self.queue.get(entry.name) is entry:
            self.queue.remove(entry)
        assert self.running.get(entry.name) in {None, entry}
        self.running[entry.name] = entry
        self.index.see(entry.identity, entry.handle, time.monotonic())

        def write() -> None:
            self.write(entry, self.response(entry, code, reason))

        after.append(partial(self.clerk.do, entry.name, write))

    def readdress(self, entry: Entry, answered: Answered, after: After) -> None:
        """Record the answer of a request whose file was touched since under its present identity.

        Else the touched file would be a new request after a restart.
        """
        self.running[entry.name] = entry

        def write() -> None:
            recorded = self.files.read(entry.name)
            if recorded is None:  # purged, or removed by hand: nothing to keep
                with self.changing() as then:
                    self.withdraw(entry, "the recorded response is gone", then)
            else:
                self.write(entry, replace(recorded, identity=entry.identity), at=answered.at)

        after.append(partial(self.clerk.do, entry.name, write))

    def nameless(self, name: str, code: int, reason: str) -> Response:
        """Make an answer to a POST that is about no identity, and is not recorded."""
        entry = Entry(Identity(name, 0, 0, 0), action_of(name) or "", -1, "", 0.0)
        return self.response(entry, code, reason)

    def response(self, entry: Entry, code: int, reason: str) -> Response:
        """Make a response of our own."""
        try:
            now = self._staging.clock.now()
        except OSError:  # who waits must be told all the same
            now = time.time_ns()
        return error_response(entry.identity, entry.action, entry.user, code, reason, now=now)

    def write(
        self, entry: Entry, response: Response, at: float | None = None, *, recorded: bool = False
    ) -> None:
        """Write an entry's response and tell those who wait; OSError if it cannot be written now.

        Those who wait are then told a 500, and the entry stays running: it is not executed again. `at`:
        the response is on disk already, since then, and is only recorded for another mtime.
        """
        if response.identity is not entry.identity:
            response = replace(response, identity=entry.identity)
        try:
            self.files.write(response, recorded=recorded)
        except OSError:
            unwritten = replace(response, code=500, body=error_body(UNWRITTEN))
            self.tell_meanwhile(entry, unwritten if at is None else response)
            raise
        self.attempts.answered(entry.name)
        self.finish(entry, response, at)

    def write_or_retry(self, entry: Entry, response: Response, *, recorded: bool = False) -> bool:
        """Write an entry's response here and now, or return False: the clerk then goes on trying."""
        try:
            self.write(entry, response, recorded=recorded)
        except OSError as error:
            _log.error("response could not be written", request=entry.name, error=str(error))
            self.clerk.do(entry.name, lambda: self.write(entry, response), failed=True)
            return False
        return True

    def tell_meanwhile(self, entry: Entry, response: Response) -> None:
        """Tell those who wait, and those who will, this for now; the entry stays running."""
        with self.changing() as after:
            entry.interim = response
            waiters, entry.waiters = entry.waiters, []
            after.append(partial(tell, waiters, response))

    def finish(self, entry: Entry, response: Response, at: float | None = None) -> None:
        """Remember what is durable now, and tell those who wait."""
        with self.changing() as after:
            now = time.monotonic()
            self.index.record(response.identity, response.code, now if at is None else at)
            if self.running.get(entry.name) is entry:
                del self.running[entry.name]
            if at is None:
                self.recent.append(_recent(entry, response, now))
                after.append(partial(self._answered, entry.action, response.code, now - entry.since))
            waiters, entry.waiters = entry.waiters, []
            after.append(partial(tell, waiters, response))
            self.freed()
            self.turn_away(self.queue.get(entry.name), after)

    @contextlib.contextmanager
    def delivering(self, identity: Identity) -> Iterator[None]:
        """Let those who ask for a request from now on wait, while recovery writes its response.

        Else a POST could still be told the interim answer when the response can be seen already.
        """
        with self.lock:
            entry = self.running_as(identity)
            interim = entry.interim if entry is not None else None
            if entry is not None:
                entry.interim = None
        try:
            yield
        except OSError:
            if entry is not None and interim is not None:
                self.tell_meanwhile(entry, interim)
            raise

    def delivered(self, response: Response) -> None:
        """Remember a response that recovery has written, and tell those who wait for it."""
        identity = response.identity
        with self.changing() as after:
            self.index.record(identity, response.code, time.monotonic())
            queued = self.queue.get(identity.name)
            for entry in (self.running_as(identity), queued):
                if entry is None or not is_same(entry.identity, identity):
                    continue
                waiters, entry.waiters = entry.waiters, []
                after.append(partial(tell, waiters, response))
                self.drop(entry)
            self.turn_away(self.queue.get(identity.name), after)

    def drop(self, entry: Entry) -> None:
        """Take an entry out, wherever it is."""
        if self.queue.get(entry.name) is entry:
            self.queue.remove(entry)
        if self.running.get(entry.name) is entry:
            del self.running[entry.name]
        self.freed()

    def turn_away(self, queued: Entry | None, after: After) -> None:
        """While draining, answer 503 to a queued entry that a POST waits for, unless its name is running."""
        if queued is not None and self.draining and queued.waiters and queued.name not in self.running:
            self.answer(queued, 503, STOPPING, after)

    def running_as(self, identity: Identity) -> Entry | None:
        """Return the running entry that is this request."""
        entry = self.running.get(identity.name)
        return entry if entry is not None and is_same(entry.identity, identity) else None

    def snapshot(self, *, ready: bool, overflowed: bool) -> SpoolStatus:
        """Return what is going on."""
        with self.lock:
            waiting, now = self.queue.entries(), time.monotonic()
            at_hand = [*waiting, *self.running.values()]
            shown = itertools.islice((*self.running.values(), *waiting), _RECENT_MOST)
            return SpoolStatus(
                ready=ready,
                draining=self.draining,
                queued={lane.value: sum(e.lane is lane for e in waiting) for lane in Lane},
                running={
                    lane.value: sum(e.taken and e.lane is lane for e in self.running.values())
                    for lane in Lane
                },
                unsettled=len(self.settling),
                unwritten=sum(not e.taken or e.interim is not None for e in self.running.values()),
                overflowed=overflowed,
                answered=len(self.index),
                oldest_seconds=max((now - e.since for e in at_hand), default=0.0),
                at_hand=tuple(_at_hand(entry, now) for entry in shown),
                recent=tuple(self.recent),
            )

    def stop(self) -> None:
        """End the clerk's thread."""
        self.clerk.stop()
        self.attempts.close()


def _recent(entry: Entry, response: Response, now: float) -> Recent:
    reason = str(response.body.get("reason", ""))
    seconds = now - entry.since
    return Recent(
        entry.name, entry.user, entry.action, response.code, seconds, response.finished, reason[:_REASON_MOST]
    )


def _at_hand(entry: Entry, now: float) -> AtHand:
    state = "running" if entry.taken else "queued"
    seconds = now - entry.since
    return AtHand(entry.name, entry.user, entry.action, state, seconds, entry.bytes_done, entry.bytes_total)
