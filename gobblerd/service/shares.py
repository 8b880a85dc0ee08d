"""How full the projects are: for the metrics in a thread of its own, and only now and then.

Reading costs two small files per project, and a scrape must not wait for ten thousand of them on a network
filesystem. So a scrape is given the last figures, and at most has new ones begun. Known limits: figures are
a minute old, more where reading them takes long; only the fullest projects are named, so that a registry of
any size makes a bounded number of series.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import structlog

from gobblerd.domain.errors import GobblerdError, printable
from gobblerd.domain.names import Address
from gobblerd.domain.times import year_of
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.registry import Registry

log = structlog.get_logger(__name__)

SHOWN_MOST = 50  # projects
RENEWAL = 60.0  # seconds
_REST_SHARE = 20  # so many times as long as reading took, it rests


@dataclass(frozen=True, slots=True)
class Share:
    """What a project stores and may store, in bytes; `limit` is None where no quota is enforced."""

    project: str
    used: int
    limit: int | None = None

    @property
    def fullness(self) -> tuple[float, int]:
        """What projects are ordered by: the part of the quota, then the bytes."""
        part = 0.0 if self.limit is None else self.used / self.limit if self.limit else float(self.used > 0)
        return part, self.used


@dataclass(frozen=True, slots=True)
class Figures:
    """All projects' number and bytes, and the fullest projects."""

    projects: int = 0
    stored: int = 0
    shown: tuple[Share, ...] = ()


def figures_of(shares: Iterable[Share], most: int = SHOWN_MOST) -> Figures:
    """Sum up, and keep the fullest."""
    every = list(shares)
    fullest = sorted(every, key=lambda share: share.fullness, reverse=True)[:most]
    return Figures(len(every), sum(share.used for share in every), tuple(fullest))


def shares_of(metadata: Metadata, year: int, *, enforced: bool) -> Iterator[Share]:
    """Yield each project's share in a calendar year; without quotas where none is `enforced`."""
    for project in metadata.projects():
        try:
            yield _share_of(metadata, project, year, enforced=enforced)
        except (GobblerdError, OSError):  # deleted meanwhile, or damaged: the audit's business
            continue


def _share_of(metadata: Metadata, project: Address, year: int, *, enforced: bool) -> Share:
    quota = metadata.quota(project.project) if enforced else None
    used = metadata.usage(project.project).total
    # A label of a metric is UTF-8.
    return Share(printable(project.project), used, quota.limit(year) if quota else None)


class Shares:
    """The figures of one registry; `enforced` tells whether quotas are."""

    def __init__(
        self, registry: Registry, enforced: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._enforced = enforced
        self._clock = clock
        self._lock = threading.Lock()
        self._figures = Figures()
        self._due = float("-inf")
        self._reading = False

    def figures(self) -> Figures:
        """Return the last figures, and have them renewed if they are old."""
        with self._lock:
            begin = not self._reading and self._clock() >= self._due
            self._reading = self._reading or begin
        if begin:
            threading.Thread(target=self._renew, name="gobblerd-shares", daemon=True).start()
        return self._figures

    def _renew(self) -> None:
        began = self._clock()
        try:
            self._figures = figures_of(self._shares())
        except (OSError, GobblerdError) as error:
            log.warning("usages cannot be read for the metrics", reason=str(error))
        finally:
            now = self._clock()
            self._due = now + max(RENEWAL, (now - began) * _REST_SHARE)
            self._reading = False

    def _shares(self) -> Iterator[Share]:
        year = year_of(self._registry.clock.now())
        return shares_of(self._registry.metadata, year, enforced=self._enforced())
