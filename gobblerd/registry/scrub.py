"""Scrubbing: reading a part of the registry again each time, what was checked longest ago first.

What is looked at, and how, is the audit's (audit.py): beside running uploads and deletions nothing is
reported that a second look does not find too, and nothing is ever repaired. The registry's own files, events
and transactions are looked at in every run, since that costs little; and where faults are known, so that what
was mended is not reported for long, up to half of what a run may read.

A run reads so many bytes, no faster than it may. When each place was checked, what is wrong there, and how
far a large version has got, is in one file (scrub_memory.py), which is written while the run goes on: one
that is killed loses the last seconds.

Known limits: a single file is read whole, however large; what was read from the page cache was not read from
the disk; renamed or recreated places count as new ones.
"""

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import structlog

from gobblerd.domain.errors import GobblerdError
from gobblerd.registry import layout
from gobblerd.registry.audit import Audit, Part, Unit, unit_bytes, units
from gobblerd.registry.audit_findings import Finding, Severity
from gobblerd.registry.audit_shares import PIECE_FILES, Position, file_sizes, pieces
from gobblerd.registry.audit_terms import Span
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.scrub_memory import Memory, Place

log = structlog.get_logger(__name__)

PIECE_BYTES = 4 << 30  # after as many bytes at the latest, the place in a large version is remembered
SAVED_SECONDS = 15.0  # how much of a run a kill may undo
_ALWAYS = frozenset({Part.REGISTRY, Part.EVENTS, Part.TRANSACTIONS})


@dataclass(frozen=True, slots=True)
class ScrubTerms:
    """How much a run reads (bytes), how fast (bytes a second; 0: as fast as it can), and the whitelist."""

    size: int
    rate: float = 0
    whitelist: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What one run did: bytes read, places finished, faults that it found (in all their places)."""

    read: int
    places: int
    faults: int
    unchecked: int  # places that no run has come to yet
    memory: Memory


class Throttle:
    """Counts bytes, and holds whoever reads them to a rate; saves up no more than a second's worth."""

    def __init__(
        self,
        rate: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.read = 0
        self._rate = rate
        self._now = now
        self._sleep = sleep
        self._due = now()

    def __call__(self, size: int) -> None:
        """Take note of bytes that were read; come back when more may be."""
        self.read += size
        if not self._rate:
            return
        now = self._now()
        self._due = max(self._due, now - 1.0) + size / self._rate
        if self._due > now:
            self._sleep(self._due - now)


def share_of(metadata: Metadata, days: float, elapsed: float) -> int:
    """Return how many bytes a run must read so that everything is read within `days`.

    `elapsed` is the time since the last run in seconds. What there is to be read is the sum of the usages.
    """
    total = 0
    for project in metadata.projects():
        try:
            total += metadata.usage(project.project).total
        except (GobblerdError, OSError):  # gone, or for refresh_usage to mend
            continue
    return max(1, int(total * elapsed / (days * 86400)) + 1)


class Scrub:
    """One run on one registry, by its absolute path; `now` is the file server's clock, in nanoseconds."""

    def __init__(
        self,
        root: str,
        terms: ScrubTerms,
        now: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._terms = terms
        self._now = now
        self._throttle = Throttle(terms.rate, sleep=sleep)
        self._audit = Audit(root, whitelist=terms.whitelist, tick=self._throttle, sleep=sleep)
        self._metadata = self._audit.metadata
        self._state = layout.join(root, layout.STATE)
        self._memory = Memory.load(self._state)
        self._saved = time.monotonic()
        self._places = 0
        self._faults = 0
        self._is_full = False  # the next file would be more than this run may read

    @property
    def _left(self) -> int:
        return 0 if self._is_full else self._terms.size - self._throttle.read

    def run(self) -> ScrubReport:
        """Look at what is due, until enough was read or everything was looked at once."""
        memory = self._memory
        memory.started = self._now()
        every = list(units(self._metadata))
        memory.forget_all_but({unit.path for unit in every})
        try:
            for unit in every:
                if unit.part in _ALWAYS:
                    memory.settle(unit.path, self._look(unit), self._now())
            for unit in self._order([unit for unit in every if unit.part not in _ALWAYS]):
                self._scrub(unit)
        finally:
            memory.save(self._state)
        unchecked = sum(unit.path not in memory.checked for unit in every)
        return ScrubReport(self._throttle.read, self._places, self._faults, unchecked, memory)

    def _order(self, every: Sequence[Unit]) -> Iterator[Unit]:
        """Yield what was begun, what has faults, and then what was checked longest ago."""
        memory = self._memory
        rest = sorted(every, key=lambda unit: (memory.checked.get(unit.path, 0), Position.of(unit)))
        begun = [unit for unit in rest if memory.place and unit.path == memory.place.version]
        flawed = [unit for unit in rest if unit.path in memory.flaws and memory.flaws[unit.path].faults]
        done = set[Unit]()
        for unit in itertools.chain(begun, filter(self._is_affordable, flawed), rest):
            if self._left > 0 and unit not in done:
                done.add(unit)
                yield unit

    def _is_affordable(self, unit: Unit) -> bool:
        """Tell whether a unit can be read at once, and half of what this run may read is left for others."""
        return unit_bytes(self._metadata, unit) <= self._left - self._terms.size // 2

    def _scrub(self, unit: Unit) -> None:
        """Look at a unit, piece by piece, as far as this run may read; but one file at least."""
        begin = self._begin(unit)
        if not begin:
            self._memory.begin()
        while True:
            size = max(1, min(PIECE_BYTES, self._left))
            piece = next(pieces(self._metadata, self._from(unit, begin), size=size, files=PIECE_FILES))
            if self._throttle.read and self._weight(piece) > self._left:
                self._is_full = True
                return
            self._memory.note(self._look(piece))
            if piece.span.end is None:
                break
            begin = piece.span.end
            self._memory.go_on(Place(unit.path, begin, self._mark(unit)))
            self._save_sometimes()
        self._places += 1
        self._memory.done(unit.path, self._now())
        self._save_sometimes()

    def _weight(self, piece: Unit) -> int:
        return sum(size for _, size in file_sizes(self._metadata, piece))

    @staticmethod
    def _from(unit: Unit, begin: str) -> Unit:
        return Unit(unit.part, unit.place, Span(begin))

    def _begin(self, unit: Unit) -> str:
        """Return the file to go on with: "" unless the version was begun, and is still the same."""
        place = self._memory.place
        is_begun = place is not None and place.version == unit.path and place.mark == self._mark(unit)
        return place.path if place is not None and is_begun else ""

    def _mark(self, unit: Unit) -> str:
        """Return what tells whether a version is still the one that was begun."""
        try:
            status = os.stat(self._metadata.manifest_path(unit.place))
        except OSError:
            return ""
        return f"{status.st_ino} {status.st_mtime_ns}"

    def _look(self, piece: Unit) -> Sequence[Finding]:
        (examined,) = self._audit.examine([piece])
        for finding in examined.findings:
            if finding.severity is Severity.FAULT:
                self._faults += 1
                document = finding.document()
                del document["severity"]
                log.warning("scrub finding", **document)
        return examined.findings

    def _save_sometimes(self) -> None:
        if time.monotonic() - self._saved >= SAVED_SECONDS:
            self._memory.save(self._state)
            self._saved = time.monotonic()
