"""What the schedules do: refresh what is derived, purge what is old, expire probation.

Each job goes over the whole registry without locks and opens a place only where something is to be changed,
so that a registry in order costs reading alone. What a job repaired is in its report.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import structlog

from gobblerd.archive.receipt import is_part_of_archive
from gobblerd.domain.errors import Absent, Fault, GobblerdError, told
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.domain.times import NANOSECONDS, format_time
from gobblerd.domain.version import Latest
from gobblerd.registry import layout
from gobblerd.registry.counting import UsageCount
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.places import Place
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin
from gobblerd.service.config import DAY, Config
from gobblerd.service.memory import give_back
from gobblerd.service.schedule import FACTS_MOST, Job, JobReport, some
from gobblerd.staging.directory import Staging
from gobblerd.staging.settings import PurgeAges
from gobblerd.staging.spool import Spool
from gobblerd.staging.status import PurgeCounts

log = structlog.get_logger(__name__)

_UNREADABLE = Latest("")  # which no version is called
_SCRUB_MOST = 7 * DAY * NANOSECONDS  # who was away for longer does not read all that was missed at once


@dataclass(frozen=True, slots=True)
class Difference:
    """What a refresh mended: a usage in bytes, or the name of a latest version.

    None: there was none, or none that can be read.
    """

    place: Address
    stored: int | str | None
    right: int | str | None

    @property
    def bytes(self) -> int:
        """By how much a usage was wrong; 0 for the rest."""
        if isinstance(self.stored, int) and isinstance(self.right, int):
            return self.right - self.stored
        return 0

    def facts(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"place": str(self.place), "stored": self.stored, "right": self.right}


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
        self._right_latest: dict[Address, int] = {}  # what each asset's latest rested on when it was right

    def planned(self) -> list[Job]:
        """Return the jobs with their times as configured."""
        config = self._config()
        planned = (
            ("refresh_usage", self.refresh_usage, config.schedule_refresh_usage),
            ("refresh_latest", self.refresh_latest, config.schedule_refresh_latest),
            ("purge", self.purge, config.schedule_purge),
            ("expire_probation", self.expire_probation, config.schedule_expire_probation),
            ("scrub", self.scrub, config.schedule_scrub),
            ("prune_exports", self.prune_exports, config.schedule_prune_exports),
        )
        jitter = config.schedule_jitter
        jobs = {name: Job(name, run, when, jitter) for name, run, when in planned}
        jobs["purge"] = replace(jobs["purge"], staging=self._staging.id)  # others do not purge this directory
        return [*jobs.values()]

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
        return self._refreshed("usage", self._metadata.projects(), self._refresh_usage)

    def refresh_latest(self) -> JobReport:
        """Choose the latest version of every asset anew, and mend the ones that differ."""
        unlisted: list[str] = []
        assets = list(self._assets(unlisted))
        self._forget_latest(set(assets))
        return self._refreshed("latest", assets, self._refresh_latest, unlisted)

    def _forget_latest(self, seen: set[Address]) -> None:
        self._right_latest = {asset: each for asset, each in self._right_latest.items() if asset in seen}

    def _assets(self, unlisted: list[str]) -> Iterator[Address]:
        for project in self._metadata.projects():
            yield from self._children(project, unlisted)

    def _children(self, place: Address, unlisted: list[str]) -> Sequence[Address]:
        """List what is in a place; one that cannot be listed is logged, noted, and no other's matter."""
        try:
            return self._metadata.children(place)
        except (FileNotFoundError, NotADirectoryError):  # deleted since it was listed
            return []
        except OSError as error:
            log.warning("cannot be listed", place=str(place), reason=told(error))
            unlisted.append(str(place))
            return []

    def _refreshed(
        self,
        what: str,
        places: Iterable[Address],
        refresh: Callable[[Address], Difference | None],
        unlisted: Sequence[str] = (),
    ) -> JobReport:
        """Refresh each place by itself; what goes wrong at one is logged, counted, and no other's matter."""
        mended: list[Difference] = []
        failed = list(unlisted)
        seen = 0
        for place in places:
            try:
                difference = refresh(place)
            except (Absent, FileNotFoundError):
                continue
            except (GobblerdError, OSError) as error:
                log.warning("not refreshed", what=what, place=str(place), reason=told(error))
                failed.append(str(place))
            else:
                mended += [difference] if difference else []
            seen += 1
        sizes = (abs(each.bytes) for each in mended)
        numbers = {"places": seen, "mended": len(mended), "failed": len(failed), "mended_bytes": sum(sizes)}
        return JobReport({"mended": some([each.facts() for each in mended]), "failed": some(failed)}, numbers)

    def _refresh_usage(self, project: Address) -> Difference | None:
        """Return what the stored usage was, and what is right, where they differ."""
        count = UsageCount(self._metadata, project, self._registry.counted)
        if count.total() == _stored_usage(self._metadata, project):
            return None
        with self._changing(project) as place:
            total = count.total()
            stored = _stored_usage(place.metadata, project)
            if total == stored:
                return None
            place.transaction.set_usage(project.project, total)
            place.commit(Outcome())
        log.warning("usage mended", project=project.project, stored=stored, right=total)
        return Difference(project, stored, total)

    def _refresh_latest(self, asset: Address) -> Difference | None:
        evidence = self._metadata.latest_evidence(asset)
        if self._right_latest.get(asset) == evidence:
            return None  # as it was when it was last found right
        if _stored_latest(self._metadata, asset) == self._metadata.computed_latest(asset):
            self._right_latest[asset] = evidence
            return None
        with self._changing(asset) as place:
            latest, stored = place.metadata.computed_latest(asset), _stored_latest(place.metadata, asset)
            if stored == latest:
                return None
            place.point_latest(latest)
            place.commit(Outcome())
        before, right = (each.version if each else None for each in (stored, latest))
        found = Difference(asset, before or None, right)
        log.warning("latest mended", place=str(asset), stored=found.stored, right=found.right)
        return found

    def purge(self) -> JobReport:
        """Remove old requests, responses, abandoned uploads, events, what was set aside, and unused memory.

        Each hunt goes by its own age, and one that fails does not stop the others.
        """
        config = self._config()
        counts: dict[str, int] = {"failed": 0}
        for name, hunt in self._hunts(config):
            try:
                counts[name] = hunt()
            except (OSError, GobblerdError) as error:
                log.warning("not purged", what=name, reason=told(error))
                counts["failed"] += 1
        try:
            in_staging = asdict(self._purge_staging(config))
        except OSError as error:
            log.warning("not purged", what="staging", reason=told(error))
            in_staging = {"failed": 1}
        counts = {**in_staging, **counts, "failed": counts["failed"] + in_staging["failed"]}
        give_back()
        return JobReport(counts, counts)

    def _hunts(self, config: Config) -> Iterable[tuple[str, Callable[[], int]]]:
        """Yield what is hunted for in the registry; each returns how much it removed."""
        now = self._registry.clock.now()
        recovery = self._registry.recovery
        yield "events", lambda: self._purge_events(now, config.purge_logs_days * DAY)
        yield "transactions", lambda: recovery.purge_abandoned(now, config.purge_transactions_days * DAY)
        yield "aside", lambda: recovery.purge_aside(now, config.purge_aside_days * DAY)

    def _purge_staging(self, config: Config) -> PurgeCounts:
        ages = PurgeAges(
            config.purge_requests_days * DAY,
            config.purge_responses_days * DAY,
            config.purge_uploads_days * DAY,
        )
        return self._spool.purge(self._staging.clock.now(), ages, is_part_of_archive)

    def _purge_events(self, now: int, seconds: float) -> int:
        removed = 0
        with os.scandir(layout.join(self._registry.root, layout.LOGS)) as entries:
            for entry in entries:
                try:
                    if now - entry.stat(follow_symlinks=False).st_mtime_ns > seconds * NANOSECONDS:
                        os.unlink(entry.path)
                        removed += 1
                except FileNotFoundError:  # another daemon was first
                    continue
                except OSError as error:  # a directory, say: no event, and not ours
                    log.warning("not purged", what="events", reason=told(error))
        return removed

    def expire_probation(self) -> JobReport:
        """Delete versions that have been on probation for longer than the configuration allows."""
        days = self._config().probation_days
        expired: list[str] = []
        failed: list[str] = []
        if days:
            oldest = self._registry.clock.now() - int(days * DAY * NANOSECONDS)
            for version in self._versions(failed):
                if self._has_expired(version, oldest) and (done := self._expire(version, oldest)) is not None:
                    (expired if done else failed).append(str(version))
        numbers = {"expired": len(expired), "failed": len(failed)}
        return JobReport({"expired": some(expired), "failed": some(failed)}, numbers)

    def _versions(self, unlisted: list[str]) -> Iterator[Address]:
        for asset in self._assets(unlisted):
            yield from self._children(asset, unlisted)

    def _has_expired(self, version: Address, oldest: int) -> bool:
        summary = self._metadata.readable_summary(version)
        return summary is not None and summary.on_probation and summary.finish < oldest

    def _expire(self, version: Address, oldest: int) -> bool | None:
        """Reject a version; False if that failed, None if there was nothing to reject any more."""
        try:
            with self._changing(version) as place:
                if not self._has_expired(version, oldest):
                    return None
                place.transaction.add_usage(version.project, -place.metadata.stored_bytes(version))
                place.remove(version)
                place.commit(Outcome())
        except Absent:
            return None
        except (GobblerdError, OSError) as error:
            log.warning("probation not expired", place=str(version), reason=told(error))
            return False
        log.info("probation expired", place=str(version))
        return True

    def scrub(self) -> JobReport:
        """Read a part of the registry again, and report what is wrong there; nothing is repaired."""
        from gobblerd.registry.scrub import Scrub, ScrubTerms  # noqa: PLC0415 - the start needs none

        config = self._config()
        now = self._registry.clock.now()
        terms = ScrubTerms(self._scrub_size(config, now), config.scrub_bytes_per_second, config.whitelist)
        done = Scrub(self._registry.root, terms, self._registry.clock.now).run()
        memory = done.memory
        oldest = min(memory.checked.values(), default=0)
        facts = {
            "findings": memory.shown(FACTS_MOST),
            "oldest_check": format_time(oldest * NANOSECONDS) if oldest else "",
            "goes_on_in": f"{memory.place.version}/{memory.place.path}" if memory.place else "",
        }
        numbers = {
            "read_bytes": done.read,
            "places": done.places,
            "found": done.faults,
            "faults": memory.faults,
            "notices": memory.notices,
            "unchecked": done.unchecked,
            "oldest_seconds": max(0.0, now / NANOSECONDS - oldest) if oldest else 0.0,
        }
        return JobReport(facts, numbers)

    def _scrub_size(self, config: Config, now: int) -> int:
        """Return how many bytes a scrub that begins now has to read."""
        from gobblerd.registry.scrub import share_of  # noqa: PLC0415 - as above
        from gobblerd.registry.scrub_memory import Memory  # noqa: PLC0415 - as above

        if config.scrub_bytes_per_run:
            return config.scrub_bytes_per_run
        before = Memory.load(layout.join(self._registry.root, layout.STATE)).started
        elapsed = min(max(0, now - before), _SCRUB_MOST) / NANOSECONDS if before else DAY
        return share_of(self._metadata, config.scrub_every_days, elapsed)

    def prune_exports(self) -> JobReport:
        """Remove the archives of the export directory that no rule keeps."""
        from gobblerd.archive.retention import Retention, prune_archives  # noqa: PLC0415 - the start needs none

        config = self._config()
        if not config.export_directory:
            return JobReport()
        pruned = prune_archives(
            config.export_directory,
            Retention(config.export_keep_last or None, config.export_keep_days or None, config.export_pins),
            now=self._registry.clock.now(),
            name_template=config.export_name_template,
        )
        facts = {
            "removed": some(pruned.removed),
            "failed": some(pruned.failed),
            "unsure": some(pruned.unsure),
        }
        numbers = {"removed": len(pruned.removed), "failed": len(pruned.failed), "freed_bytes": pruned.freed}
        return JobReport(facts, {**numbers, "kept": len(pruned.kept), "unsure": len(pruned.unsure)})


def _stored_usage(metadata: Metadata, project: Address) -> int | None:
    """Return the total that a project's `..usage` says; None where it cannot be read: it is written anew."""
    try:
        return metadata.usage(project.project).total
    except Fault:
        return None


def _stored_latest(metadata: Metadata, asset: Address) -> Latest | None:
    try:
        return metadata.latest(asset)
    except Fault:  # as above
        return _UNREADABLE
