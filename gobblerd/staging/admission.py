"""What becomes of what intake found in a file: the one place that decides.

Joined to the same request where that is queued, running or answered; else refused, queued, waited for, or
left in staging until there is room. Everything here happens under the ledger's lock, in memory.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Identity, Response, action_of
from gobblerd.staging.index import Answered, is_same
from gobblerd.staging.ledger import GONE, REPLACED, STOPPING, After, Ledger, Waiter, tell
from gobblerd.staging.look import Found, Gone, Hint, Look, Refusal, Unsettled
from gobblerd.staging.queue import Entry, Lane
from gobblerd.staging.settings import SpoolLimits
from gobblerd.staging.settle import Waiting
from gobblerd.staging.takeover import REASON, Listed

_log = structlog.get_logger()
_POSTPONED = 0.1  # seconds; another request of that name is running
FULL = "the queue is full; nothing was done, drop a new file in a while"
UNREADABLE = "the request file cannot be read at the moment; it stays in staging and is tried again"


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a name at one moment."""

    name: str
    answered: Answered | None
    waiting: Waiting | None


class Admission:
    """Decides; `listed` is what is to be taken over, `overflow` who has more in staging than was let in."""

    def __init__(
        self,
        ledger: Ledger,
        limits: Callable[[], SpoolLimits],
        is_long: Callable[[str], bool],
        is_administrator: Callable[[str], bool],
    ) -> None:
        self._ledger = ledger
        self._limits = limits
        self._is_long = is_long
        self._is_administrator = is_administrator
        self.listed: Listed = frozenset()
        self.overflow: set[int] = set()

    def admit(
        self, look: Look, hint: Hint, waiters: list[Waiter], known: Known, *, helped: bool = False
    ) -> bool:
        """Decide about what was found; `known` is what was known of the name before it was looked at.

        `helped`: the caller takes it next, so that no worker need be woken for it.

        False, and nothing is decided, if the name was answered meanwhile: what was seen may be an older
        file than the one that was executed. Then look again.
        """
        with self._ledger.changing() as after:
            if self._ledger.index.answered(known.name) is not known.answered:
                return False
            if isinstance(look, Gone):
                waiting = self._ledger.settling.remove(look.name)
                lost = waiters + (waiting.waiters if waiting else [])
                after.append(lambda: tell(lost, self.in_memory(look.name, 400, GONE)))
            elif isinstance(look, Unsettled):
                self._wait(look, hint, waiters, known.waiting, after)
            else:
                assert isinstance(look, Found | Refusal)
                self._arrived(look, waiters, after)
                if not helped:
                    self._ledger.freed()
        return True

    def put_off(self, name: str, hint: Hint, seconds: float) -> None:
        """Have a file looked at a little later, unless its POST comes first; under the lock."""
        ledger, now = self._ledger, time.monotonic()
        following = ledger.settling.until_next(now)
        ledger.settling.put(hint, Unsettled(name, seconds), now)
        if following is None or following > seconds:
            ledger.tick.notify()

    def known(self, name: str, waiting: Waiting | None = None) -> Known:
        """Return what is known of a name, to be passed to `admit` with what is then found."""
        with self._ledger.lock:
            return Known(name, self._ledger.index.answered(name), waiting or self._ledger.settling.get(name))

    def in_memory(self, name: str, code: int, reason: str) -> Response:
        """Make an answer to a POST that is not recorded: it is about no identity."""
        return self._ledger.nameless(name, code, reason)

    def room_again(self) -> bool:
        """Tell, once, that there is room for what was left in staging."""
        limits = self._limits()
        room = len(self._ledger.settling) <= limits.max_queued // 2
        if room and any(self._ledger.queue.has_emptied(uid, limits) for uid in self.overflow):
            self.overflow.clear()
            return True
        return False

    def may_go(self) -> Callable[[Entry], bool]:
        """Return what tells whether an entry may be handed out now."""
        ledger, limits = self._ledger, self._limits()
        slots = limits.long_slots
        # What is performed or told already, and only waits to be written or finished, keeps no thread busy.
        taken = [
            entry
            for entry in ledger.running.values()
            if entry.taken and not entry.performed and entry.interim is None
        ]
        short = sum([entry.lane is Lane.SHORT for entry in taken])
        short_free, long_free = short < limits.short_slots, len(taken) - short < slots

        def held_by(uid: int) -> int:
            return sum(entry.lane is Lane.LONG and entry.uid == uid for entry in taken)

        def may(entry: Entry) -> bool:
            if entry.name in ledger.running:
                return False
            if entry.lane is Lane.SHORT:
                return short_free
            return long_free and (slots <= 1 or held_by(entry.uid) < slots - 1)

        return may

    def _arrived(self, look: Found | Refusal, waiters: list[Waiter], after: After) -> None:
        name = look.identity.name
        if waiting := self._ledger.settling.remove(name):
            waiters = waiters + waiting.waiters
        if self._joined(look, waiters, after):
            return
        if queued := self._ledger.queue.get(name):
            self._ledger.withdraw(queued, REPLACED, after)
        judged = self._refused(look)
        if isinstance(judged, Refusal):
            self._answer(self._ledger.entry(judged, waiters), judged.code, judged.reason, after)
        else:
            self._enqueue(judged, waiters, after)

    def _refused(self, look: Found | Refusal) -> Found | Refusal:
        """Return the refusal of what may never be executed, whatever it holds; else `look`."""
        if (look.identity.name, look.identity.inode) in self.listed:
            return _refusal(look, 400, REASON)
        other = self._ledger.index.other_name(look.identity, look.handle)
        if isinstance(look, Found) and other is not None:
            error = Wrong("this very file was a request under the name {other}: drop a new file", other=other)
            return _refusal(look, 400, error.reason)
        return look

    def _joined(self, look: Found | Refusal, waiters: list[Waiter], after: After) -> bool:
        """Let the waiters have the answer of the same request, if it is at hand or answered."""
        ledger, identity = self._ledger, look.identity
        if running := ledger.running_as(identity):
            running.identity = _newest(running, look)
            ledger.join(running, waiters, after)
            return True
        queued = ledger.queue.get(identity.name)
        if queued is not None and is_same(queued.identity, identity):
            queued.identity = _newest(queued, look)
            queued.claim = look if isinstance(look, Found) else queued.claim
            ledger.join(queued, waiters, after)
            ledger.turn_away(queued, after)
            return True
        answered = ledger.index.find(identity, time.monotonic(), self._limits().request_settle)
        if answered is None:
            return False
        if answered.identity.key != identity.key and identity.name not in ledger.running:
            ledger.readdress(ledger.entry(look, waiters), answered, after)
        elif waiters:
            after.append(partial(self._repeat, identity.name, waiters))
        return True

    def _repeat(self, name: str, waiters: list[Waiter]) -> None:
        try:
            recorded = self._ledger.files.read(name)
        except OSError as error:
            _log.warning("response cannot be read", request=name, error=str(error))
            recorded = None
        reason = "this request is answered, but its response cannot be read at the moment"
        tell(waiters, recorded or self.in_memory(name, 500, reason))

    def _answer(self, entry: Entry, code: int, reason: str, after: After) -> None:
        """Answer without executing, once no other request of that name is running."""
        if entry.name in self._ledger.running:
            self._postpone(entry.name, entry.waiters)
        else:
            self._ledger.answer(entry, code, reason, after)

    def _postpone(self, name: str, waiters: list[Waiter]) -> None:
        look = Unsettled(name, _POSTPONED)
        self._ledger.settling.put(Hint.RENAMED, look, time.monotonic()).waiters += waiters
        self._ledger.tick.notify()

    def _enqueue(self, look: Found, waiters: list[Waiter], after: After) -> None:
        ledger = self._ledger
        entry = ledger.entry(look, waiters)
        entry.administrator = self._is_administrator(look.user)
        entry.lane = Lane.LONG if self._is_long(look.action) else Lane.SHORT
        full = ledger.queue.is_full(look.uid, self._limits(), administrator=entry.administrator)
        if full or ledger.draining:
            if waiters:
                self._answer(entry, 503, STOPPING if ledger.draining else FULL, after)
            else:
                self.overflow.add(look.uid)
            return
        ledger.queue.put(entry)
        ledger.index.see(look.identity, look.handle, time.monotonic())

    def _wait(
        self, look: Unsettled, hint: Hint, waiters: list[Waiter], before: Waiting | None, after: After
    ) -> None:
        """Look again later, at the latest when `look` says."""
        ledger, now = self._ledger, time.monotonic()
        identity = look.identity
        if identity is not None and (
            (identity.name, identity.inode) in self.listed or (ledger.draining and waiters)
        ):
            code, reason = (503, STOPPING) if ledger.draining else (400, REASON)
            self._arrived(
                Refusal(identity, action_of(look.name) or "", look.uid, look.user, code, reason),
                waiters,
                after,
            )
            return
        if look.trouble and not (before and before.look.trouble):
            _log.warning("request file cannot be judged", request=look.name, error=look.trouble)
        if (
            not waiters
            and look.name not in ledger.settling
            and len(ledger.settling) >= self._limits().max_queued
        ):
            self.overflow.add(look.uid)
            return
        later = Hint.RENAMED if hint is Hint.POSTED else hint
        waiting = ledger.settling.put(later, look, now, before)
        waiting.waiters += waiters
        if look.trouble and (ledger.draining or now - waiting.first > self._limits().request_settle):
            lost, waiting.waiters = waiting.waiters, []
            after.append(lambda: tell(lost, self.in_memory(look.name, 500, UNREADABLE)))
        ledger.tick.notify()


def _newest(entry: Entry, look: Found | Refusal) -> Identity:
    """Return the identity after a late touch; a look that read nothing keeps the digest."""
    digest = look.identity.digest or entry.identity.digest
    return replace(look.identity, digest=digest)


def _refusal(look: Found | Refusal, code: int, reason: str) -> Refusal:
    return Refusal(look.identity, look.action, look.uid, look.user, code, reason, look.handle)
