"""The part of the metrics that is a state: asked for at each scrape, of snapshots that lie in memory.

Nothing here touches a disk, so that a file server that hangs does not hang the monitoring too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gobblerd.domain.times import NANOSECONDS, parse_time
from gobblerd.service.schedule import JobStatus
from gobblerd.service.shares import Figures
from gobblerd.service.vitals import Vitals
from gobblerd.service.when import parse_when
from gobblerd.staging.status import SpoolStatus

_FIRES = 8  # of a cron expression, from which its longest pause is taken


@dataclass(frozen=True)
class Gauges(Collector):
    """What is asked for, and of whom."""

    spool: Callable[[], SpoolStatus]
    schedule: Callable[[], Sequence[JobStatus]]
    figures: Callable[[], Figures]
    vitals: Vitals

    def collect(self) -> Iterator[Metric]:
        """Yield every family, also one that has no sample at the moment."""
        yield from _queue(self.spool())
        yield from _schedules(self.schedule())
        yield from _projects(self.figures())
        yield from _vitals(self.vitals)


def _family(name: str, text: str, label: str, samples: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"gobblerd_{name}", text, labels=(label,))
    for value, number in samples.items():
        family.add_metric((value,), number)
    return family


def _one(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"gobblerd_{name}", text, value=value)


def _queue(spool: SpoolStatus) -> Iterator[Metric]:
    yield _family("queued_requests", "Requests that wait for their turn.", "lane", spool.queued)
    yield _family("running_requests", "Requests that are performed now.", "lane", spool.running)
    yield _one(
        "oldest_request_age_seconds",
        "Age of the oldest request that waits or runs; 0: none does.",
        spool.oldest_seconds,
    )
    yield _one("unsettled_requests", "Request files seen that are not complete yet.", spool.unsettled)
    yield _one("unwritten_responses", "Responses that could not be written so far.", spool.unwritten)
    yield _one(
        "queue_overflowed", "1 while more requests lie in staging than the queue takes.", spool.overflowed
    )


def _schedules(jobs: Sequence[JobStatus]) -> Iterator[Metric]:
    for kind, text in (("runs", "Runs by this daemon."), ("failures", "Runs by this daemon that failed.")):
        counter = CounterMetricFamily(f"gobblerd_schedule_{kind}", text, labels=("schedule",))
        for job in jobs:
            counter.add_metric((job.name,), getattr(job, kind))
        yield counter
    yield _family("schedule_running", "1 while it runs.", "schedule", {job.name: job.running for job in jobs})
    yield _family(
        "schedule_last_success_timestamp_seconds",
        "When it last ended well, by whichever daemon of the registry.",
        "schedule",
        {job.name: _seconds(job.last.success) for job in jobs if job.last and job.last.success},
    )
    yield _family(
        "schedule_last_duration_seconds",
        "How long its last run took.",
        "schedule",
        {job.name: job.last.seconds for job in jobs if job.last and job.last.finish},
    )
    periods = {job.name: period_of(job.when) for job in jobs}
    yield _family(
        "schedule_period_seconds",
        "Longest time between two runs by its schedule; absent if it is off.",
        "schedule",
        {name: period for name, period in periods.items() if period is not None},
    )
    yield from _results(jobs)


def _results(jobs: Sequence[JobStatus]) -> Iterator[Metric]:
    """Yield the numbers in which the last runs that were done put what they found and did."""
    family = GaugeMetricFamily(
        "gobblerd_schedule_result", "What its last complete run found or did.", labels=("schedule", "what")
    )
    for job in jobs:
        for what, number in (job.last.numbers if job.last else {}).items():
            family.add_metric((job.name, what), number)
    yield family


def _projects(figures: Figures) -> Iterator[Metric]:
    yield _one("projects", "Projects in the registry.", figures.projects)
    yield _one("stored_bytes", "Bytes that all projects store, by their usages.", figures.stored)
    shown = figures.shown
    yield _family(
        "project_usage_bytes",
        "Bytes that a project stores; only the fullest projects.",
        "project",
        {share.project: share.used for share in shown},
    )
    yield _family(
        "project_quota_bytes",
        "What the same projects may store; absent where no quota is enforced.",
        "project",
        {share.project: share.limit for share in shown if share.limit is not None},
    )


def _vitals(vitals: Vitals) -> Iterator[Metric]:
    yield _one("healthy", "1 while the daemon can serve, as /healthz has it.", not vitals.problems())
    yield _one("unfinished_transactions", "Committed changes that are not applied yet.", vitals.unfinished)
    spaces = vitals.spaces
    for name, text, attribute in (
        ("filesystem_size_bytes", "Size of the filesystem that a directory lies on.", "size"),
        ("filesystem_free_bytes", "Bytes of it that gobblerd's account may still use.", "free"),
        ("filesystem_files", "Inodes of it; 0 where it does not count them.", "files"),
        ("filesystem_free_files", "Inodes of it that are free.", "free_files"),
    ):
        samples = {directory: getattr(space, attribute) for directory, space in spaces.items()}
        yield _family(name, text, "directory", samples)


def _seconds(time: str) -> float:
    return parse_time(time) / NANOSECONDS


def period_of(text: str, now: datetime | None = None) -> float | None:
    """Return the longest time in seconds between two of the next runs of a schedule; None if it is off."""
    when = parse_when(text)
    if when.is_off or when.every is not None:
        return when.every
    moment, longest = when.next_after(now or datetime.now(UTC)), 0.0
    for _ in range(_FIRES):
        following = when.next_after(moment) if moment else None
        if moment is None or following is None:
            break
        longest, moment = max(longest, (following - moment).total_seconds()), following
    return longest or None
