"""Who performs what: the thread that looked at a POSTed file, or a worker; never more at once than configured."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from staging.rooms import ALICE, SECONDS, Room, done

from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Claim
from gobblerd.service.workers import Posts, Workers
from gobblerd.staging.look import Hint
from gobblerd.staging.settings import SpoolLimits
from gobblerd.storage.turn import Turn

SHORT = 2


class Done(NamedTuple):
    claim: Claim
    is_pending: bool


class Performer:
    """Takes the place of the dispatcher: answers each claim when it is let, and remembers in which thread."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.threads: dict[str, str] = {}
        self.let = threading.Event()
        self.let.set()
        self.now: Counter[str] = Counter()
        self.most = 0

    answers_together = True

    def perform(self, claim: Claim) -> Done:
        self.threads[claim.name] = threading.current_thread().name
        self.now["running"] += 1
        self.most = max(self.most, self.now["running"])
        if "changing" not in claim.name:
            assert self.let.wait(SECONDS)
        self.now["running"] -= 1
        if b"break" in claim.body:
            raise RuntimeError(claim.name)
        self._room.spool.claims.performed(claim)
        return Done(claim, "changing" in claim.name)

    def answer(self, together: Sequence[Done]) -> None:
        for claim in (each.claim for each in together):
            self._room.spool.claims.answer(claim, done(claim))


class Desk:
    def __init__(self, room: Room) -> None:
        self.room = room
        self.performer = Performer(room)
        # Patience 0: whoever hangs here loses the turn at once, so that tests need not wait for that.
        performer: object = self.performer
        self.workers = Workers(room.spool, performer, Turn(0.0), short=SHORT, long=1)  # type: ignore[arg-type]
        self.posts = Posts(room.spool, self.workers)


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def idle_desk(tmp_path: Path) -> Iterator[Desk]:
    """Nobody works yet."""
    (tmp_path / "staging").mkdir(mode=0o1777)
    room = Room(tmp_path / "staging", SpoolLimits(short_slots=SHORT, long_slots=1))
    made = Desk(room)
    room.spool.start()
    room.ready()
    yield made
    made.performer.let.set()
    room.close()


@pytest.fixture
def desk(idle_desk: Desk) -> Desk:
    idle_desk.workers.start()
    return idle_desk


def test_a_post_is_performed_by_the_thread_that_looked(desk: Desk) -> None:
    """No other thread need be woken."""
    name = desk.room.write("request-a-1", {"x": 1})
    response = desk.posts.post(name).result(SECONDS)
    assert desk.performer.threads[name].startswith("post")
    assert desk.posts.response(name) == response


def test_who_posts_too_early_is_told(desk: Desk) -> None:
    """Or by a name that no request has; nothing is left behind."""
    with pytest.raises(FileNotFoundError):
        desk.posts.post("request-a-none").result(SECONDS)
    with pytest.raises(Wrong):
        desk.posts.post("none").result(SECONDS)
    assert desk.posts.post(desk.room.write("request-a-1", {"x": 1})).result(SECONDS).code == 200


def test_a_long_one_holds_up_nobody(desk: Desk) -> None:
    """It is performed where it was looked at, too; who hangs there loses the turn, and others are answered."""
    desk.performer.let.clear()
    name = desk.room.write("request-upload-1", {"x": 1})
    waiter = desk.posts.post(name)
    eventually(lambda: desk.performer.now["running"] == 1)
    desk.posts.post(desk.room.write("request-a-1", {"x": 1}))
    eventually(lambda: desk.performer.now["running"] == 2)
    desk.performer.let.set()
    assert waiter.result(SECONDS).code == 200
    assert desk.performer.threads[name].startswith("post")


def test_what_was_performed_does_not_wait_for_the_next_that_hangs(idle_desk: Desk) -> None:
    """One thread performs both, and nobody asks for anything else: another one answers the first."""
    room = idle_desk.room
    performer = Performer(room)
    performer.let.clear()
    fake: object = performer
    names = [room.rename_in(f"request-{what}-1", {"x": 1}) for what in ("changing", "a")]
    alone = Workers(room.spool, fake, Turn(0.1), short=1, long=1)  # type: ignore[arg-type]
    for name in names:  # both are queued before the first is performed
        room.spool.offer(name, Hint.RENAMED)
    alone.start()
    assert room.recorded(names[0])["code"] == 200
    eventually(lambda: names[1] in performer.threads)
    assert not room.has_response(names[1])
    performer.let.set()
    assert room.recorded(names[1])["code"] == 200


