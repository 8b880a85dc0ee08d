"""What is counted, and what is read of snapshots at a scrape."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families
from support.daemon import eventually
from support.registries import Book, make_context

from gobblerd.service.gauges import Gauges, period_of
from gobblerd.service.metrics import Metrics
from gobblerd.service.schedule import JobStatus, Stamp
from gobblerd.service.shares import Figures, Share, Shares, figures_of
from gobblerd.service.vitals import STALE_SECONDS, Vitals
from gobblerd.staging.status import SpoolStatus

NOTHING: Mapping[str, str] = MappingProxyType({})
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, content_type = metrics.text()
    assert content_type.startswith("text/plain; version=")
    families = text_string_to_metric_families(body.decode())
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("0.1", ["upload", "health_check"])


def watched(
    metrics: Metrics,
    *,
    spool: SpoolStatus | None = None,
    jobs: Sequence[JobStatus] = (),
    figures: Figures | None = None,
    vitals: Vitals | None = None,
) -> Metrics:
    status = spool or SpoolStatus(ready=True, draining=False)
    vitals = vitals or Vitals({}, list)
    metrics.watch(Gauges(lambda: status, lambda: jobs, lambda: figures or Figures(), vitals))
    return metrics


def test_answers_are_counted_by_action_outcome_and_code(metrics: Metrics) -> None:
    metrics.answered("upload", 200, 0.5)
    metrics.answered("upload", 403, 2)
    labels = {"action": "upload", "outcome": "error", "code": "403"}
    assert value(metrics, "gobblerd_requests_total", **labels) == 1
    assert value(metrics, "gobblerd_request_duration_seconds_count", action="upload") == 2
    assert value(metrics, "gobblerd_request_duration_seconds_sum", action="upload") == 2.5


def test_every_action_is_there_before_its_first_request(metrics: Metrics) -> None:
    """Else the first one would not count as an increase."""
    labels = {"action": "health_check", "outcome": "success", "code": "200"}
    assert value(metrics, "gobblerd_requests_total", **labels) == 0


def test_actions_that_there_are_not_make_no_series_of_their_own(metrics: Metrics) -> None:
    """Anybody may name a million of them."""
    for number in range(1000):
        metrics.answered(f"nonsense{number}", 400, 0.1)
    labels = {"action": "other", "outcome": "error", "code": "400"}
    assert value(metrics, "gobblerd_requests_total", **labels) == 1000


def test_two_daemons_in_one_process_count_apart(metrics: Metrics) -> None:
    metrics.taken(3, 10)
    assert value(metrics, "gobblerd_taken_bytes_total") == 10
    assert value(Metrics("0.1", []), "gobblerd_taken_bytes_total") == 0


def test_open_metrics_for_who_asks_for_it(metrics: Metrics) -> None:
    body, content_type = metrics.text("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_start_is_a_time_of_this_year(metrics: Metrics) -> None:
    """Also where /proc/stat is hidden, as in the unit."""
    start = value(metrics, "process_start_time_seconds")
    assert start is not None
    assert time.time() - 86400 < start < time.time() + 60


def test_jobs_tell_of_their_last_run(metrics: Metrics) -> None:
    last = Stamp(
        "2026-11-20T02:30:00Z",
        "2026-11-20T02:30:09Z",
        "failed",
        numbers={"mended": 2, "mended_bytes": 12},
        success="2026-11-19T02:30:01Z",
        seconds=9,
    )
    scrub = Stamp(last.start)
    jobs = [
        JobStatus("refresh_usage", "30 2 * * *", None, running=False, last=last, runs=3, failures=1),
        JobStatus("scrub", "off", None, running=True, last=scrub, runs=1, failures=0),
    ]
    watched(metrics, jobs=jobs)
    assert value(metrics, "gobblerd_schedule_runs_total", schedule="refresh_usage") == 3
    assert value(metrics, "gobblerd_schedule_failures_total", schedule="refresh_usage") == 1
    success = datetime(2026, 11, 19, 2, 30, 1, tzinfo=UTC).timestamp()
    assert (
        value(metrics, "gobblerd_schedule_last_success_timestamp_seconds", schedule="refresh_usage")
        == success
    )
    assert value(metrics, "gobblerd_schedule_last_duration_seconds", schedule="refresh_usage") == 9
    assert value(metrics, "gobblerd_schedule_period_seconds", schedule="refresh_usage") == 86400
    assert value(metrics, "gobblerd_schedule_period_seconds", schedule="scrub") is None
    assert value(metrics, "gobblerd_schedule_running", schedule="scrub") == 1
    assert value(metrics, "gobblerd_schedule_result", schedule="refresh_usage", what="mended_bytes") == 12


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("off", None),
        ("3600", 3600),
        ("30 2 * * *", 86400),
        ("0 * * * *", 3600),
        ("0 3 * * 1-5", 3 * 86400),  # over the weekend
    ],
)
def test_the_period_of_a_schedule_is_its_longest_pause(schedule: str, seconds: float | None) -> None:
    found = period_of(schedule, NOON)
    if seconds is None or seconds <= 3600:
        assert found == seconds
    else:  # a clock may be put forward or back meanwhile
        assert found is not None
        assert abs(found - seconds) <= 3600


def test_only_the_fullest_projects_are_named(metrics: Metrics) -> None:
    shares = [Share(f"p{number}", number, 100) for number in range(60)]
    figures = figures_of([*shares, Share("unlimited", 10**9), Share("none", 1, 0)], most=3)
    assert (figures.projects, figures.stored) == (62, sum(range(60)) + 10**9 + 1)
    assert [share.project for share in figures.shown] == ["none", "p59", "p58"]
    watched(metrics, figures=figures)
    assert value(metrics, "gobblerd_project_usage_bytes", project="p59") == 59
    assert value(metrics, "gobblerd_project_quota_bytes", project="p59") == 100
    assert value(metrics, "gobblerd_project_usage_bytes", project="p57") is None


def test_projects_are_read_from_the_registry_and_damaged_ones_left_out(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = str(tmp_path_factory.mktemp("registry"))
    book = Book(root)
    book.version("p/a/1", {"f": b"12345"})
    book.version("q/a/1", {"f": b"1"})
    book.version("broken/a/1", {"f": b"1"})
    book.edit("p/..quota", {"baseline": 10, "growth_rate": 0, "year": 2026})
    book.edit("broken/..usage", {"total": "many"})
    shares = Shares(make_context(root).registry, lambda: True)
    found = eventually(lambda: shares.figures() if shares.figures().projects else None, "the usages")
    assert found == Figures(2, 6, (Share("p", 5, 10), Share("q", 1)))


def test_a_look_that_does_not_come_back_is_a_problem() -> None:
    """A file server that hangs."""
    now = [0.0]
    vitals = Vitals({}, list, lambda: now[0])
    vitals.look()
    assert vitals.problems() == []
    now[0] = STALE_SECONDS + 12
    assert vitals.problems() == ["the storage has not answered for 42 s"]


def test_a_directory_that_is_gone_is_a_problem() -> None:
    vitals = Vitals({"registry": "/nonexistent", "staging": "/"}, lambda: ["the watcher is dead"])
    assert vitals.problems()[0].startswith("starting")
    vitals.look()
    assert vitals.problems() == [
        "the watcher is dead",
        "the registry directory cannot be reached: No such file or directory",
    ]
    assert set(vitals.spaces) == {"staging"}
    vitals.announce("stopping")
    assert vitals.problems()[0] == "stopping"


def test_a_problem_is_logged_when_it_comes_and_when_all_are_gone() -> None:
    """Not in every look: they come every other second, for days perhaps."""
    problems: list[str] = []
    vitals = Vitals({}, lambda: list(problems))
    with structlog.testing.capture_logs() as logged:
        for now in ([], ["a"], ["a"], ["a", "b"], ["b"], [], []):
            problems[:] = now
            vitals.look()
    assert [entry.get("reason", entry["event"]) for entry in logged] == [
        "a",
        "b",
        "serves as it should again",
    ]
