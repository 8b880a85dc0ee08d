"""What all projects use and what waits for review: one look at the whole registry, for people.

Reads small documents only (`..usage`, `..quota`, summaries), no manifest, without locks: a project that
changes meanwhile may be seen before or after. It makes way for requests: it rests as long as it worked.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gobblerd.domain.errors import Fault
from gobblerd.domain.names import Address
from gobblerd.domain.times import parse_time
from gobblerd.registry.metadata import Metadata

_STRETCH = 0.005  # seconds of work between two rests


@dataclass(frozen=True, slots=True)
class ProjectFacts:
    """One project: bytes used and the quota in bytes (None: unknown, or none), assets and versions."""

    name: str
    used: int | None
    limit: int | None
    assets: int
    versions: int

    @property
    def share(self) -> float | None:
        """What part of its quota the project uses; None where there is no telling."""
        if self.used is None or not self.limit:
            return None
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class Probational:
    """A version on probation, who uploaded it, and when that ended (RFC 3339)."""

    version: Address
    user: str
    finish: str


@dataclass(frozen=True, slots=True)
class Survey:
    """All projects by name, and the versions on probation, the oldest first."""

    projects: tuple[ProjectFacts, ...]
    probational: tuple[Probational, ...]


def survey(metadata: Metadata, year: int, rest: Callable[[float], None] = time.sleep) -> Survey:
    """Look at every project; `year` is the calendar year whose quotas count."""
    projects: list[ProjectFacts] = []
    waiting: list[Probational] = []
    pace = _Pace(rest)
    for project in metadata.projects():
        try:
            facts, found = _project(metadata, project, year, pace)
        except OSError:  # deleted while it was looked at
            continue
        projects.append(facts)
        waiting += found
    return Survey(tuple(projects), tuple(sorted(waiting, key=lambda each: parse_time(each.finish))))


def _project(
    metadata: Metadata, project: Address, year: int, pace: "_Pace"
) -> tuple[ProjectFacts, list[Probational]]:
    assets = metadata.children(project)
    versions = [version for asset in assets for version in metadata.children(asset)]
    waiting = list(_probational(metadata, versions, pace))
    used, limit = read_usage(metadata, project.project), read_limit(metadata, project.project, year)
    pace.step()
    return ProjectFacts(project.project, used, limit, len(assets), len(versions)), waiting


def _probational(metadata: Metadata, versions: list[Address], pace: "_Pace") -> Iterator[Probational]:
    for version in versions:
        summary = metadata.readable_summary(version)
        if summary is not None and summary.on_probation:
            yield Probational(version, summary.upload_user_id, summary.upload_finish)
        pace.step()


def read_usage(metadata: Metadata, project: str) -> int | None:
    """Return the bytes that a project uses; None where that cannot be read."""
    try:
        return metadata.usage(project).total
    except Fault:
        return None


def read_limit(metadata: Metadata, project: str, year: int) -> int | None:
    """Return a project's quota in bytes; None where it has none or it cannot be read."""
    try:
        quota = metadata.quota(project)
    except Fault:
        return None
    return None if quota is None else quota.limit(year)


class _Pace:
    """Rests for as long as was worked, in short stretches, so that others are not held up."""

    def __init__(self, rest: Callable[[float], None]) -> None:
        self._rest = rest
        self._began = time.monotonic()

    def step(self) -> None:
        worked = time.monotonic() - self._began
        if worked > _STRETCH:
            self._rest(worked)
            self._began = time.monotonic()
