"""Signals under load: whatever comes, at whatever moment, each request is done once and answered once.

The order of signals and pauses follows from GOBBLERD_SEED (chosen anew by default; shown when a test fails).
"""

import json
import os
import random
import secrets
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.checker import assert_clean
from support.crowd import codes_of, counts, drop_many, events_of, wait_for_all
from support.daemon import RunningDaemon, StartDaemon, eventually
from support.documents import as_event, events

USER = 62001
SEED = int(os.environ.get("GOBBLERD_SEED") or secrets.randbelow(10**6))
DIED = "the daemon died each of the"


class Load(threading.Thread):
    """Drops requests until told to stop: projects, uploads, questions, of two users."""

    def __init__(self, daemon: RunningDaemon) -> None:
        super().__init__()
        self._daemon = daemon
        self._over = threading.Event()
        self.projects: list[str] = []  # the request that makes project q0, q1 ...
        self.uploads: list[str] = []  # the request that uploads version p/a<n % 3>/<n>
        self.others: list[str] = []

    def run(self) -> None:
        """Keep some dozens of requests ahead of the daemon."""
        while not self._over.wait(0.01):
            if self._open_requests() > 40:
                continue
            number = len(self.uploads)
            self.projects += drop_many(self._daemon.staging, "create_project", [{"project": f"q{number}"}], 0)
            source = self._daemon.source({"f": b"%d" % number, "g": os.urandom(1 << 16)}, USER)
            document = {"project": "p", "asset": f"a{number % 3}", "version": f"{number}", "source": source}
            self.uploads += drop_many(self._daemon.staging, "upload", [document], USER)
            self.others += drop_many(self._daemon.staging, "refresh_usage", [{"project": "p"}], 0)

    def _open_requests(self) -> int:
        return len(self.every) - len(os.listdir(os.path.join(self._daemon.staging, "responses")))

    @property
    def every(self) -> list[str]:
        """All that was dropped."""
        return [*self.projects, *self.uploads, *self.others]

    def end(self) -> None:
        """Stop."""
        self._over.set()
        self.join()


@contextmanager
def load_on(daemon: RunningDaemon) -> Iterator[Load]:
    """Put load on a daemon for the length of the block."""
    load = Load(daemon)
    load.start()
    try:
        yield load
    finally:
        load.end()


@pytest.mark.parametrize("signals", counts(20, 500))
def test_a_storm_of_signals_loses_and_doubles_nothing(start_daemon: StartDaemon, signals: int) -> None:
    """SIGTERM (exit code 0), SIGHUP and SIGKILL at random moments: in the end all is answered, truthfully."""
    print(f"GOBBLERD_SEED={SEED}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(SEED)
    sent: Counter[str] = Counter()
    daemon = start_daemon(settings={"durability": "process"})
    daemon.done("create_project", {"project": "p", "permissions": {"owners": [str(USER)]}})
    with load_on(daemon) as load:
        for _ in range(signals):
            number = chance.choice([signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
            sent[number.name] += 1
            threading.Event().wait(chance.random() * 0.2)
            os.kill(daemon.pid, number)
            if number is signal.SIGHUP:
                continue
            code = daemon._ended()
            assert code == (0 if number is signal.SIGTERM else -signal.SIGKILL), f"{number!r}: {code}"
            daemon.restart()
        eventually(lambda: len(load.uploads) > signals // 2, "some load")
    wait_for_all(daemon, load.every)
    require_truth(daemon, load)
    assert_clean(daemon.registry)
    print(f"{dict(sent)}, {codes_of(daemon, load.every)}")  # noqa: T201 - the figures for docs/reliability.md


def require_truth(daemon: RunningDaemon, load: Load) -> None:
    """Each answer tells what happened, and what happened did once.

    200, or, for what was under way in three kills, 500 that says so; then nothing was done.
    """
    happened = events(daemon.registry)
    for number, name in enumerate(load.projects):
        assert succeeded(daemon, name) == os.path.isdir(daemon.path(f"q{number}")), name
    for number, name in enumerate(load.uploads):
        place = {"project": "p", "asset": f"a{number % 3}", "version": f"{number}"}
        logged = [happened[as_event(type="add-version", latest=latest, **place)] for latest in (True, False)]
        assert sum(logged) == int(succeeded(daemon, name)), (name, logged)
    for name in load.others:
        succeeded(daemon, name)


def succeeded(daemon: RunningDaemon, name: str) -> bool:
    answer = daemon.wait(name)
    assert answer.code == 200 or DIED in answer.reason, answer
    return answer.code == 200


@pytest.mark.parametrize("hangups", counts(60, 1_000))
def test_hangups_in_a_burst(start_daemon: StartDaemon, hangups: int) -> None:
    """However close together they come: every job is still planned, nothing fails, and requests are answered."""
    daemon = start_daemon(settings={"durability": "process"})
    daemon.done("health_check", {})
    for _ in range(hangups):
        os.kill(daemon.pid, signal.SIGHUP)
        os.kill(daemon.pid, signal.SIGHUP)
        threading.Event().wait(0.002)
    eventually(lambda: "the configuration was reloaded" in daemon.logged(), "a reload")
    daemon.done("create_project", {"project": "p"})
    every = {"refresh_usage", "refresh_latest", "purge", "expire_probation", "scrub", "prune_exports"}
    # Jobs are planned one by one: between two of many reloads some are not yet.
    eventually(lambda: planned_jobs(daemon) == every, "every job to be planned")
    assert not any(event["level"] == "error" for event in events_of(daemon))


def planned_jobs(daemon: RunningDaemon) -> set[str]:
    """Return the scheduled jobs that have a next time."""
    path = os.path.join(daemon.staging, "responses", ".status.json")
    before = os.stat(path).st_mtime_ns
    eventually(lambda: os.stat(path).st_mtime_ns > before, "a status of now")
    with open(path, encoding="utf-8") as file:
        return {job["name"] for job in json.load(file)["schedules"] if job["next_run"]}
