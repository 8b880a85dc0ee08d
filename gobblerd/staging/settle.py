"""Files that were seen but are not complete yet, and when to look at each again.

Pure bookkeeping, not thread-safe: the spool's lock guards it. Times are monotonic seconds.
"""

import heapq
from concurrent.futures import Future
from dataclasses import dataclass, field

from gobblerd.domain.messages import Response
from gobblerd.staging.look import Hint, Unsettled

_PAUSE_FIRST = 0.1
_PAUSE_MOST = 1.0


@dataclass(slots=True, eq=False)
class Waiting:
    """A name to look at again; `pause` is how long at the most, and doubles each time."""

    name: str
    hint: Hint
    due: float
    pause: float
    look: Unsettled
    first: float  # when the name was first seen
    waiters: list[Future[Response]] = field(default_factory=list)

    @property
    def is_unseen(self) -> bool:
        """Tell whether nobody has looked at the file yet."""
        return self.look.identity is None and not self.look.trouble


class Settling:
    """The names that are waited for, by when they are due."""

    def __init__(self) -> None:
        self._names: dict[str, Waiting] = {}
        self._heap: list[tuple[float, int, str]] = []  # some are out of date: `_names` is what counts
        self._number = 0

    def __len__(self) -> int:
        """Count the names."""
        return len(self._names)

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is waited for."""
        return name in self._names

    def get(self, name: str) -> Waiting | None:
        """Return what is known of a name."""
        return self._names.get(name)

    def put(self, hint: Hint, look: Unsettled, now: float, before: Waiting | None = None) -> Waiting:
        """Wait for a name as `look` says; `before` is what was known of it when it was looked at."""
        name, current = look.name, self._names.get(look.name)
        old = current or before
        pause = min(old.pause * 2, _PAUSE_MOST) if old else _PAUSE_FIRST
        waiters = current.waiters if current else []
        due = now + min(look.wait, pause)
        waiting = Waiting(name, hint, due, pause, look, old.first if old else now, waiters)
        self._names[name] = waiting
        self._number += 1
        heapq.heappush(self._heap, (due, self._number, name))
        return waiting

    def remove(self, name: str) -> Waiting | None:
        """Wait for a name no longer."""
        return self._names.pop(name, None)

    def due(self, now: float) -> list[Waiting]:
        """Take out the names that are to be looked at by now."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, _, name = heapq.heappop(self._heap)
            if self._is_current(name, at):
                found.append(self._names.pop(name))
        return found

    def until_next(self, now: float) -> float | None:
        """Return the seconds until a name is due, None when there is none."""
        while self._heap and not self._is_current(self._heap[0][2], self._heap[0][0]):
            heapq.heappop(self._heap)
        return max(0.0, self._heap[0][0] - now) if self._heap else None

    def with_waiters(self) -> list[Waiting]:
        """Return the names that a POST waits for."""
        return [waiting for waiting in self._names.values() if waiting.waiters]

    def _is_current(self, name: str, due: float) -> bool:
        waiting = self._names.get(name)
        return waiting is not None and waiting.due == due
