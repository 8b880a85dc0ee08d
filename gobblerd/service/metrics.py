"""What `GET /metrics` answers: counts and durations of what the daemon does, in Prometheus' text format.

The rooms call one method per occurrence (`answered`, `taken`, `lock_waited`), which counts in memory and
touches no disk. What is a state rather than an occurrence is asked for at each scrape, of the sources that
are given to `watch` (gauges.py). Every metric is in the table of docs/metrics.md, which a test compares.

Labels are bounded: an action that there is not, which anybody may name in a request file, counts as "other".
"""

from collections.abc import Collection, Iterator
from http import HTTPStatus
from time import CLOCK_BOOTTIME, clock_gettime, time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

OTHER = "other"
_REQUEST_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)  # seconds
_LOCK_BUCKETS = (0.001, 0.01, 0.1, 1, 10, 60, 600)  # seconds
_START = "process_start_time_seconds"


class Metrics:
    """All metrics of one daemon. Thread-safe."""

    def __init__(self, version: str, actions: Collection[str]) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody asks for
        self._registry = registry = CollectorRegistry()
        self._actions = frozenset(actions)
        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}  # by action and code
        Info("gobblerd_build", "Which gobblerd this is.", registry=registry).info({"version": version})
        self._requests = Counter(
            "gobblerd_requests",
            "Requests answered since the start.",
            ("action", "outcome", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "gobblerd_request_duration_seconds",
            "Time from a request's being taken up to its durable response.",
            ("action",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self._files = Counter(
            "gobblerd_taken_files", "Files of committed uploads since the start.", registry=registry
        )
        self._bytes = Counter(
            "gobblerd_taken_bytes", "Bytes that committed uploads stored since the start.", registry=registry
        )
        self._locks = Histogram(
            "gobblerd_lock_wait_seconds",
            "Time that it took to get the locks of one place.",
            buckets=_LOCK_BUCKETS,
            registry=registry,
        )
        for action in actions:
            self._requests.labels(action, "success", "200")
        registry.register(_Process())
        PlatformCollector(registry=registry)

    def answered(self, action: str, code: int, seconds: float) -> None:
        """Count a request that has its response."""
        action = action if action in self._actions else OTHER
        series = self._answers.get((action, code)) or self._series(action, code)
        series[0].inc()
        series[1].observe(seconds)

    def _series(self, action: str, code: int) -> tuple[Counter, Histogram]:
        """Look the two series up, and keep them: that takes five times as long as to count."""
        outcome = "success" if code == HTTPStatus.OK else "error"
        series = self._requests.labels(action, outcome, str(code)), self._seconds.labels(action)
        self._answers[action, code] = series
        return series

    def taken(self, files: int, size: int) -> None:
        """Count an upload that was committed: its files, and the bytes that it stored."""
        self._files.inc(files)
        self._bytes.inc(size)

    def lock_waited(self, seconds: float) -> None:
        """Count the locks of a place that were acquired."""
        self._locks.observe(seconds)

    def watch(self, collector: Collector) -> None:
        """Ask this at each scrape as well."""
        self._registry.register(collector)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return all metrics and their content type, in the format that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Process(Collector):
    """The process's own metrics; its start is right also where the unit hides /proc/stat (ProcSubset=pid)."""

    def __init__(self) -> None:
        self._process = ProcessCollector(registry=None)
        with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])  # proc(5): starttime
        self._start = time() - clock_gettime(CLOCK_BOOTTIME) + ticks / self._process._ticks  # noqa: SLF001 - as it reckons itself

    def collect(self) -> Iterator[Metric]:
        """Yield what the library finds, with a start that is none before 1970."""
        for family in self._process.collect():
            if family.name != _START:
                yield family
        yield GaugeMetricFamily(_START, "Start time of the process since unix epoch in seconds.", self._start)
