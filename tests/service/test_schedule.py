"""gobblerd.service.schedule: once per registry, missed runs made up, failures contained."""

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from gobblerd.domain.times import NANOSECONDS, format_time, parse_time
from gobblerd.service.schedule import Job, JobReport, JobStatus, Schedule, is_due
from gobblerd.service.when import parse_when

NOON = parse_time("2026-11-20T12:00:00Z")
HOUR = 3600 * NANOSECONDS
PATIENCE = 30.0


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> int:
        return self.time


class Work:
    """A job's body that counts its runs; waits for `go` where it is told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.error = error
        self.ran = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def __call__(self) -> JobReport:
        self.runs += 1
        self.ran.set()
        assert self.go.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        return JobReport({"removed": self.runs}, {"removed": self.runs})


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Schedule]]:
    """Schedules that share one registry's state directory."""
    state = tmp_path / "..transactions" / "state"
    made: list[Schedule] = []

    def schedule(*jobs: Job) -> Schedule:
        made.append(Schedule(jobs, str(state), lambda: os.makedirs(state, exist_ok=True), clock))
        return made[-1]

    with structlog.testing.capture_logs():
        yield schedule
        for each in made:
            assert each.stop(PATIENCE)


def fire(schedule: Schedule, name: str = "purge") -> JobStatus:
    """Let a job's time come, and wait until it is over."""
    schedule.fire(name)
    thread = schedule._tallies[name].thread
    assert thread is not None
    thread.join(PATIENCE)
    return status(schedule, name)


def status(schedule: Schedule, name: str = "purge") -> JobStatus:
    return next(each for each in schedule.snapshot() if each.name == name)


def test_a_job_runs_and_its_report_is_kept(make: Callable[..., Schedule], tmp_path: Path) -> None:
    """The stamp says when and what; the status shows it."""
    work = Work()
    found = fire(make(Job("purge", work, "3600")))
    assert work.runs == found.runs == 1
    assert found.last is not None
    assert (found.last.outcome, found.last.facts) == ("done", {"removed": 1})
    assert (found.last.start, found.last.finish) == (format_time(NOON), format_time(NOON))
    stamp = json.loads((tmp_path / "..transactions" / "state" / "purge.json").read_text())
    assert stamp["outcome"] == "done"


def test_nothing_is_made_before_it_is_needed(make: Callable[..., Schedule], tmp_path: Path) -> None:
    """A daemon that only starts leaves a fresh registry as it was, and runs nothing at once."""
    work = Work()
    schedule = make(Job("purge", work, "3600"), Job("refresh_usage", work, "30 2 * * *"))
    schedule.start()
    assert schedule.alive
    assert os.listdir(tmp_path) == []
    assert schedule.stop(PATIENCE)
    assert not schedule.alive
    assert work.runs == 0


def test_several_daemons_run_a_job_once(make: Callable[..., Schedule], clock: Clock) -> None:
    """What one has done the others pass over, until it is due again."""
    work = Work()
    one, other = make(Job("purge", work, "3600")), make(Job("purge", work, "3600"))
    fire(one)
    clock.time += HOUR // 2
    found = fire(other)
    assert work.runs == 1
    assert found.runs == 0
    assert found.last is not None
    assert found.last.outcome == "done", "the other one's run is shown"
    clock.time += HOUR // 2
    fire(other)
    fire(one)
    assert work.runs == 2


def test_work_on_a_staging_directory_is_done_once_for_each(make: Callable[..., Schedule]) -> None:
    """Two daemons each purge their own; a second daemon of one directory passes it over."""
    work = Work()
    for staging in ("aa", "bb", "aa"):
        fire(make(Job("purge", work, "3600", staging=staging)))
    assert work.runs == 2


def test_how_a_job_ended_is_shown_until_it_has_ended_again(
    make: Callable[..., Schedule], clock: Clock
) -> None:
    """One that fails each second and runs nearly all the time must not pass for one that only runs."""
    work = Work(OSError("no space"))
    schedule = make(Job("purge", work, "3600"))
    fire(schedule)
    clock.time += 2 * HOUR
    work.ran.clear()
    work.go.clear()
    schedule.fire("purge")
    assert work.ran.wait(PATIENCE)
    found = status(schedule)
    assert found.last is not None
    assert (found.running, found.last.outcome, found.last.reason) == (True, "failed", "no space")
    work.go.set()


def test_a_job_that_another_daemon_is_doing_is_passed_over(
    make: Callable[..., Schedule], clock: Clock
) -> None:
    """The lock, not the stamp, keeps a long job from being done twice at once."""
    slow, other = Work(), Work()
    slow.go.clear()
    one, two = make(Job("purge", slow, "3600")), make(Job("purge", other, "3600"))
    one.fire("purge")
    assert slow.ran.wait(PATIENCE)
    clock.time += 5 * HOUR
    assert fire(two).runs == 0
    one.fire("purge")
    assert (slow.runs, other.runs) == (1, 0), "nor does its own daemon begin it twice"
    assert status(one).running
    slow.go.set()


