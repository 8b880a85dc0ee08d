"""kill -9 from outside, at the n-th write, fsync, rename, unlink, ... of a real daemon that performs a request.

strace is attached to the idle daemon just before the request is dropped, so that the calls count from there.
What the audit hook of tests/registry/test_crash_steps.py does not see (write, fsync, syncfs, fchmod, and all
of staging's own files) is killed at here. After each kill the daemon is started again: one truthful response,
one event, registry as after, nothing left over, source intact unless consumed by the success.

Normal run: GOBBLERD_KILLS moments of each action (default 2), chosen by GOBBLERD_SEED; `-m long`: every one.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.scenes import (
    SCENES,
    SEED,
    SETTINGS,
    Model,
    Scene,
    clear,
    document,
    left_over,
    prepare,
    rehearse,
    state_of,
)
from support.checker import assert_clean
from support.daemon import Answer, eventually
from support.places import open_directory
from support.strace import (
    Call,
    Moment,
    TracedDaemon,
    attached,
    kill_at,
    moments_of,
    read_trace,
    require_strace,
)

KILLS = int(os.environ.get("GOBBLERD_KILLS", "2"))


@pytest.fixture
def daemon() -> Iterator[TracedDaemon]:
    require_strace()
    with open_directory() as base:
        made = TracedDaemon(base, http=False, settings=SETTINGS)
        made.start()
        yield made
        made.finish()


def rehearsed(daemon: TracedDaemon, scene: Scene, trace: Path) -> tuple[Model, list[Call]]:
    """Do the scene once, traced and undisturbed."""

    def perform(request: dict[str, object]) -> Answer:
        with attached(daemon.pid, str(trace)):
            answer = daemon.wait(daemon.drop(scene.action, request))
            eventually(lambda: not left_over(daemon), "what is done after the answer, which is traced too")
        return answer

    model = rehearse(daemon, scene, perform)
    return model, read_trace(str(trace))


def interrupted(
    daemon: TracedDaemon, scene: Scene, request: dict[str, object], moment: Moment, trace: Path
) -> str:
    """Drop the request while strace waits to kill the daemon at `moment`; return the request's name."""
    with attached(daemon.pid, str(trace), kill_at(moment)):
        name = daemon.drop(scene.action, request)
        eventually(lambda: not daemon.alive or _is_over(daemon, name), f"{moment} or the end of {name}")
    return name


def _is_over(daemon: TracedDaemon, name: str) -> bool:
    """Tell whether the request is answered and nothing of its transaction is left."""
    return daemon.has_response(name) and not left_over(daemon)


def check_after_restart(
    daemon: TracedDaemon, name: str, request: dict[str, object], model: Model, logged: object
) -> None:
    answer = daemon.wait(name)
    assert answer.code == 200, answer
    assert answer.body["request"] == name
    daemon.done("health_check", {})
    assert_clean(daemon.registry)
    eventually(lambda: not left_over(daemon), "..transactions to be empty")
    model.check(daemon, request, logged, done=True)
    assert daemon.wait(name) == answer, "a response does not change"


def one_kill(daemon: TracedDaemon, scene: Scene, model: Model, moment: Moment, trace: Path) -> bool:
    """Kill at one moment and check; return whether the moment was reached."""
    print(f"{scene.action}: killed at {moment.call} {moment.number}")  # noqa: T201 - shown beside a failure
    prepare(daemon)
    request = document(daemon, scene)
    logged = state_of(daemon.registry).logged
    name = interrupted(daemon, scene, request, moment, trace)
    was_killed = not daemon.alive
    if was_killed:
        daemon.kill()
        daemon.require_no_process()
        daemon.restart()
    check_after_restart(daemon, name, request, model, logged)
    clear(daemon)
    return was_killed


