"""What a look at a request file can find (intake.py looks, admission.py decides)."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gobblerd.domain.messages import Claim, Identity
from gobblerd.staging.users import NOBODY


class Hint(StrEnum):
    """How we heard of a name."""

    CLOSED = "closed"  # written in place, and closed
    RENAMED = "renamed"  # moved in: complete
    SWEPT = "swept"  # found by listing the directory
    POSTED = "posted"  # named by a client


class Stamp(NamedTuple):
    """What changes whenever a file does."""

    inode: int
    mtime_ns: int
    size: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Gone:
    """There is no such file (any more)."""

    name: str


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Not complete yet, or not judgeable now: look again after `wait` seconds at the latest.

    `trouble` is set when storage or name service failed; then `identity` may be unknown. `since` is the
    monotonic time at which this very state of the file was first seen.
    """

    name: str
    wait: float
    trouble: str = ""
    identity: Identity | None = None
    uid: int = NOBODY
    user: str = ""
    stamp: Stamp | None = None
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is answered without being executed."""

    identity: Identity
    action: str
    uid: int
    user: str
    code: int
    reason: str
    handle: bytes = b""


@dataclass(frozen=True, slots=True)
class Found(Claim):
    """A claim with the handle of its file (b"": none), which no other file ever has."""

    handle: bytes = b""


Look = Gone | Unsettled | Refusal | Claim
