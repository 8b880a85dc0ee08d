"""Whose turn it is: round-robin between users in each lane, administrators and others alternating.

Pure bookkeeping, not thread-safe: the spool's lock guards it. At most one entry per request file name.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import StrEnum

from gobblerd.domain.messages import Identity, Response
from gobblerd.staging.look import Found
from gobblerd.staging.settings import SpoolLimits


class Lane(StrEnum):
    """Short requests never wait for long ones."""

    SHORT = "short"
    LONG = "long"


@dataclass(slots=True, eq=False)
class Entry:
    """A request on its way from being taken up to its response."""

    identity: Identity
    action: str
    uid: int
    user: str
    since: float  # monotonic seconds
    claim: Found | None = None  # None: it will only be answered
    lane: Lane = Lane.SHORT
    administrator: bool = False
    waiters: list[Future[Response]] = field(default_factory=list)
    interim: Response | None = None  # what POSTs are told until the response can be written
    taken: bool = False  # a worker has it
    performed: bool = False  # and waits for its answer only
    handle: bytes = b""
    bytes_done: int = 0
    bytes_total: int = 0

    @property
    def name(self) -> str:
        """The request file's name."""
        return self.identity.name


class _Ring:
    """The users of one lane, in order of their turns, each with entries in order of arrival."""

    def __init__(self) -> None:
        self.users: dict[int, dict[str, Entry]] = {}
        self.size = 0

    def put(self, entry: Entry) -> None:
        self.size += 1
        self.users.setdefault(entry.uid, {})[entry.name] = entry

    def remove(self, entry: Entry) -> None:
        self.size -= 1
        mine = self.users[entry.uid]
        del mine[entry.name]
        if not mine:
            del self.users[entry.uid]

    def next(self, may: Callable[[Entry], bool]) -> Entry | None:
        """Return the first entry whose turn it is; that user's next turn comes after all others'."""
        for uid, mine in self.users.items():
            entry = next(filter(may, mine.values()), None)
            if entry is not None:
                self.users[uid] = self.users.pop(uid)
                return entry
        return None

    def ahead_of(self, entry: Entry) -> int:
        """Count the entries of this ring whose turn comes before that of `entry`, which is in it."""
        position = list(self.users[entry.uid]).index(entry.name)
        total, before = 0, True
        for uid, mine in self.users.items():
            if uid == entry.uid:
                total, before = total + position, False
            else:
                total += min(len(mine), position + before)
        return total


class FairQueue:
    """Entries that wait for a worker."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._rings = {(lane, first): _Ring() for lane in Lane for first in (True, False)}
        self._administrators_turn = dict.fromkeys(Lane, True)
        self._by_user: Counter[int] = Counter()
        self._ordinary = 0

    def __len__(self) -> int:
        """Count the waiting entries."""
        return len(self._entries)

    def get(self, name: str) -> Entry | None:
        """Return the entry that waits under a name."""
        return self._entries.get(name)

    def entries(self) -> list[Entry]:
        """Return all waiting entries."""
        return list(self._entries.values())

    def count(self, lane: Lane) -> int:
        """Count the entries waiting in a lane."""
        return self._rings[lane, True].size + self._rings[lane, False].size

    def has(self, lane: Lane, may: Callable[[Entry], bool]) -> bool:
        """Tell whether an entry waits in a lane that `may` go."""
        rings = (self._rings[lane, first] for first in (True, False))
        return any(may(entry) for ring in rings for mine in ring.users.values() for entry in mine.values())

    def put(self, entry: Entry) -> None:
        """Let `entry` wait for its turn."""
        assert entry.name not in self._entries
        self._entries[entry.name] = entry
        self._rings[entry.lane, entry.administrator].put(entry)
        self._by_user[entry.uid] += 1
        self._ordinary += not entry.administrator

    def remove(self, entry: Entry) -> None:
        """Take `entry` out, out of turn."""
        del self._entries[entry.name]
        self._rings[entry.lane, entry.administrator].remove(entry)
        self._by_user[entry.uid] -= 1
        if not self._by_user[entry.uid]:
            del self._by_user[entry.uid]
        self._ordinary -= not entry.administrator

    def take(self, lane: Lane, may: Callable[[Entry], bool]) -> Entry | None:
        """Take out the entry whose turn it is among those that `may` go; None if there is none."""
        turn = self._administrators_turn[lane]
        for administrators in (turn, not turn):
            entry = self._rings[lane, administrators].next(may)
            if entry is not None:
                self._administrators_turn[lane] = not administrators
                self.remove(entry)
                return entry
        return None

    def ahead(self, entry: Entry) -> int:
        """Estimate how many entries go before this one: its ring's, and as many of the other ring."""
        own = self._rings[entry.lane, entry.administrator].ahead_of(entry)
        other = self._rings[entry.lane, not entry.administrator]
        return own + min(own + 1, sum(len(mine) for mine in other.users.values()))

    def is_full(self, uid: int, limits: SpoolLimits, *, administrator: bool) -> bool:
        """Tell whether the bounds let in no more of this user."""
        if self._by_user[uid] >= limits.max_queued_per_user:
            return True
        total = len(self._entries) - self._ordinary if administrator else self._ordinary
        return total >= limits.max_queued

    def has_emptied(self, uid: int, limits: SpoolLimits) -> bool:
        """Tell whether a user who found it full finds it at most half full by now."""
        totals = (self._ordinary, len(self._entries) - self._ordinary)
        return self._by_user[uid] <= limits.max_queued_per_user // 2 and max(totals) <= limits.max_queued // 2
