"""Claims go out to whoever performs them, and come back with a response.

What is handed out is looked at once more, and its start is counted; from then on its name is `running` in the
ledger until its response is durable, or it is released. Thread-safe.
"""

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from gobblerd.domain.messages import Claim, Response, error_body
from gobblerd.staging.admission import Admission
from gobblerd.staging.attempts import ATTEMPTS_MAX
from gobblerd.staging.index import is_same
from gobblerd.staging.intake import Intake
from gobblerd.staging.ledger import GONE, REPLACED, STOPPING, Ledger, Waiter
from gobblerd.staging.look import Found, Gone, Look, Refusal, Unsettled
from gobblerd.staging.queue import Entry, Lane
from gobblerd.staging.responses import is_later

_log = structlog.get_logger()
DIED = (
    f"the daemon died each of the {ATTEMPTS_MAX} times that it tried this request, which is not tried again: "
    "nothing was done; tell whoever runs it before you drop it again"
)

PENDING = "committed, not finished: it is tried again, and the response file will follow"


class Claims:
    """The requests that are performed; `look_instead` is told of a name that is another request by now."""

    def __init__(
        self,
        ledger: Ledger,
        admission: Admission,
        intake: Intake,
        look_instead: Callable[[str, list[Waiter]], object],
    ) -> None:
        self._ledger = ledger
        self._lock = ledger.lock
        self._admission = admission
        self._intake = intake
        self._look_instead = look_instead

    # They go out

    def wait(self, lane: Lane) -> bool:
        """Wait until there is something to take in a lane (another may be faster); False once draining."""
        with self._lock:
            while not self._ledger.draining:
                if self._ledger.ready and self._ledger.queue.has(lane, self._admission.may_go()):
                    return True
                self._ledger.await_work(lane)
            return False

    def lane_of(self, name: str) -> Lane | None:
        """Return the lane in which a request waits for somebody to take it, if it does."""
        with self._lock:
            entry = self._ledger.queue.get(name)
            return None if entry is None else entry.lane

    def wake(self, lane: Lane) -> None:
        """Have one of those who wait for work in a lane look, if there is some."""
        with self._lock:
            self._ledger.wake(lane)

    def take_now(self, lane: Lane, just_seen: str = "") -> Claim | None:
        """Return the next claim of a lane if there is one and a slot for it.

        `just_seen` names a file that the caller has just looked at, by `post`: it is not looked at again.
        """
        while (entry := self._next(lane)) is not None:
            claim = self._begun(entry, seen=entry.name == just_seen)
            if claim is not None:
                return claim
        return None

    def _next(self, lane: Lane) -> Entry | None:
        """Take the entry whose turn it is out of the queue; it is running from here on."""
        with self._lock:
            if self._ledger.draining or not self._ledger.ready:
                return None
            entry = self._ledger.queue.take(lane, self._admission.may_go())
            if entry is not None:
                self._ledger.running[entry.name] = entry
                entry.taken = True
                if self._admission.overflow:
                    self._ledger.tick.notify()  # there may be room
            return entry

    def _begun(self, entry: Entry, *, seen: bool) -> Claim | None:
        """Look once more at the file, and count the start; None if there is nothing to execute."""
        assert entry.claim is not None
        look = entry.claim if seen else self._intake.again(entry.claim)
        if not (isinstance(look, Found) and is_same(look.identity, entry.identity)):
            self._taken_back(entry, look)
            return None
        with self._lock:
            entry.identity, entry.claim = look.identity, look
        if not self._ledger.attempts.begin(look.identity):
            with self._ledger.changing() as after:
                self._ledger.answer(entry, 500, DIED, after)
            return None
        if self._ledger.draining:
            self.release(look)
            return None
        return look

    def _taken_back(self, entry: Entry, look: Look) -> None:
        """Deal with a file that is gone, is another request by now, or cannot be read."""
        waiters: list[Waiter] = []
        same = isinstance(look, Refusal) and is_same(look.identity, entry.identity)
        if same or (isinstance(look, Unsettled) and look.trouble):
            waiters, entry.waiters = entry.waiters, []
        with self._ledger.changing() as after:
            self._ledger.withdraw(entry, GONE if isinstance(look, Gone) else REPLACED, after)
        if not isinstance(look, Gone):
            self._look_instead(entry.name, waiters)

    # Responses come back

    def performed(self, claim: Claim) -> None:
        """Give back a claim's slot: it will be answered soon, and keeps nobody busy until then."""
        with self._lock:
            if (entry := self._ledger.running_as(claim.identity)) is not None:
                entry.performed = True

    def answer(self, claim: Claim, response: Response, *, recorded: bool = False) -> bool:
        """Record a claim's response durably, and tell the POSTs; tried again until it can be written.

        Returns whether it is durable by now. `recorded`: a transaction's record holds the response too, until
        after the next `sync_responses`.
        """
        with self._lock:
            entry = self._ledger.running_as(claim.identity)
        if entry is None:
            _log.info("answered a request that recovery had answered", request=claim.name)
            return self._delivered(response)
        return self._ledger.write_or_retry(entry, response, recorded=recorded)

    def prepare(self, response: Response) -> int | None:
        """Write beforehand what a transaction is about to record, to be put in place by `answer`; OSError.

        Returns a descriptor to be settled and closed, None where it is written later.
        """
        return self._ledger.files.prepare(response)

    def sync_responses(self) -> None:
        """Make every response that was written durable by itself; OSError."""
        self._ledger.files.sync()

    def _delivered(self, response: Response) -> bool:
        try:
            self.deliver(response)
        except OSError as error:
            _log.warning("response could not be written", request=response.identity.name, error=str(error))
            return False
        return True

    def unfinished(self, claim: Claim, response: Response) -> None:
        """Tell POSTs, now and later, that it is committed but not applied; it stays running."""
        with self._lock:
            entry = self._ledger.running_as(claim.identity)
        if entry is not None:
            self._ledger.tell_meanwhile(entry, response)

    def pending(self, response: Response) -> None:
        """Keep a request from being executed again that a daemon before this one has committed.

        It cannot be finished yet, so that there is no response to deliver: POSTs are told so until there is.
        May be called before `start`, and again.
        """
        ledger, identity = self._ledger, response.identity
        interim = replace(response, code=500, body=error_body(PENDING))
        with self._lock:
            if identity.name in ledger.running:
                return
            entry = Entry(identity, response.action, -1, response.user, time.monotonic(), taken=True)
            entry.performed, entry.interim = True, interim
            ledger.running[identity.name] = entry
            ledger.index.see(identity, b"", entry.since)

    def deliver(self, response: Response) -> None:
        """Record the response of a transaction found committed, unless its identity has one.

        May be called before `start`. Raises OSError if it cannot be written: keep the record then.
        """
        ledger, identity = self._ledger, response.identity
        recorded = ledger.files.read(identity.name)
        if recorded is None or (
            not is_same(recorded.identity, identity) and not is_later(recorded, response)
        ):
            with ledger.delivering(identity):
                ledger.files.write(response)
            recorded = response
        ledger.attempts.clear(identity.name)
        if is_same(recorded.identity, identity):
            ledger.delivered(recorded)

    def release(self, claim: Claim) -> None:
        """Take back a claim of which nothing was committed: 503 if a POST waits, else left in staging."""
        self._ledger.attempts.clear(claim.name)
        with self._ledger.changing() as after:
            entry = self._ledger.running_as(claim.identity)
            if entry is None:
                return
            if entry.waiters:
                self._ledger.answer(entry, 503, STOPPING, after)
            else:
                self._ledger.withdraw(entry, STOPPING, after)
                self._ledger.turn_away(self._ledger.queue.get(claim.name), after)

    def report_progress(self, name: str, bytes_done: int, bytes_total: int) -> None:
        """Note how far a running request is."""
        with self._lock:
            if (entry := self._ledger.running.get(name)) is not None:
                entry.bytes_done, entry.bytes_total = bytes_done, bytes_total
