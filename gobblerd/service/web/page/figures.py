"""Numbers, times and addresses as the page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlencode

T = TypeVar("T")

DASH = "\u2013"  # where there is nothing to tell
_STEP = 1000
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_SPANS = ((86400, "d"), (3600, "h"), (60, "min"))


def size(number: float | None) -> str:
    """Return a number of bytes with three digits and its unit (powers of 1000); a dash for None."""
    if number is None:
        return DASH
    unit = 0
    value = float(number)
    while abs(value) >= _STEP and unit < len(_UNITS) - 1:
        value /= _STEP
        unit += 1
    digits = 0 if unit == 0 or value >= 100 else 1 if value >= 10 else 2  # noqa: PLR2004 - three digits in all
    return f"{value:.{digits}f} {_UNITS[unit]}"


def count(number: int) -> str:
    """Return a number with its thousands apart."""
    return f"{number:,}"


def span(seconds: float | None) -> str:
    """Return a length of time in its greatest fitting unit; a dash for None."""
    if seconds is None:
        return DASH
    for unit, name in _SPANS:
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004


def moment(text: str | None) -> str:
    """Return an RFC 3339 time without its fraction: `2026-11-20 10:37:45 UTC`; others as they are."""
    if not text:
        return DASH
    whole, _, rest = text.partition(".")
    whole = whole.removesuffix("Z") if not rest or rest.endswith("Z") else text
    return f"{whole.replace('T', ' ', 1)} UTC" if text.endswith("Z") else text


def schedule(when: str) -> str:
    """Return when a job runs: `every 1.0 h` for seconds, `off` for nothing, cron texts as they are."""
    return (
        f"every {span(float(when))}"
        if when.replace(".", "", 1).isdecimal() and float(when)
        else when or "off"
    )


def here(**query: object) -> str:
    """Return the page's own address with another query; what is empty is left out."""
    kept = {key: str(value) for key, value in query.items() if value not in {"", None, 0}}
    return f"?{urlencode(kept, errors='surrogatepass')}" if kept else "?view=projects"


@dataclass(frozen=True, slots=True)
class Pager:
    """Which part of a long list is shown; counts from 1 in `first` and `last`."""

    total: int
    page: int  # from 1
    per_page: int

    @property
    def offset(self) -> int:
        """How many come before what is shown."""
        return (self.page - 1) * self.per_page

    @property
    def first(self) -> int:
        """The number of the first that is shown; 0 if there is none."""
        return min(self.offset + 1, self.total)

    @property
    def last(self) -> int:
        """The number of the last that is shown."""
        return min(self.offset + self.per_page, self.total)

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.per_page))

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """Return what of the whole list is shown."""
        return items[self.offset : self.offset + self.per_page]


def page_number(text: str) -> int:
    """Return the number of a page as a query gives it; 1 for anything that is none."""
    return max(1, int(text)) if text.isascii() and text.isdecimal() and len(text) < 8 else 1  # noqa: PLR2004