def test_a_job_that_fails_is_contained(make: Callable[..., Schedule], clock: Clock) -> None:
    """It is counted, its reason kept, others run, and it gets its next turn."""
    bad, good = Work(OSError(28, "No space left on device")), Work()
    schedule = make(Job("purge", bad, "3600"), Job("refresh_latest", good, "3600"))
    with structlog.testing.capture_logs() as logged:
        found = fire(schedule)
    assert [(entry["event"], entry["job"]) for entry in logged] == [("scheduled job failed", "purge")]
    assert (found.runs, found.failures) == (1, 1)
    assert found.last is not None
    assert (found.last.outcome, found.last.reason) == (
        "failed",
        "No space left on device",
    )
    assert fire(schedule, "refresh_latest").failures == 0
    clock.time += HOUR
    found = fire(schedule)
    assert found.failures == 2
    assert found.last is not None
    assert (found.last.failures, found.last.success) == (2, "")


def test_a_failure_keeps_what_the_last_good_run_found(make: Callable[..., Schedule], clock: Clock) -> None:
    """When it was last done and what came of it stay to be seen; every daemon counts on where others left."""
    work = Work()
    fire(make(Job("purge", work, "3600")))
    clock.time += HOUR
    work.error = OSError(5, "Input/output error")
    fire(make(Job("purge", work, "3600")))
    clock.time += HOUR
    last = fire(make(Job("purge", work, "3600"))).last
    assert last is not None
    assert (last.outcome, last.failures, last.success) == ("failed", 2, format_time(NOON))
    assert (last.facts, last.numbers) == ({"removed": 1}, {"removed": 1})
    clock.time += HOUR
    work.error = None
    last = fire(make(Job("purge", work, "3600"))).last
    assert last is not None
    assert (last.outcome, last.failures, last.success) == ("done", 0, format_time(clock.time))


