"""Sharing out an audit: equal parts by bytes, cut at positions of the report's order.

Everything that is audited has a position: the registry, its projects with assets, versions and their files by
path, the events, the transactions. N shares are N-1 cuts, so that a share is a stretch between two positions.
What comes to be after the cuts were made lies in some share, and what goes is in none: whoever uses the same
cuts misses nothing, whenever they look. Bytes are those of the manifests.

Known limits: one file is never divided; a registry without bytes is divided by units.
"""

import bisect
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from gobblerd.domain.errors import Fault
from gobblerd.domain.names import Address
from gobblerd.registry.audit import Part, Unit, unit_bytes
from gobblerd.registry.audit_terms import Span
from gobblerd.registry.metadata import Metadata

PIECE_BYTES = 64 << 30
PIECE_FILES = 250_000  # a look at a piece of a large version keeps that many digests at the most


class Position(NamedTuple):
    """Where something is in the order of a report; `path` is within a version, "" its beginning."""

    rank: int = 0
    project: str = ""
    asset: str = ""
    version: str = ""
    path: str = ""

    @classmethod
    def of(cls, unit: Unit) -> "Position":
        """Return where a unit begins."""
        rank = {Part.REGISTRY: 0, Part.EVENTS: 2, Part.TRANSACTIONS: 3}.get(unit.part, 1)
        place = unit.place
        return cls(rank, place.project, place.asset, place.version, unit.span.begin)

    @classmethod
    def parse(cls, document: Any) -> "Position":
        """Read what `list(position)` gave; ValueError if it is something else."""
        kinds = [type(each) for each in document] if isinstance(document, list) else []
        if kinds != [int, str, str, str, str]:
            raise ValueError(f"no position in an audit: {document!r}")
        return cls(*document)

    @property
    def unit(self) -> tuple[int, str, str, str]:
        """What tells units apart, a version's spans not."""
        return self[:4]


START = Position()


class Stretch(NamedTuple):
    """From one position up to, but without, another (None: to the end)."""

    begin: Position = START
    end: Position | None = None

    def holds(self, position: Position) -> bool:
        """Tell whether what begins at the position belongs to it."""
        return self.begin <= position and (self.end is None or position < self.end)

    def part_of(self, unit: Unit) -> Unit | None:
        """Return as much of a unit as belongs to the stretch, None if that is nothing."""
        here = Position.of(unit)
        if unit.part is not Part.VERSION:
            return unit if self.holds(here) else None
        if self.begin.unit > here.unit or (self.end is not None and self.end <= max(here, self.begin)):
            return None
        ends_here = self.end is not None and self.end.unit == here.unit
        begin = self.begin.path if self.begin.unit == here.unit else ""
        return version_unit(unit.place, Span(begin, self.end.path if self.end and ends_here else None))


def after(unit: Unit) -> Position:
    """Return where an audit goes on when a unit, or a version's span, is done."""
    here = Position.of(unit)
    if unit.part is not Part.VERSION:
        return here._replace(path="\0")
    if unit.span.end is not None:
        return here._replace(path=unit.span.end)
    return here._replace(version=f"{here.version}\0", path="")


def stretches(cuts: Sequence[Position]) -> list[Stretch]:
    """Return the stretches between the cuts."""
    return [Stretch(*pair) for pair in zip((START, *cuts), (*cuts, None), strict=True)]


def chosen(units: Iterable[Unit], stretch: Stretch) -> Iterator[Unit]:
    """Yield what of the units, which are in order, belongs to the stretch."""
    for unit in units:
        if (part := stretch.part_of(unit)) is not None:
            yield part


# -- cutting ---------------------------------------------------------------------------------------------


def cuts(metadata: Metadata, units: Sequence[Unit], shares: int) -> list[Position]:
    """Return where to cut units, which are in order, into so many shares of equal bytes.

    A cut within a version is between two files, at whichever end of the file it would divide is nearer.
    """
    weights = [unit_bytes(metadata, unit) for unit in units]
    if not any(weights):
        weights = [1] * len(weights)
    total, before, found = sum(weights), 0, list[Position]()
    for unit, weight in zip(units, weights, strict=True):
        targets = [total * number // shares - before for number in range(len(found) + 1, shares)]
        inside = [target for target in targets if target <= weight]
        found += _cuts_in(metadata, unit, weight, inside) if inside else []
        before += weight
    return found


def _cuts_in(metadata: Metadata, unit: Unit, weight: int, targets: Sequence[int]) -> list[Position]:
    """Return one cut for each of the targets, which are bytes from the beginning of the unit."""
    places, done = [(0, Position.of(unit))], 0
    for path, size in file_sizes(metadata, unit):
        if done:
            places.append((done, Position.of(unit)._replace(path=path)))
        done += size
    places.append((weight, after(unit)))
    sizes = [size for size, _ in places]
    return [places[_nearest(sizes, target)][1] for target in targets]


def _nearest(sizes: Sequence[int], target: int) -> int:
    """Return which of the rising sizes is nearest to the target."""
    number = bisect.bisect_left(sizes, target)
    if number == len(sizes) or (number and target - sizes[number - 1] <= sizes[number] - target):
        number -= 1
    return number


def file_sizes(metadata: Metadata, unit: Unit) -> list[tuple[str, int]]:
    """Return the files of a version of which there are bytes to be read, by path, with their sizes."""
    if unit.part is not Part.VERSION:
        return []
    try:
        sizes = metadata.file_sizes(unit.place)
    except (Fault, OSError):
        return []
    return sorted((path, size) for path, size in sizes.items() if unit.span.holds(path))


# -- pieces ----------------------------------------------------------------------------------------------


def pieces(
    metadata: Metadata, unit: Unit, *, size: int = PIECE_BYTES, files: int = PIECE_FILES
) -> Iterator[Unit]:
    """Yield a unit piece by piece, each of up to so many bytes and files, but of one file at least.

    What is done by pieces can be continued at one of them.
    """
    begin, held, count = unit.span.begin, 0, 0
    if unit.part is Part.VERSION and _is_large(metadata, unit, size, files):
        for path, weight in file_sizes(metadata, unit):
            if count and (held + weight > size or count == files):
                yield Unit(unit.part, unit.place, Span(begin, path))
                begin, held, count = path, 0, 0
            held, count = held + weight, count + 1
    yield Unit(unit.part, unit.place, Span(begin, unit.span.end))


def _is_large(metadata: Metadata, unit: Unit, size: int, files: int) -> bool:
    """Tell whether a version is worth to be read file by file: an entry takes 60 bytes of a manifest."""
    path = metadata.manifest_path(unit.place)
    try:
        many = os.stat(path).st_size > 60 * files
    except OSError:
        return False
    return many or unit_bytes(metadata, unit) > size


def version_unit(version: Address, span: Span) -> Unit:
    """Return a version, or a span of it, as what is audited by itself."""
    return Unit(Part.VERSION, version, span)
