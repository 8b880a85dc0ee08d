"""The daemon's machine has the wrong time: ages and dates follow the file server, nothing expires or happens twice.

libfaketime lies to the daemon about the time of day; files keep the times that the kernel gives them, as on a
file server whose clock is right. A file server with a wrong clock cannot be had here: tests/staging look at
that with a clock of their own.
"""

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from support.crowd import PrefixedDaemon, drop_many, events_of, executions, libfaketime, showing_log
from support.daemon import Answer, RunningDaemon, eventually
from support.documents import nanoseconds

USER, PAST, SOON = 62001, 62002, 62003
HOUR, YEAR = 3600, 365 * 86400
OFFSETS = [
    pytest.param(-HOUR, id="an hour slow", marks=pytest.mark.long),
    pytest.param(HOUR, id="an hour fast", marks=pytest.mark.long),
    pytest.param(-YEAR, id="a year slow"),
    pytest.param(YEAR, id="a year fast", marks=pytest.mark.long),
]
STEPS = [  # forward only by an hour: APScheduler counts off each second's run that was missed
    pytest.param((0, HOUR, -YEAR), id="forward and far back"),
    pytest.param((0, -HOUR), id="an hour back", marks=pytest.mark.long),
    pytest.param((YEAR, 0, -HOUR, 0), id="a year back, and more", marks=pytest.mark.long),
]
EVERY_SECOND = {
    "schedule_purge": "1",
    "schedule_expire_probation": "1",
    "schedule_refresh_usage": "1",
    "schedule_jitter": 0,
    "probation_days": 1,
    "durability": "process",
}
SECOND = 1_000_000_000


class Clock:
    """The time of day as the daemon is told it, off by some seconds that can be changed while it runs."""

    def __init__(self, base: str, library: str) -> None:
        self._file = os.path.join(base, "offset")
        self.prefix = [
            "env",
            f"LD_PRELOAD={library}",
            f"FAKETIME_TIMESTAMP_FILE={self._file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
            "FAKE_UTIME=0",
        ]

    def set(self, offset: int) -> None:
        """Put the daemon's clock `offset` seconds ahead of the file server's."""
        with open(f"{self._file}.new", "w", encoding="ascii") as file:
            file.write(f"{offset:+d}\n")
        os.rename(f"{self._file}.new", self._file)


@pytest.fixture
def clock(base: str) -> Clock:
    return Clock(base, libfaketime())


@pytest.fixture
def daemon(base: str, clock: Clock) -> Iterator[Callable[[int], RunningDaemon]]:
    """Return a function that starts a daemon whose clock is wrong by so many seconds."""
    made: list[PrefixedDaemon] = []

    def start(offset: int) -> RunningDaemon:
        clock.set(offset)
        made.append(PrefixedDaemon(base, clock.prefix, settings=EVERY_SECOND))
        return made[0]

    yield start
    assert made


def written(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def server_now(daemon: RunningDaemon) -> int:
    """Return the file server's time in nanoseconds."""
    path = os.path.join(daemon.staging, "tmp-now")
    with open(path, "wb"):
        pass
    return os.stat(path).st_ctime_ns


def prepare(daemon: RunningDaemon) -> None:
    """Make a project with a version on probation, a permission that is over and one that soon is."""
    now = server_now(daemon) // SECOND
    uploaders = [
        {"id": str(USER)},
        {"id": str(PAST), "until": written(now - 600), "trusted": True},
        {"id": str(SOON), "until": written(now + 1800), "trusted": True},
    ]
    daemon.done("create_project", {"project": "p", "permissions": {"uploaders": uploaders}})
    daemon.upload("p/a/1", {"f": b"1"})
    daemon.upload("p/a/trial", {"f": b"2"}, USER)


def jobs_done(daemon: RunningDaemon) -> int:
    return sum(event["event"] == "scheduled job done" for event in events_of(daemon))


def require_jobs(daemon: RunningDaemon) -> None:
    """Wait until every scheduled job must have run since."""
    before = jobs_done(daemon)
    eventually(lambda: jobs_done(daemon) >= before + 4, "scheduled jobs to be done")


def upload(daemon: RunningDaemon, version: str, user: int) -> Answer:
    document = {"project": "p", "asset": "a", "version": version, "source": daemon.source({"f": b"x"}, user)}
    return daemon.ask("upload", document, user)


def require_right_times(daemon: RunningDaemon) -> None:
    """Who may still upload may, who may not may not; what is written down is the file server's time."""
    before = server_now(daemon)
    version = f"at-{before}"
    name = daemon.drop("health_check", {}, USER)
    assert daemon.wait(name).code == 200
    assert upload(daemon, "refused", PAST).code == 403
    assert upload(daemon, version, SOON).code == 200
    after = server_now(daemon)
    summary = daemon.read("p/a", version, "..summary")
    filed = daemon.wait(name).body
    times = [summary["upload_start"], summary["upload_finish"], filed["started"], filed["finished"]]
    assert all(before - 2 * SECOND < nanoseconds(time) < after + 2 * SECOND for time in times), times
    assert daemon.read("p/a/..latest") == {"version": version}


def require_nothing_expired(daemon: RunningDaemon, names: list[str]) -> None:
    """Requests, responses and sources are there, and so is what is on probation."""
    assert all(os.path.exists(os.path.join(daemon.staging, name)) for name in names)
    assert all(daemon.has_response(name) for name in names)
    assert os.path.isdir(daemon.path("p/a/trial"))
    assert executions(daemon).most_common(1)[0][1] == 1


@pytest.mark.parametrize("offset", OFFSETS)
def test_a_wrong_clock(daemon: Callable[[int], RunningDaemon], offset: int) -> None:
    """Off by an hour or a year from the start, and across a kill and a restart: no wrong expiry, nothing done twice."""
    with showing_log(daemon(offset)) as running:
        prepare(running)
        names = drop_many(running.staging, "refresh_usage", [{"project": "p"}] * 20, 0)
        require_right_times(running)
        require_jobs(running)
        running.kill()
        names += drop_many(running.staging, "refresh_usage", [{"project": "p"}] * 20, 0)
        running.restart()
        assert {running.wait(name).code for name in names} == {200}
        require_right_times(running)
        require_jobs(running)
        require_nothing_expired(running, names)
        running.kill()  # not SIGTERM: under libfaketime a sleep may end in EINVAL, and with it a drain


@pytest.mark.parametrize("steps", STEPS)
def test_a_clock_that_steps(
    daemon: Callable[[int], RunningDaemon], clock: Clock, steps: tuple[int, ...]
) -> None:
    """Set while it runs, forward or back: the same, and what is scheduled goes on."""
    with showing_log(daemon(steps[0])) as running:
        prepare(running)
        names: list[str] = []
        for offset in steps:
            clock.set(offset)
            names += drop_many(running.staging, "refresh_usage", [{"project": "p"}] * 20, 0)
            assert {running.wait(name).code for name in names} == {200}
            require_right_times(running)
            require_jobs(running)
        require_nothing_expired(running, names)
        running.kill()  # not SIGTERM: under libfaketime a sleep may end in EINVAL, and with it a drain
