"""What the schedules do: refresh what is derived, purge what is old, expire probation.

Each job goes over the whole registry without locks and opens a place only where something is to be changed,
so that a registry in order costs reading alone. What a job repaired is in its report.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import structlog

from gobblerd.domain.errors import Absent, GobblerdError
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.counting import UsageCount
from gobblerd.registry.places import Place
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin
from gobblerd.service.config import DAY, Config
from gobblerd.service.schedule import Job, JobReport
from gobblerd.staging.directory import Staging
from gobblerd.staging.settings import PurgeAges
from gobblerd.staging.spool import Spool

log = structlog.get_logger(__name__)

_SECOND = 1_000_000_000


class Jobs:
    """The scheduled jobs of one registry and one staging directory."""

    def __init__(
        self, registry: Registry, staging: Staging, spool: Spool, config: Callable[[], Config]
    ) -> None:
        self._registry = registry
        self._staging = staging
        self._metadata = registry.metadata
        self._spool = spool
        self._config = config

    def planned(self) -> list[Job]:
        """Return the jobs with their times as configured."""
        config = self._config()
        planned = (
            ("refresh_usage", self.refresh_usage, config.schedule_refresh_usage),
            ("refresh_latest", self.refresh_latest, config.schedule_refresh_latest),
            ("purge", self.purge, config.schedule_purge),
            ("expire_probation", self.expire_probation, config.schedule_expire_probation),
        )
        return [Job(name, run, when, config.schedule_jitter) for name, run, when in planned]

    @contextmanager
    def _changing(self, place: Address) -> Iterator[Place]:
        """Open a place for a change that nobody waits for."""
        origin = Origin(self._registry.staging)
        try:
            with (
                self._registry.transaction(origin) as transaction,
                self._registry.changing(place, transaction) as opened,
            ):
                yield opened
        finally:
            self._registry.finish(origin)

    def refresh_usage(self) -> JobReport:
        """Recount every project, and mend the usages that differ."""
        mended: dict[str, int] = {}
        failed = []
        for project in self._metadata.projects():
            try:
                difference = self._refresh_usage(project)
            except Absent:
                continue
            except (GobblerdError, OSError) as error:
                log.warning("usage not refreshed", project=project.project, reason=str(error))
                failed.append(project.project)
                continue
            if difference:
                mended[project.project] = difference
        return JobReport({"mended": mended, "failed": failed})

    def _refresh_usage(self, project: Address) -> int:
        """Return by how many bytes the stored usage was wrong."""
        count = UsageCount(self._metadata, project)
        if count.total() == self._metadata.usage(project.project).total:
            return 0
        with self._changing(project) as place:
            total = count.total()
            difference = total - place.metadata.usage(project.project).total
            if difference:
                place.transaction.set_usage(project.project, total)
                place.commit(Outcome())
                log.warning("usage mended", project=project.project, difference=difference)
            return difference

    def refresh_latest(self) -> JobReport:
        """Choose the latest version of every asset anew, and mend the ones that differ."""
        mended: list[str] = []
        failed = []
        for project in self._metadata.projects():
            for asset in self._metadata.children(project):
                try:
                    if self._refresh_latest(asset):
                        mended.append(str(asset))
                except (Absent, FileNotFoundError):
                    continue
                except (GobblerdError, OSError) as error:
                    log.warning("latest not refreshed", place=str(asset), reason=str(error))
                    failed.append(str(asset))
        return JobReport({"mended": mended, "failed": failed})

    def _refresh_latest(self, asset: Address) -> bool:
        if self._metadata.latest(asset) == self._metadata.computed_latest(asset):
            return False
        with self._changing(asset) as place:
            latest = place.metadata.computed_latest(asset)
            if place.latest() == latest:
                return False
            place.point_latest(latest)
            place.commit(Outcome())
            log.warning("latest mended", place=str(asset), latest=latest.version if latest else None)
            return True

    def purge(self) -> JobReport:
        """Remove old requests, responses, abandoned uploads, events and other daemons' abandoned work."""
        config = self._config()
        ages = PurgeAges(
            config.purge_requests_days * DAY,
            config.purge_responses_days * DAY,
            config.purge_uploads_days * DAY,
        )
        counts = self._spool.purge(self._staging.clock.now(), ages)
        now = self._registry.clock.now()
        events = self._purge_events(now, config.purge_logs_days * DAY)
        abandoned = self._registry.recovery.purge_abandoned(now, config.purge_transactions_days * DAY)
        return JobReport({**asdict(counts), "events": events, "transactions": abandoned})

    def _purge_events(self, now: int, seconds: float) -> int:
        removed = 0
        with os.scandir(layout.join(self._registry.root, layout.LOGS)) as entries:
            for entry in entries:
                if now - entry.stat(follow_symlinks=False).st_mtime_ns > seconds * _SECOND:
                    os.unlink(entry.path)
                    removed += 1
        return removed

    def expire_probation(self) -> JobReport:
        """Delete versions that have been on probation for longer than the configuration allows."""
        days = self._config().probation_days
        expired: list[str] = []
        if days:
            oldest = self._registry.clock.now() - int(days * DAY * _SECOND)
            for project in self._metadata.projects():
                old = [v for v in self._metadata.versions_below(project) if self._has_expired(v, oldest)]
                expired += [str(version) for version in old if self._expire(version, oldest)]
        return JobReport({"expired": expired})

    def _has_expired(self, version: Address, oldest: int) -> bool:
        summary = self._metadata.readable_summary(version)
        return summary is not None and summary.on_probation and summary.finish < oldest

    def _expire(self, version: Address, oldest: int) -> bool:
        try:
            with self._changing(version) as place:
                if not self._has_expired(version, oldest):
                    return False
                place.transaction.add_usage(version.project, -place.metadata.stored_bytes(version))
                place.remove(version)
                place.commit(Outcome())
        except Absent:
            return False
        except (GobblerdError, OSError) as error:
            log.warning("probation not expired", place=str(version), reason=str(error))
            return False
        log.info("probation expired", place=str(version))
        return True
