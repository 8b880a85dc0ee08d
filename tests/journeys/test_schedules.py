"""Schedules of real daemons: each job once per registry, what was missed made up once, failures contained."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from support.checker import assert_clean
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, address, eventually
from support.places import make_directory, open_directory

from gobblerd.domain.times import parse_time

EVERY = 2  # seconds
NAMES = ("refresh_usage", "refresh_latest", "purge", "expire_probation", "scrub")
BUSY = {f"schedule_{name}": str(EVERY) for name in NAMES} | {"schedule_jitter": 0, "scrub_bytes_per_run": 50}
YEARLY = {f"schedule_{name}": "off" for name in NAMES} | {"schedule_scrub": "0 0 1 1 *", "schedule_jitter": 0}


def logged(daemon: RunningDaemon, event: str) -> list[dict[str, Any]]:
    lines = (line[line.index("{") :] for line in daemon.logged().splitlines() if "{" in line)
    return [entry for entry in map(json.loads, lines) if entry["event"] == event]


def runs(*daemons: RunningDaemon) -> dict[str, list[tuple[float, float]]]:
    """Return begin and end (seconds) of each job's runs by all daemons, in order."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
    for daemon in daemons:
        for entry in logged(daemon, "scheduled job done"):
            end = parse_time(entry["time"]) / 1e9
            found[entry["job"]].append((end - entry["seconds"], end))
    return {name: sorted(each) for name, each in found.items()}


def schedule(daemon: RunningDaemon, name: str) -> dict[str, Any]:
    """Return what the daemon's status says of a job."""
    with open(f"{daemon.staging}/responses/.status.json", encoding="utf-8") as file:
        jobs: list[dict[str, Any]] = json.load(file)["schedules"]
    return next(job for job in jobs if job["name"] == name)


def shown(daemon: RunningDaemon) -> str:
    """Return what `gobblerd status` prints."""
    line = [sys.executable, "-m", "gobblerd", "status", daemon.staging]
    return subprocess.run(line, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout


def numbers(daemon: RunningDaemon, name: str) -> dict[str, float]:
    last = schedule(daemon, name)["last"]
    return dict(last["numbers"]) if last else {}


def replace(path: str, document: object) -> None:
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.rename(f"{path}.new", path)


@pytest.mark.timeout(300)
def test_two_daemons_run_each_job_once(start_daemon: StartDaemon) -> None:
    """What one does the other passes over; together they mend, expire and find what there is."""
    one = start_daemon(http=False, settings={**BUSY, "probation_days": 1})
    one.done("create_project", {"project": "p"})
    for version in ("1", "2"):
        one.upload(f"p/a/{version}", {"f": f"bytes of {version}".encode()})
    one.upload("p/a/3", {"g": b"on probation"}, on_probation=True)
    other = start_daemon(http=False, settings={**BUSY, "probation_days": 1}, registry=one.registry)

    def both(condition: Any, what: str) -> None:
        eventually(lambda: condition(one) or condition(other), what, 120)

    old = {**one.read("p", "a", "3", "..summary"), "upload_finish": "2020-01-01T00:00:00Z"}
    replace(one.path("p", "a", "3", "..summary"), old)
    eventually(lambda: not os.path.exists(one.path("p", "a", "3")), "the probation to expire", 120)
    eventually(lambda: one.read("p", "..usage") == {"total": 20}, "the usage to follow")
    replace(one.path("p", "..usage"), {"total": 5})
    eventually(lambda: one.read("p", "..usage") == {"total": 20}, "the usage to be mended", 120)
    replace(one.path("p", "a", "..latest"), {"version": "1"})
    eventually(lambda: one.read("p", "a", "..latest") == {"version": "2"}, "the latest to be mended", 120)
    mended = [entry for daemon in (one, other) for entry in logged(daemon, "usage mended")]
    assert [(each["stored"], each["right"]) for each in mended] == [(5, 20)]

    with open(one.path("p", "a", "1", "f"), "r+b") as file:
        file.write(b"rotten")
    both(lambda daemon: numbers(daemon, "scrub").get("faults") == 2, "the rot to be found")
    both(lambda daemon: "faults 2" in shown(daemon), "the rot to be shown")
    with open(one.path("p", "a", "1", "f"), "r+b") as file:
        file.write(b"bytes ")
    both(lambda daemon: numbers(daemon, "scrub").get("faults") == 0, "what was mended to be gone")

    enough = 3
    eventually(lambda: all(len(each) >= enough for each in runs(one, other).values()), "some runs", 120)
    for each in (one, other):
        eventually(lambda each=each: len(runs(each)["purge"]) >= enough, "each to purge its staging", 120)
    one.stop()
    other.stop()
    for name, found in runs(one, other).items():
        for before, after in pairwise(found if name != "purge" else []):
            assert after[0] >= before[1] - 0.1, f"{name}: two runs at once: {before}, {after}"
            assert after[0] >= before[0] + EVERY * 0.75, f"{name}: done twice: {before}, {after}"
    assert_clean(one.registry)


@pytest.mark.timeout(200)
def test_what_was_missed_is_made_up_once(start_daemon: StartDaemon) -> None:
    """By one of the daemons that start after the time; the other knows of it."""
    with open_directory() as base:
        registry = make_directory(f"{base}/registry", 0o755)
        transactions = make_directory(f"{registry}/..transactions", 0o700)
        state = make_directory(f"{transactions}/state", 0o700)
        replace(f"{state}/scrub.json", {"start": "2020-01-01T00:00:00Z", "outcome": "done"})
        daemons = [start_daemon(http=False, settings=YEARLY, registry=registry) for _ in range(2)]
        eventually(lambda: len(runs(*daemons)["scrub"]) == 1, "the run to be made up")
        daemons.append(start_daemon(http=False, settings=YEARLY, registry=registry))
        eventually(lambda: schedule(daemons[2], "scrub")["last"], "the third to know of the run")
        last = schedule(daemons[2], "scrub")
        assert (last["runs"], last["last"]["outcome"]) == (0, "done")
        assert last["last"]["success"] > "2026"
        for daemon in daemons:
            daemon.stop()
        assert len(runs(*daemons)["scrub"]) == 1


@pytest.mark.timeout(200)
def test_a_job_that_fails_is_shown_and_stops_nobody(start_daemon: StartDaemon) -> None:
    """It is logged, counted and shown; requests and other jobs go on; when it can, it runs again."""
    daemon = start_daemon(http=False, settings=BUSY)
    daemon.may_log_traceback = True
    daemon.done("create_project", {"project": "p"})
    in_the_way = daemon.path("..transactions", "state", "scrub.memory.new")
    os.makedirs(f"{in_the_way}/x")
    eventually(lambda: schedule(daemon, "scrub")["failures"] >= 2, "the scrub to fail twice")
    # At the moment of a status it may be at it again: then that is what is shown.
    text = eventually(lambda: "last failed" in (found := shown(daemon)) and found, "the failure to be shown")
    assert "scrub.memory.new" in text
    assert logged(daemon, "scheduled job failed")[0]["job"] == "scrub"
    before = schedule(daemon, "purge")["runs"]
    eventually(lambda: schedule(daemon, "purge")["runs"] > before, "another job to run")
    daemon.upload("p/a/1", {"f": b"1"})
    assert daemon.done("validate_version", address("p/a/1"))["status"] == "SUCCESS"
    os.rmdir(f"{in_the_way}/x")
    os.rmdir(in_the_way)
    eventually(lambda: schedule(daemon, "scrub")["last"]["outcome"] == "done", "the scrub to run again")
    assert schedule(daemon, "scrub")["last"]["failures"] == 0
