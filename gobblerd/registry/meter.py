"""How far a long action has come."""

from collections.abc import Callable

Tick = Callable[[int], None]  # told of bytes as they are done; raises to cancel
Progress = Callable[[int, int], None]  # bytes done, bytes in all; raises to cancel


class Meter:
    """Counts bytes and tells of them; `tick` raises what `progress` raises to cancel."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def tick(self, size: int) -> None:
        """Count bytes that were read; more than were announced only raise the total."""
        self._done += size
        self._progress(self._done, max(self._done, self._total))
