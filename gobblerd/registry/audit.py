"""Auditing a registry: every invariant that can be checked from disk, read-only, beside living daemons.

What is audited are units (the registry itself, each project, asset and version, the events, the
transactions), each by itself, so that they may be shared out.

No lock is taken, so what is seen may be half of a change. A finding is reported only if a second look, a
moment later where anything is recent, finds the same with the same evidence, and no committed transaction
is about to change the place. What never holds still is reported as that, and as nothing else.

Known limits: a Go service makes its versions in place, so its running uploads look damaged. Whoever may not
read `..transactions` (0700) waits longer between looks instead. The bytes of what links go to are checked
where they lie, so `--project` alone does not check those of links into other projects.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from gobblerd.domain.errors import Fault, GobblerdError
from gobblerd.domain.names import ROOT, Address
from gobblerd.registry import layout
from gobblerd.registry.audit_findings import Collector, Finding, Kind, Look, Severity, in_order
from gobblerd.registry.audit_places import (
    AssetLooks,
    EventsLooks,
    ProjectLooks,
    RegistryLooks,
    TransactionsLooks,
)
from gobblerd.registry.audit_terms import WHOLE, Span, Terms
from gobblerd.registry.audit_version import CarefulMetadata, VersionLooks
from gobblerd.registry.flaws import Flaw
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.meter import Tick
from gobblerd.registry.record import Record, read_record

PAUSE = 0.25  # seconds between the first two looks; each further pause is twice as long
_LONGEST = 32  # times as long, at the most
_LOOKS = 6  # after the first
_BLIND = 12  # times as long where running transactions cannot be seen
_FINISH = 20  # looks after the first for a transaction to be finished by its living daemon
_RECENT = 60_000_000_000  # nanoseconds; generous, because the file server's clock may differ from ours


class Part(StrEnum):
    """What a unit is."""

    REGISTRY = "registry"
    PROJECT = "project"
    ASSET = "asset"
    VERSION = "version"
    EVENTS = "events"
    TRANSACTIONS = "transactions"


@dataclass(frozen=True, slots=True)
class Unit:
    """What is audited by itself, whatever else is; of a version, `span` may leave it to others in part."""

    part: Part
    place: Address = ROOT
    span: Span = WHOLE

    @property
    def path(self) -> str:
        """Its path relative to the registry."""
        folders = {Part.EVENTS: layout.LOGS, Part.TRANSACTIONS: layout.TRANSACTIONS}
        return folders.get(self.part, str(self.place))


@dataclass(slots=True)
class Tally:
    """How much was looked at; `size` in bytes."""

    projects: int = 0
    versions: int = 0
    files: int = 0
    size: int = 0
    faults: int = 0
    notices: int = 0

    def add(self, examined: "Examined") -> None:
        """Count what came of one unit."""
        unit = examined.unit
        self.projects += unit.part is Part.PROJECT
        self.versions += unit.part is Part.VERSION and unit.span.has_rest
        self.files += examined.files
        self.size += examined.size
        self.faults += sum(finding.severity is Severity.FAULT for finding in examined.findings)
        self.notices += sum(finding.severity is Severity.NOTICE for finding in examined.findings)


class Looks(Protocol):
    """Looks at one unit as often as it is asked to."""

    def look(self) -> Look:
        """Return what is wrong now."""


def units(metadata: Metadata, projects: Sequence[str] = ()) -> Iterator[Unit]:
    """Yield the units of a registry, or of some of its projects, in the order of a report."""
    if not projects:
        yield Unit(Part.REGISTRY)
    for project in metadata.projects():
        if project.project in projects if projects else not _is_unremarkable(metadata, project):
            yield from _units_below(metadata, project)
    if not projects:
        yield Unit(Part.EVENTS)
        yield Unit(Part.TRANSACTIONS)


def _is_unremarkable(metadata: Metadata, project: Address) -> bool:
    permissions = metadata.path(layout.in_place(project, layout.PERMISSIONS))
    return project.project in layout.UNREMARKABLE and not os.path.lexists(permissions)


def _units_below(metadata: Metadata, project: Address) -> Iterator[Unit]:
    yield Unit(Part.PROJECT, project)
    for asset in _children(metadata, project):
        yield Unit(Part.ASSET, asset)
        for version in _children(metadata, asset):
            yield Unit(Part.VERSION, version)


def _children(metadata: Metadata, place: Address) -> list[Address]:
    try:
        return metadata.children(place)
    except OSError:  # gone since it was listed, or unreadable, which its own unit reports
        return []


def unit_bytes(metadata: Metadata, unit: Unit) -> int:
    """Return what a unit weighs: bytes of a version, or of its span, by the manifest; 0 for the rest."""
    if unit.part is not Part.VERSION:
        return 0
    try:
        if unit.span.is_whole:
            return metadata.stored_bytes(unit.place)
        sizes = metadata.file_sizes(unit.place)
    except (Fault, OSError):
        return 0
    return sum(size for path, size in sizes.items() if unit.span.holds(path))


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of one unit; `files` and `size` (bytes) of a version are with its span that has the rest."""

    unit: Unit
    findings: tuple[Finding, ...]
    files: int
    size: int