def test_stopped_before_the_start(idle_desk: Desk) -> None:
    """As when SIGTERM comes while what a crash left is still being mended: there is nothing to wait for."""
    fake: object = Performer(idle_desk.room)
    assert Workers(idle_desk.room.spool, fake, Turn(0.1), short=1, long=1).join(SECONDS)  # type: ignore[arg-type]


def test_no_more_long_ones_at_once_than_configured(desk: Desk) -> None:
    """Whoever performs them; those that found no slot are performed when there is one."""
    desk.performer.let.clear()
    waiters = [desk.posts.post(desk.room.write(f"request-upload-{n}", {"n": n})) for n in range(5)]
    eventually(lambda: desk.performer.now["running"] == 1)
    desk.posts.post(desk.room.write("request-a-1", {"x": 1}))  # all before it were looked at by then
    eventually(lambda: "request-a-1" in desk.performer.threads)
    assert sum("upload" in name for name in desk.performer.threads) == 1
    desk.performer.let.set()
    assert [waiter.result(SECONDS).code for waiter in waiters] == [200] * len(waiters)


def test_a_drop_is_performed_by_a_worker(desk: Desk) -> None:
    """The watcher goes on watching."""
    name = desk.room.rename_in("request-a-1", {"x": 1})
    desk.room.spool.offer(name, Hint.RENAMED)
    desk.room.recorded(name)
    assert desk.performer.threads[name].startswith("short")


def test_no_more_at_once_than_configured(desk: Desk) -> None:
    """Ten POSTs and ten drops: who finds no slot leaves it to whoever has one; none is forgotten."""
    desk.performer.let.clear()
    posted = [desk.room.write(f"request-a-{n}", {"n": n}) for n in range(10)]
    dropped = [desk.room.rename_in(f"request-b-{n}", {"n": n}) for n in range(10)]
    waiters = [desk.posts.post(name) for name in posted]
    for name in dropped:
        desk.room.spool.offer(name, Hint.RENAMED)
    eventually(lambda: desk.performer.now["running"] == SHORT)
    desk.performer.let.set()
    for name in (*posted, *dropped):
        assert desk.room.recorded(name)["code"] == 200
    assert [waiter.result(SECONDS).code for waiter in waiters] == [200] * len(posted)
    assert desk.performer.most == SHORT
    assert len(desk.performer.threads) == 20


def test_whose_turn_comes_first_goes_first(desk: Desk) -> None:
    """A POST does not overtake what was queued before it: its thread performs that as well."""
    desk.performer.let.clear()
    busy = [desk.room.write(f"request-busy-{n}", {"n": n}, uid=ALICE) for n in range(SHORT)]
    waiters = [desk.posts.post(name) for name in busy]
    eventually(lambda: desk.performer.now["running"] == SHORT)
    for n in range(3):
        desk.room.spool.offer(desk.room.rename_in(f"request-queued-{n}", {"n": n}), Hint.RENAMED)
    late = desk.room.write("request-late-1", {"x": 1})
    waiters.append(desk.posts.post(late))
    assert not waiters[-1].done()
    desk.performer.let.set()
    assert [waiter.result(SECONDS).code for waiter in waiters] == [200] * len(waiters)
    assert list(desk.performer.threads)[-1] == late


def test_a_thread_survives_what_it_performs(desk: Desk) -> None:
    """Whatever is raised there: the next POST is answered."""
    desk.posts.post(desk.room.write("request-a-1", {"break": 1}))
    assert desk.posts.post(desk.room.write("request-a-2", {"x": 1})).result(SECONDS).code == 200
    assert desk.workers.alive


def test_a_post_that_cannot_be_performed_is_told_and_holds_up_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised between the look and the performing."""
    with monkeypatch.context() as patch:
        patch.setattr(desk.room.spool.claims, "take_now", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            desk.posts.post(desk.room.write("request-a-1", {"x": 1})).result(SECONDS)
    assert desk.posts.post(desk.room.write("request-a-2", {"x": 1})).result(SECONDS).code == 200
