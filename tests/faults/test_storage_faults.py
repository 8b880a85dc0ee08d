"""The storage fails under a running daemon: EIO, ENOSPC, EDQUOT, ESTALE, once or until it is healed.

strace makes the n-th system call of a kind fail in the thread that performs the request (once), or all from
the n-th on (until strace is detached: the storage heals). The daemon must live; a POST is told the truth: 500
for what was not committed, and nothing is changed then; for what was committed, success, or "committed, not
finished" while a response file of success follows once the storage has healed.

Normal run: GOBBLERD_FAULTS moments of each action (default 3), chosen by GOBBLERD_SEED; `-m long`: every one,
each with one error once and another for good.
"""

import os
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from faults.scenes import SCENES, SEED, SETTINGS, Model, Scene, clear, document, prepare, rehearse, state_of
from support.checker import assert_clean
from support.daemon import Answer, eventually
from support.places import open_directory
from support.strace import Call, Moment, TracedDaemon, attached, fail_at, read_trace, require_strace

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "ESTALE")
FAULTS = int(os.environ.get("GOBBLERD_FAULTS", "3"))
_IN_STORAGE = ("rename", "unlink", "rmdir", "mkdir", "symlink", "link")  # by path, whatever that is
UNDECIDED = ("committed, not finished", "the response cannot be written at the moment")


@pytest.fixture
def daemon() -> Iterator[TracedDaemon]:
    require_strace()
    with open_directory() as base:
        made = TracedDaemon(base, settings=SETTINGS)
        made.may_log_traceback = True  # the log says in full what failed
        made.start()
        yield made
        made.finish()


def rehearsed(daemon: TracedDaemon, scene: Scene, trace: Path) -> tuple[Model, list[Moment]]:
    """Do the scene once; return what it does, and the moments of the thread that performs it."""

    def perform(request: dict[str, object]) -> Answer:
        with attached(daemon.pid, str(trace)):
            return daemon.post(daemon.drop(scene.action, request))

    model = rehearse(daemon, scene, perform)
    calls = read_trace(str(trace))
    worker = next(call.thread for call in calls if "..transactions/committed/" in call.arguments)
    return model, [c.moment for c in calls if c.thread == worker and _touches_storage(c, daemon)]


def _touches_storage(call: Call, daemon: TracedDaemon) -> bool:
    """Tell a change of the disk from a line of the log or a wake-up of another thread."""
    if call.moment.call.startswith(_IN_STORAGE):
        return True
    return f"<{daemon.registry}" in call.arguments or f"<{daemon.staging}" in call.arguments


def asked_while_failing(
    daemon: TracedDaemon, scene: Scene, request: dict[str, object], injection: Sequence[str], trace: Path
) -> tuple[str, Answer]:
    """POST the request while the storage fails; the storage has healed on return."""
    with attached(daemon.pid, str(trace), injection):
        name = daemon.drop(scene.action, request)
        answer = daemon.post(name)
        assert daemon.alive
        assert daemon.get("/").code == 200
    return name, answer


def check_truth(
    daemon: TracedDaemon, name: str, told: Answer, request: dict[str, object], model: Model, logged: object
) -> str:
    """Check the answer that was told, and the one that is recorded, against the disk; return what it was."""
    recorded = daemon.wait(name)
    if told.reason.startswith(UNDECIDED):
        assert told.code == 500
        kind = "undecided"
    else:
        assert (told.code, told.reason) == (recorded.code, recorded.reason)
        kind = "done" if told.code == 200 else "refused"
    assert recorded.code in {200, 500}, recorded
    assert "committed" not in recorded.reason, recorded
    assert_clean(daemon.registry, ignore=("..transactions/",))
    model.check(daemon, request, logged, done=recorded.code == 200, faulty=True)
    eventually(lambda: daemon.post(name).code == recorded.code, "POST to be told what is recorded")
    return kind


