"""Times as the registry writes them (spec/details.md, "Values"): RFC 3339, as whole nanoseconds in memory.

Nanoseconds since the epoch compare exactly, whatever fraction a writer chose.
"""

import functools
import re
from datetime import UTC, datetime, timedelta

_FORM = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d+))?(?:Z|([+-])(\d{2}):(\d{2}))",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANOSECONDS = 1_000_000_000
MICROSECOND = 1_000
_SECONDS_END = len("YYYY-MM-DDThh:mm:ss")


def parse_time(text: str) -> int:
    """Return the nanoseconds since the epoch of `YYYY-MM-DDThh:mm:ss[.fraction](Z|+hh:mm|-hh:mm)`.

    Raises ValueError for any other form and for dates and hours that do not exist.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("not a time of the form YYYY-MM-DDThh:mm:ssZ")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC) - _offset(found)
    except OverflowError:
        raise ValueError("not a time of the years 1 to 9999") from None
    fraction = int((found[7] or "0")[:9].ljust(9, "0"))
    whole = moment - _EPOCH
    return (whole.days * 86400 + whole.seconds) * NANOSECONDS + fraction


def _offset(found: re.Match[str]) -> timedelta:
    if found[8] is None:
        return timedelta(0)
    hours, minutes = int(found[9]), int(found[10])
    if hours > 23 or minutes > 59:  # noqa: PLR2004
        raise ValueError("not an offset")
    size = timedelta(hours=hours, minutes=minutes)
    return size if found[8] == "+" else -size


def format_time(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with microseconds, for example 2026-11-20T10:37:45.123456Z."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return f"{_to_the_second(seconds)}.{rest // 1000:06d}Z"


def format_seconds(nanoseconds: int) -> str:
    """Return RFC 3339 in UTC with whole seconds, as the names of event files have it."""
    return f"{_to_the_second(nanoseconds // NANOSECONDS)}Z"


@functools.lru_cache(maxsize=16)  # a busy daemon asks for the same second again and again
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()[:_SECONDS_END]


def year_of(nanoseconds: int) -> int:
    """Return the calendar year (UTC)."""
    return (_EPOCH + timedelta(seconds=nanoseconds // NANOSECONDS)).year
