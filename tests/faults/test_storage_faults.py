"""The storage fails under a running daemon: EIO, ENOSPC, EDQUOT, ESTALE, once or until it is healed.

strace makes the n-th system call of a kind fail in the threads that perform the request and end its transaction
(once), or all from the n-th on (until strace is detached: the storage heals). The daemon must live; a POST is
told the truth: 500 for what was not committed, and nothing is changed then; for what was committed, success, or
"committed, not finished" while a response file of success follows once the storage has healed.

Normal run: GOBBLERD_FAULTS moments of each action (default 3), chosen by GOBBLERD_SEED; `-m long`: every one,
each with one error once and another for good.
"""

import errno
import os
import random
import re
import time
from collections.abc import Iterator, Sequence
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
from support.crowd import bound
from support.daemon import Answer, address, eventually
from support.places import open_directory, read_tree
from support.strace import (
    Call,
    Moment,
    TracedDaemon,
    attached,
    fail_at,
    moments_of,
    read_trace,
    require_strace,
)

from gobblerd.staging.ledger import UNWRITTEN

ERRORS = ("EIO", "ENOSPC", "EDQUOT", "ESTALE")
ENDING = 0.5  # seconds
FAULTS = int(os.environ.get("GOBBLERD_FAULTS", "3"))
_IN_STORAGE = ("rename", "unlink", "rmdir", "mkdir", "symlink", "link")  # by path, whatever that is
COMMITTED = "committed, not finished: {}"
REFUSED = r"the daemon's storage failed( at \"[^\"]+\")?: {}; nothing was changed"


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
    """Do the scene once; return what it does, and the moments of the threads that perform and end it."""

    def perform(request: dict[str, object]) -> Answer:
        with attached(daemon.pid, str(trace)):
            answer = daemon.post(daemon.drop(scene.action, request))
            eventually(lambda: not left_over(daemon), "the end of the transaction")
        return answer

    model = rehearse(daemon, scene, perform)
    calls = read_trace(str(trace))
    threads = {call.thread for call in calls if "..transactions/" in call.arguments}
    return model, moments_of([c for c in calls if c.thread in threads and _touches_storage(c, daemon)])


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
        _await_end(daemon)
        assert daemon.alive
        assert daemon.get("/").code == 200
    return name, answer


def _await_end(daemon: TracedDaemon) -> None:
    """Give the transaction time to come to its end, which is made in the background; it may never."""
    deadline = time.monotonic() + ENDING
    while left_over(daemon) and time.monotonic() < deadline:
        time.sleep(0.02)


def check_truth(
    daemon: TracedDaemon,
    name: str,
    told: Answer,
    trouble: str,
    request: dict[str, object],
    model: Model,
    logged: object,
) -> str:
    """Check the answer that was told, and the one that is recorded, against the disk; return what it was.

    `trouble` is the storage's word for what it did.
    """
    recorded = daemon.wait(name)
    kind = "done" if told.code == 200 else "refused"
    if told.reason == COMMITTED.format(trouble):
        kind = "undecided"
        assert (told.code, recorded.code) == (500, 200)
    elif told.reason == UNWRITTEN:
        kind = "undecided"
        assert told.code == 500
    else:
        assert (told.code, told.reason) == (recorded.code, recorded.reason)
    refused = recorded.code == 500 and re.fullmatch(REFUSED.format(re.escape(trouble)), recorded.reason)
    assert recorded.code == 200 or refused, recorded
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
    kind = check_truth(daemon, name, told, os.strerror(getattr(errno, error)), request, model, logged)
    clear(daemon)
    return kind


def check_at_rest(daemon: TracedDaemon) -> None:
    """All is finished; after a restart nothing is left over: what could not be removed is removed then."""
    for folder in ("committed", "applied"):
        where = daemon.path("..transactions", folder)
        eventually(lambda where=where: not os.listdir(where), f"{folder} changes to be finished")
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


CLOSED = 'a change of "p/..permissions" was committed and cannot be finished yet ({}); try again later'


def check_closed(daemon: TracedDaemon, told: Answer, name: str, trouble: str) -> list[tuple[str, Answer]]:
    """Check that a committed request's place is closed to everybody; return what was refused."""
    assert (told.code, told.reason) == (500, COMMITTED.format(trouble))
    assert not daemon.has_response(name)
    again = daemon.post(name)
    assert (again.code, again.reason) == (told.code, told.reason)
    quota, source = daemon.read("p", "..quota"), daemon.source({"f": b"refused"})
    refused = []
    for action, fields in (
        ("set_quota", {"project": "p", "baseline": 7}),
        ("upload", {**address("p/a/5"), "source": source}),
        ("delete_project", {"project": "p"}),
        ("create_project", {"project": "r"}),  # the whole registry is its place
    ):
        other = daemon.drop(action, fields)
        answer = daemon.post(other)
        assert (answer.code, answer.reason) == (503, CLOSED.format(trouble))
        refused.append((other, answer))
    assert daemon.read("p", "..quota") == quota
    assert not os.path.exists(daemon.path("p/a/5"))
    assert read_tree(os.path.join(daemon.staging, source)) == {"f": b"refused"}
    daemon.done("health_check", {})
    return refused


def test_a_document_that_cannot_be_replaced_is_told_before_the_commit(daemon: TracedDaemon) -> None:
    """Something is mounted there, so that no rename comes to it: 500, nothing is changed, and nothing closed."""
    scene = SCENES["set_permissions"]
    model = rehearse(daemon, scene, lambda request: daemon.ask(scene.action, request))
    prepare(daemon)
    request, logged = document(daemon, scene), state_of(daemon.registry).logged
    path = daemon.path("p/..permissions")
    with bound(path, path):
        answer = daemon.ask(scene.action, request)
        assert (answer.code, answer.reason) == (
            500,
            f'"{path}" cannot be replaced or moved: something is mounted there; unmount it',
        )
        daemon.done("set_quota", {"project": "p", "baseline": 1_000_000_000})
    model.check(daemon, request, logged, done=False)
    check_at_rest(daemon)


def test_a_place_that_cannot_be_finished_is_closed_until_it_can(daemon: TracedDaemon) -> None:
    """Committed, then stuck: 500 and no response; 503 for the place; later all is well."""
    scene = SCENES["set_permissions"]
    model = rehearse(daemon, scene, lambda request: daemon.ask(scene.action, request))
    prepare(daemon)
    request = document(daemon, scene)
    logged = state_of(daemon.registry).logged
    path = daemon.path("..transactions/applied")
    with bound(path, path):
        name = daemon.drop(scene.action, request)
        refused = check_closed(daemon, daemon.post(name), name, os.strerror(errno.EXDEV))
    assert daemon.wait(name).code == 200
    eventually(lambda: daemon.post(name).code == 200, "POST to be told so")
    assert not os.listdir(daemon.path("..transactions/committed"))
    assert [daemon.post(each) for each, _ in refused] == [answer for _, answer in refused]
    model.check(daemon, request, logged, done=True)
    daemon.done("set_quota", {"project": "p", "baseline": 1_000_000_000})
    check_at_rest(daemon)