def one_fault(
    daemon: TracedDaemon,
    scene: Scene,
    model: Model,
    moment: Moment,
    error: str,
    trace: Path,
    *,
    for_good: bool,
) -> str:
    lasting = "for good" if for_good else "once"
    print(f"{scene.action}: {error} at {moment.call} {moment.number} {lasting}")  # noqa: T201 - beside a failure
    prepare(daemon)
    request = document(daemon, scene)
    logged = state_of(daemon.registry).logged
    name, told = asked_while_failing(daemon, scene, request, fail_at(moment, error, for_good=for_good), trace)
    kind = check_truth(daemon, name, told, request, model, logged)
    clear(daemon)
    return kind


def check_at_rest(daemon: TracedDaemon) -> None:
    """After a restart nothing is left over: what could not be removed then is removed now."""
    assert daemon.stop() == 0
    daemon.restart()
    assert_clean(daemon.registry)


@pytest.mark.parametrize("case", SCENES)
def test_a_fault_at_some_calls(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """The daemon lives, and says what is true, once the storage has healed too."""
    scene = SCENES[case]
    model, moments = rehearsed(daemon, scene, tmp_path / "calls")
    assert len(moments) > 8
    choice = random.Random(f"{SEED} {case}")
    for number, moment in enumerate(choice.sample(moments, FAULTS)):
        error = choice.choice(ERRORS)
        one_fault(daemon, scene, model, moment, error, tmp_path / "fault", for_good=bool(number % 2))
    check_at_rest(daemon)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("case", SCENES)
def test_a_fault_at_every_call(case: str, daemon: TracedDaemon, tmp_path: Path) -> None:
    """The same at every one of them."""
    scene = SCENES[case]
    model, moments = rehearsed(daemon, scene, tmp_path / "calls")
    kinds: list[str] = []
    for number, moment in enumerate(moments):
        for for_good in (False, True):
            error = ERRORS[(number + 2 * for_good) % len(ERRORS)]
            kinds.append(one_fault(daemon, scene, model, moment, error, tmp_path / "f", for_good=for_good))
    check_at_rest(daemon)
    counts = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    print(f"COUNT {case}: {len(kinds)} faults at {len(moments)} moments: {counts}")  # noqa: T201 - a count


def test_a_place_that_cannot_be_finished_is_closed_until_it_can(daemon: TracedDaemon, tmp_path: Path) -> None:
    """Committed, and the storage refuses every rename: 500, 503 for the place meanwhile, and all is well later."""
    scene = SCENES["set_permissions"]
    model, moments = rehearsed(daemon, scene, tmp_path / "calls")
    renames = [moment for moment in moments if moment.call == "rename"]
    prepare(daemon)
    request = document(daemon, scene)
    logged = state_of(daemon.registry).logged
    other: list[Answer] = []
    with attached(daemon.pid, str(tmp_path / "fault"), fail_at(renames[1], "EIO", for_good=True)):
        name = daemon.drop(scene.action, request)
        told = daemon.post(name)
        assert told.code == 500
        assert told.reason.startswith("committed, not finished")
        assert not daemon.has_response(name)
        recovering = [  # this thread's renames fail; the others' from their second on
            threading.Thread(
                target=lambda: other.append(daemon.ask("set_quota", {"project": "p", "baseline": 7}))
            )
        ]
        for thread in recovering:
            thread.start()
        for thread in recovering:
            thread.join()
        assert daemon.done("health_check", {})
    assert daemon.wait(name).code == 200
    assert [answer.code for answer in other] in ([503], [200], [500]), other
    if other[0].code == 200:
        assert daemon.read("p", "..quota")["baseline"] == 7
    eventually(lambda: not os.listdir(daemon.path("..transactions/committed")), "the change to be finished")
    daemon.done("set_quota", {"project": "p", "baseline": 1_000_000_000})
    model.check(daemon, request, logged, done=True)
    check_at_rest(daemon)
