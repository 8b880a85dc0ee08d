"""What an audit goes by, and how much of a version one look is at."""

from collections.abc import Callable
from dataclasses import dataclass

from gobblerd.registry.metadata import Metadata


@dataclass(frozen=True)
class Terms:
    """What an audit goes by: the registry, its owner's UID, the whitelist, and whether bytes are left out.

    `now` is this machine's clock, in nanoseconds: a read-only look cannot ask the file server's.
    """

    metadata: Metadata
    owner: int
    whitelist: tuple[str, ...]
    fast: bool
    now: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Span:
    """Some of a version's files, by path: from `begin` up to, but without, `end` (None: to the last).

    The span that begins with "" has all the rest of the version too: whatever is found without reading bytes.
    """

    begin: str = ""
    end: str | None = None

    @property
    def has_rest(self) -> bool:
        """Tell whether everything but bytes belongs to it."""
        return not self.begin

    @property
    def is_whole(self) -> bool:
        """Tell whether it is the whole version."""
        return not self.begin and self.end is None

    def holds(self, path: str) -> bool:
        """Tell whether the bytes of the file at this path belong to it."""
        return self.begin <= path and (self.end is None or path < self.end)


WHOLE = Span()
