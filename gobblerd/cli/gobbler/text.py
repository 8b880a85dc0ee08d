"""How things are written for people: columns, sizes, names that might hold anything."""

import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_STEP = 1000


def size(count: int) -> str:
    """Return a number of bytes in its greatest fitting decimal unit."""
    value, unit = float(count), _UNITS[0]
    for following in _UNITS[1:]:
        if abs(value) < _STEP:
            break
        value, unit = value / _STEP, following
    return f"{count} B" if unit == _UNITS[0] else f"{value:.1f} {unit}"


def exact_size(count: int) -> str:
    """Return a number of bytes in full, and in its unit where that is shorter."""
    return f"{count} bytes" if abs(count) < _STEP else f"{count} bytes ({size(count)})"


def leads_to(link: Mapping[str, str]) -> str:
    """Return how a manifest's link is shown."""
    return "-> " + "/".join(link[part] for part in ("project", "asset", "version", "path"))


def counted(number: int, noun: str) -> str:
    """Return "1 file", "2 files"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(name: str) -> str:
    """Return a name as it may be shown: on a terminal nothing in it can move the cursor."""
    if not sys.stdout.isatty():
        return name
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in name)


def columns(
    rows: Iterable[Sequence[str]], *, head: Sequence[str] = (), right: Sequence[int] = ()
) -> Iterable[str]:
    """Yield the rows with their columns aligned; those in `right` to the right. No rows: nothing."""
    table = [[shown(cell) for cell in row] for row in rows]
    if not table:
        return
    if head:
        table.insert(0, list(head))
    widths = [max(_width(row[at]) for row in table) for at in range(len(table[0]))]
    for row in table:
        cells = []
        for at, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(space + cell if at in right else cell + space)
        yield "  ".join(cells).rstrip()


def _width(text: str) -> int:
    """Return how many columns of a terminal a text takes: CJK letters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def facts(pairs: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Yield a line for each thing and its value, without those that have none."""
    return columns((f"{name}:", value) for name, value in pairs if value)