@dataclass(slots=True)
class _Suspect:
    """A unit of which something may be to be looked at again."""

    unit: Unit
    looks: Looks
    seen: Look
    due: float  # monotonic seconds
    pause: float
    files: int
    size: int


class Audit:
    """One audit of one registry, by its absolute path.

    `fast` leaves out the bytes; `tick` is told of those read, and may raise to cancel. `pause` in seconds.
    `sleep` is what happens between two looks.
    """

    def __init__(
        self,
        root: str,
        *,
        whitelist: Sequence[str] = (),
        fast: bool = False,
        tick: Tick = lambda _: None,
        pause: float = PAUSE,
        now: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.metadata: Metadata = CarefulMetadata(root)
        self.tally = Tally()
        self._terms = Terms(self.metadata, os.stat(root).st_uid, tuple(whitelist), fast, now)
        self._tick = tick
        self._pause = pause
        self._sleep = sleep
        self._motion = _Motion(self.metadata)

    def run(self, chosen: Iterable[Unit]) -> Iterator[Finding]:
        """Audit units; yield what is wrong, in their order."""
        for examined in self.examine(chosen):
            yield from examined.findings

    def examine(self, chosen: Iterable[Unit]) -> Iterator[Examined]:
        """Audit units; yield what came of each, in their order."""
        pending: deque[_Suspect] = deque()
        for unit in chosen:
            pending.append(self._first_look(unit))
            while pending and pending[0].due <= time.monotonic():
                yield self._settled(pending.popleft())
        while pending:
            yield self._settled(pending.popleft())

    def _looks(self, unit: Unit) -> Looks:
        match unit.part:
            case Part.REGISTRY:
                return RegistryLooks(self._terms, unit.place)
            case Part.PROJECT:
                return ProjectLooks(self._terms, unit.place)
            case Part.ASSET:
                return AssetLooks(self._terms, unit.place)
            case Part.VERSION:
                return VersionLooks(self._terms, unit.place, self._tick, unit.span)
            case Part.EVENTS:
                return EventsLooks(self._terms)
            case Part.TRANSACTIONS:
                return TransactionsLooks(self._terms)

    def _first_look(self, unit: Unit) -> _Suspect:
        looks = self._looks(unit)
        seen = self._look(unit, looks)
        pause = self._pause * (_BLIND if self._motion.is_hidden else 1)
        is_recent = bool(seen.suspects) and seen.newest > self._terms.now() - _RECENT
        due = time.monotonic() + (pause if is_recent else 0.0)
        return _Suspect(unit, looks, seen, due, pause, seen.files, seen.size)

    def _look(self, unit: Unit, looks: Looks) -> Look:
        try:
            return looks.look()
        except (FileNotFoundError, NotADirectoryError):
            if not os.path.lexists(self.metadata.path(unit.path)):
                return Look()  # removed since it was listed
            return self._unread(unit, "it changed while it was read")
        except (OSError, ValueError, GobblerdError) as error:  # which must not end the audit of the rest
            return self._unread(unit, str(error))

    def _unread(self, unit: Unit, reason: str) -> Look:
        collector = Collector(unit.path)
        collector.fault(unit.path, Flaw.UNREADABLE, f"{unit.part} that can be read", reason)
        return Look(collector.suspects(), self._terms.now())

    # -- what stands -----------------------------------------------------------------------------------

    def _settled(self, suspect: _Suspect) -> Examined:
        findings = tuple(in_order(self._standing(suspect) if suspect.seen.suspects else []))
        examined = Examined(suspect.unit, findings, suspect.files, suspect.size)
        self.tally.add(examined)
        return examined

    def _standing(self, suspect: _Suspect) -> list[Finding]:
        """Look again until the findings stand or are gone; return those that stand."""
        place, pause = suspect.unit.place, suspect.pause
        is_unfinished = any(finding.kind == Kind.UNFINISHED for finding in suspect.seen.suspects)
        self._sleep(max(0.0, suspect.due - time.monotonic()))
        for number in range(1, (_FINISH if is_unfinished else _LOOKS) + 1):
            if number > 1:
                self._sleep(pause)
                pause = pause if is_unfinished else min(2 * pause, _LONGEST * self._pause)
            again = self._look(suspect.unit, suspect.looks)
            standing, moving = _compared(suspect.seen, again)
            record = self._motion.changing(place) if standing and place else None
            if not moving and record is None and not (standing and is_unfinished):
                break
            suspect.seen = Look({finding: again.suspects[finding] for finding in (*standing, *moving)})
        else:
            if record is not None:
                self._motion.give_up(record)
        return [*standing, *(_moving(place, finding) for finding in moving)]


def _compared(before: Look, again: Look) -> tuple[list[Finding], list[Finding]]:
    """Return the findings of both looks that stand, and those of the second that a change may explain."""
    subjects = {finding.subject for finding in before.suspects}
    standing, moving = [], []
    for finding, evidence in again.suspects.items():
        if finding in before.suspects and evidence is not None and before.suspects[finding] == evidence:
            standing.append(finding)
        elif finding.subject in subjects:
            moving.append(finding)
    return standing, moving


def _moving(place: Address, finding: Finding) -> Finding:
    found = f'"{finding.kind}", differently at each of {_LOOKS + 1} looks'
    return Finding(str(place), finding.path, Kind.CHANGING, "something at rest", found, Severity.NOTICE)


class _Motion:
    """The committed transactions that are being applied, or will be: what they change is not judged yet."""

    def __init__(self, metadata: Metadata) -> None:
        self._folder = metadata.path(layout.COMMITTED)
        self._dead: set[str] = set()
        self.is_hidden = not self._names()[1]

    def _names(self) -> tuple[list[str], bool]:
        """List the records; tell whether they may be read."""
        try:
            return os.listdir(self._folder), True
        except FileNotFoundError:
            return [], True
        except OSError:
            return [], False

    def changing(self, place: Address) -> Record | None:
        """Return a transaction that changes the place, or what is in it."""
        for name in self._names()[0]:
            record = None if name in self._dead else self._read(name)
            if record is not None and _concerns(record, str(place)):
                return record
        return None

    def _read(self, name: str) -> Record | None:
        try:
            return read_record(layout.join(self._folder, name))
        except (OSError, ValueError, msgspec.MsgspecError):  # one that is none is reported as a leftover
            return None

    def give_up(self, record: Record) -> None:
        """Take the writer for dead: nobody waits for it again."""
        self._dead.add(record.id)


def _concerns(record: Record, place: str) -> bool:
    latest = ("/".join(asset) for asset in record.latest)
    paths = (*(step.path for step in record.steps), *record.usage, *latest)
    return any(
        path == place or path.startswith(f"{place}/") or place.startswith(f"{path}/") for path in paths
    )
