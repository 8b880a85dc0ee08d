"""What the staging room tells about itself: to a waiting client, to `gobblerd status`, to the log."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request is: `state` is "queued" or "running"; `ahead` counts those before it."""

    state: str
    ahead: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class Recent:
    """A request answered lately; `seconds` from its being taken up to its response.

    `finished` is RFC 3339; `reason` is a refusal's sentence, else empty.
    """

    name: str
    user: str
    action: str
    code: int
    seconds: float
    finished: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AtHand:
    """A request that is "queued" or "running" since `seconds`; bytes as in `Progress`."""

    name: str
    user: str
    action: str
    state: str
    seconds: float
    bytes_done: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class SpoolStatus:
    """The queue at one moment; counts by lane, ages in seconds."""

    ready: bool  # what is answered is loaded, and what lay in staging has been seen
    draining: bool
    queued: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    unsettled: int = 0  # seen, but not complete yet
    unwritten: int = 0  # responses that could not be written so far
    overflowed: bool = False  # more lie in staging than the bounds let in
    answered: int = 0
    oldest_seconds: float = 0.0
    at_hand: tuple[AtHand, ...] = ()  # running, then queued; not more than `recent` holds
    recent: tuple[Recent, ...] = ()


@dataclass(frozen=True, slots=True)
class PurgeCounts:
    """What one purge removed, and how often it failed to."""

    requests: int = 0
    responses: int = 0
    uploads: int = 0
    failed: int = 0
