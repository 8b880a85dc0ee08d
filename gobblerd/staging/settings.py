"""What can be set about the staging room; fetched anew each time, since SIGHUP may change it.

Times are seconds. The defaults are those of spec/requests.md and spec/operations.md.
"""

from dataclasses import dataclass

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class SpoolLimits:
    """When a request file counts as complete or too old, and how many may wait."""

    max_request_bytes: int = 4 << 20
    request_settle: float = 10.0  # how long an incomplete file is waited for, and a late touch believed
    write_settle: float = 0.05  # how old a file closed in place must be
    request_expiry: float = _DAY
    post_expiry: float = 60.0
    max_queued: int = 10_000  # of ordinary users; administrators have as many again
    max_queued_per_user: int = 1_000
    short_slots: int = 1000  # short requests performed at once; others wait
    long_slots: int = 2  # one user never holds all of them


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How new request files are noticed: `mode` is "auto", "events" or "sweep"."""

    mode: str = "auto"
    sweep_interval_local: float = 30.0
    sweep_interval_remote: float = 2.0


@dataclass(frozen=True, slots=True)
class PurgeAges:
    """How old, by ctime, things in staging must be before they are removed."""

    requests: float = 7 * _DAY
    responses: float = _DAY
    uploads: float = 7 * _DAY