@pytest.mark.parametrize("case", SCENES)
def test_a_kill_at_some_calls(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """All or nothing, once, whatever system call was the last."""
    scene = SCENES[case]
    model, calls = rehearsed(daemon, scene, tmp_path / "calls")
    moments = moments_of(calls)
    assert len(moments) > 15
    for moment in random.Random(f"{SEED} {case}").sample(moments, KILLS):
        one_kill(daemon, scene, model, moment, tmp_path / "kill")


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", SCENES)
def test_a_kill_at_every_call(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """The same at every one of them."""
    scene = SCENES[case]
    model, calls = rehearsed(daemon, scene, tmp_path / "calls")
    moments = moments_of(calls)
    killed = sum(one_kill(daemon, scene, model, moment, tmp_path / "kill") for moment in moments)
    print(f"COUNT {case}: {killed} kills of {len(moments)} moments")  # noqa: T201 - for docs/reliability.md
    assert killed > len(moments) / 2


def committed_moment(calls: list[Call]) -> Moment:
    """Return the first rename after the one that committed: most is still to be done there."""
    index = next(
        n
        for n, call in enumerate(calls)
        if call.moment.call == "rename" and "..transactions/committed/" in call.arguments
    )
    worker = calls[index].thread
    return next(
        call.moment for call in calls[index + 1 :] if call.thread == worker and call.moment.call == "rename"
    )


def crash_in_commit(
    daemon: TracedDaemon, scene: Scene, moment: Moment, trace: Path
) -> tuple[str, dict[str, object]]:
    request = document(daemon, scene)
    name = interrupted(daemon, scene, request, moment, trace)
    assert not daemon.alive
    daemon.kill()
    daemon.require_no_process()
    return name, request


def recovery_killed(
    daemon: TracedDaemon, scene: Scene, model: Model, crash: Moment, moment: Moment, traces: Path
) -> bool:
    """Crash after the commit, kill the next start at `moment`, start once more and check."""
    print(f"{scene.action}: recovery killed at {moment.call} {moment.number}")  # noqa: T201 - beside a failure
    prepare(daemon)
    logged = state_of(daemon.registry).logged
    name, request = crash_in_commit(daemon, scene, crash, traces / "first")
    daemon.trace_next_start(str(traces / "second"), kill_at(moment))
    daemon.spawn()
    eventually(lambda: not daemon.alive or daemon.has_response(name), "the second kill, or the end")
    daemon.trace_no_more()
    if daemon.alive:  # not reached before the response: end it here
        eventually(
            lambda: not daemon.alive or not os.listdir(daemon.path("..transactions/applied")), "the end"
        )
    was_killed = not daemon.alive
    daemon.kill()
    daemon.require_no_process()
    daemon.restart()
    check_after_restart(daemon, name, request, model, logged)
    clear(daemon)
    return was_killed


def recovery_moments(daemon: TracedDaemon, scene: Scene, crash: Moment, traces: Path) -> list[Moment]:
    """Crash once and trace the whole recovery."""
    prepare(daemon)
    name, _ = crash_in_commit(daemon, scene, crash, traces / "crash")
    daemon.trace_next_start(str(traces / "recovery"))
    daemon.spawn()
    daemon.wait(name)
    eventually(lambda: not os.listdir(daemon.path("..transactions/applied")), "the record to go")
    daemon.trace_no_more()
    daemon.kill()
    daemon.require_no_process()
    daemon.restart()
    clear(daemon)
    return moments_of(read_trace(str(traces / "recovery")))


RECOVERIES = ("upload and consume", "delete_version", "reroute")


@pytest.mark.parametrize("case", [RECOVERIES[SEED % len(RECOVERIES)]])
def test_recovery_survives_kills_at_some_calls(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """A daemon killed while it mends what the last kill left is mended by the next."""
    scene = SCENES[case]
    model, calls = rehearsed(daemon, scene, tmp_path / "calls")
    crash = committed_moment(calls)
    moments = recovery_moments(daemon, scene, crash, tmp_path)
    for moment in random.Random(f"{SEED} recovery").sample(moments, KILLS):
        recovery_killed(daemon, scene, model, crash, moment, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", RECOVERIES)
def test_recovery_survives_a_kill_at_every_call(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """The same at every one of them."""
    scene = SCENES[case]
    model, calls = rehearsed(daemon, scene, tmp_path / "calls")
    crash = committed_moment(calls)
    moments = recovery_moments(daemon, scene, crash, tmp_path)
    killed = sum(recovery_killed(daemon, scene, model, crash, moment, tmp_path) for moment in moments)
    print(f"COUNT recovery of {case}: {killed} kills of {len(moments)} moments")  # noqa: T201 - a count
    assert killed > len(moments) / 2