def test_a_stamp_of_a_later_release_is_understood(make: Callable[..., Schedule], tmp_path: Path) -> None:
    """Keys that this one does not know are none of its business: the job is not run again for them."""
    fire(make(Job("purge", Work(), "3600")))
    path = tmp_path / "..transactions" / "state" / "purge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "weather": "fine"}))
    assert fire(make(Job("purge", Work(), "3600"))).runs == 0


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A registry out of reach makes a job fail, and nothing else."""

    def unreachable() -> None:
        raise OSError(107, "Transport endpoint is not connected")

    work = Work()
    schedule = Schedule([Job("purge", work, "3600")], str(tmp_path / "none"), unreachable)
    with structlog.testing.capture_logs() as logged:
        found = fire(schedule)
    assert [entry["event"] for entry in logged] == ["scheduled job could not run"]
    assert (found.runs, found.failures, work.runs) == (0, 1, 0)
    assert found.last is not None
    assert "not connected" in found.last.reason


def test_a_full_disk_does_not_keep_a_purge_from_making_room(
    make: Callable[..., Schedule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs without a stamp, is done, and one line says that it has none; with room, all is as ever."""
    work = Work()
    schedule = make(Job("purge", work, "3600"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, structlog.testing.capture_logs() as logged:
        patch.setattr("gobblerd.service.schedule.replace_file", full)
        found = fire(schedule)
    assert logged[-1]["event"] == "the stamp of a scheduled job could not be written"
    assert found.last is not None
    assert (work.runs, found.failures, found.last.outcome) == (1, 0, "done")
    stamp = tmp_path / "..transactions/state/purge.json"
    assert not stamp.exists()
    fire(schedule)
    assert (work.runs, stamp.exists()) == (2, True)


def test_a_failing_disk_is_told_in_a_line(make: Callable[..., Schedule]) -> None:
    """Only a fault of ours needs a traceback."""
    full = OSError(errno.ENOSPC, "No space left on device", "/disk/file")
    schedule = make(Job("scrub", Work(full), "3600"), Job("purge", Work(KeyError("k")), "3600"))
    with structlog.testing.capture_logs() as logged:
        fire(schedule, "scrub")
        fire(schedule)
    assert [entry.get("reason") for entry in logged] == ["/disk/file: No space left on device", None]
    assert ["exc_info" in entry for entry in logged] == [False, True]


def test_a_missed_run_is_made_up_once(make: Callable[..., Schedule], clock: Clock) -> None:
    """A daemon that comes after the time runs the job at start; one that comes next does not."""
    fire(make(Job("purge", Work(), "30 2 * * *")))
    clock.time += 72 * HOUR
    late, later = Work(), Work()
    schedule = make(Job("purge", late, "30 2 * * *"))
    schedule.start()
    assert late.ran.wait(PATIENCE)
    assert schedule.stop(PATIENCE)
    make(Job("purge", later, "30 2 * * *")).start()
    assert not later.ran.wait(0.2)
    assert late.runs == 1


def test_a_run_is_missed_also_by_a_job_that_never_ran(make: Callable[..., Schedule], clock: Clock) -> None:
    """A machine that is off every night: the time counts from when the job was first seen."""
    fire(make(Job("other", Work(), "3600")), "other")  # the registry is in use
    first = Work()
    schedule = make(Job("purge", first, "30 2 * * *"))
    schedule.start()
    assert schedule.stop(PATIENCE)
    assert not first.runs
    clock.time += 24 * HOUR
    second = Work()
    make(Job("purge", second, "30 2 * * *")).start()
    assert second.ran.wait(PATIENCE)


def test_a_job_that_is_killed_is_not_tried_at_every_start(
    make: Callable[..., Schedule], tmp_path: Path
) -> None:
    """Its stamp counts as a run, lest it kill the daemon again and again."""
    fire(make(Job("purge", Work(), "3600")))
    path = tmp_path / "..transactions" / "state" / "purge.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "outcome": "running", "finish": ""}))
    work = Work()
    schedule = make(Job("purge", work, "3600"))
    schedule.start()
    assert not work.ran.wait(0.2)
    last = status(schedule).last
    assert last is not None
    assert (last.outcome, status(schedule).running) == ("running", False)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"start": "x"}', '{"start": 3}', '{"no": 1}', "\udc80"])
def test_a_stamp_that_cannot_be_read_is_none(
    make: Callable[..., Schedule], tmp_path: Path, text: str
) -> None:
    """The job runs, and writes a good one."""
    state = tmp_path / "..transactions" / "state"
    os.makedirs(state)
    (state / "purge.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = fire(make(Job("purge", Work(), "3600")))
    assert found.last is not None
    assert found.last.outcome == "done"


def test_what_is_off_never_runs_by_itself(make: Callable[..., Schedule]) -> None:
    """It is shown, without a next run."""
    schedule = make(Job("purge", Work(), "off"), Job("refresh_usage", Work(), "30 2 * * *"))
    schedule.start()
    assert (status(schedule).when, status(schedule).next_run) == ("off", None)
    assert status(schedule, "refresh_usage").next_run is not None


def test_a_reload_takes_other_jobs_and_times(make: Callable[..., Schedule]) -> None:
    """What counts is the new list; counters and a running job go on."""
    slow = Work()
    slow.go.clear()
    schedule = make(Job("purge", slow, "3600"))
    schedule.start()
    schedule.fire("purge")
    assert slow.ran.wait(PATIENCE)
    schedule.replace([Job("purge", slow, "off"), Job("refresh_latest", Work(), "7200")])
    assert [each.name for each in schedule.snapshot()] == ["purge", "refresh_latest"]
    assert (status(schedule).running, status(schedule).runs) == (True, 1)
    assert status(schedule).next_run is None
    assert status(schedule, "refresh_latest").next_run is not None
    slow.go.set()


def test_time_itself_starts_a_job(tmp_path: Path) -> None:
    """With the real clock: an interval of a second comes round, and again, however late the first was."""
    work, again = Work(), threading.Event()

    def run() -> JobReport:
        if work.runs:
            again.set()
        return work()

    state = str(tmp_path / "state")
    schedule = Schedule([Job("purge", run, "1")], state, lambda: os.makedirs(state, exist_ok=True))
    with structlog.testing.capture_logs():
        schedule.start()
        assert again.wait(PATIENCE)
        assert schedule.stop(PATIENCE)
    assert schedule.stop(0), "stopping again is fine"


def test_stopping_does_not_wait_for_ever(make: Callable[..., Schedule]) -> None:
    """A job that goes on is said to; its thread does not keep the process."""
    slow = Work()
    slow.go.clear()
    schedule = make(Job("purge", slow, "3600"))
    schedule.start()
    schedule.fire("purge")
    assert slow.ran.wait(PATIENCE)
    assert not schedule.stop(0)
    thread = schedule._tallies["purge"].thread
    assert thread is not None
    assert thread.daemon
    slow.go.set()


@pytest.mark.parametrize(
    ("when", "later", "jitter", "due"),
    [
        ("3600", HOUR, 0, True),
        ("3600", HOUR - 60 * NANOSECONDS, 0, True),  # the last run began late
        ("3600", HOUR * 8 // 10, 0, False),
        ("3600", HOUR * 9 // 10 - 50 * NANOSECONDS, 60, True),
        ("3600", HOUR // 2, 60, False),
        ("3600", -24 * HOUR, 60, False),  # the clock was set back
        ("3600", -25 * HOUR, 60, True),  # it was far ahead: no job rests until that day comes
        ("30 2 * * *", -9000 * HOUR, 0, True),
        ("0 * * * *", HOUR, 0, True),
        ("0 * * * *", HOUR - 1000, 60, False),
        ("off", 1000 * HOUR, 0, False),
    ],
)
def test_when_a_job_is_due(when: str, later: int, jitter: float, *, due: bool) -> None:
    """Reckoned from the last start; jitter may bring two runs of an interval together, not of a cron time."""
    assert is_due(parse_when(when), NOON, NOON + later, jitter) == due
