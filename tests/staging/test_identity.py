"""What is the same request and what is not, while users touch, rename, link and replace their files."""

import os
from pathlib import Path

import pytest
from staging.rooms import BOB, MakeRoom, Room, done, taken, unbegun, wait_for

from gobblerd.staging.look import Hint, Look, Refusal, Unsettled
from gobblerd.staging.settings import SpoolLimits

ACT = "request-refresh_usage-1"


# Late touches


def test_a_late_touch_is_the_same_request(room: Room) -> None:
    """Same name, inode and bytes within `request_settle` of the execution."""
    first = room.post(room.write(ACT, {"x": 1}))
    os.utime(room.path / ACT, (1, 1))
    room.spool.offer(ACT, Hint.SWEPT)
    again = room.post(ACT)
    assert (again.finished, again.identity.mtime_ns) == (first.finished, 10**9)
    assert room.names() == [ACT]


def test_a_late_touch_is_remembered_across_a_restart(make_room: MakeRoom) -> None:
    """The response file then has the new mtime."""
    room = make_room().start()
    room.post(room.write(ACT, {"x": 1}))
    os.utime(room.path / ACT, (1, 1))
    room.spool.offer(ACT, Hint.SWEPT)
    wait_for(lambda: room.recorded(ACT)["identity"]["mtime_ns"] == 10**9)
    room.die()
    after = make_room(SpoolLimits(request_settle=0)).start()
    wait_for(lambda: after.spool.snapshot().ready)
    after.post(ACT)
    assert after.names() == []


def test_a_touch_after_its_time_is_a_new_request(make_room: MakeRoom) -> None:
    """`request_settle` is over: the mtime is part of the identity."""
    room = make_room(SpoolLimits(request_settle=0)).start()
    room.post(room.write(ACT, {"x": 1}))
    os.utime(room.path / ACT, (1, 1))
    room.post(ACT)
    assert room.names() == [ACT, ACT]


def test_a_touch_while_queued_or_running_is_the_same_request(make_room: MakeRoom) -> None:
    """The response is recorded for the file as it is in the end."""
    room = unbegun(make_room())
    future = room.spool.post(room.write(ACT, {"x": 1}))
    os.utime(room.path / ACT, (1, 1))
    room.spool.offer(ACT, Hint.SWEPT)
    claim = taken(room)
    os.utime(room.path / ACT, (2, 2))
    room.spool.offer(ACT, Hint.RENAMED)
    room.spool.claims.answer(claim, done(claim))
    assert future is not None
    assert future.result(10).code == 200
    assert room.recorded(ACT)["identity"]["mtime_ns"] == 2 * 10**9
    assert room.spool.snapshot().queued == {"short": 0, "long": 0}


def test_a_future_mtime_replays_nothing(room: Room) -> None:
    """Identity is remembered, not its age."""
    room.write(ACT, {"x": 1})
    os.utime(room.path / ACT, (2**33, 2**33))
    room.post(ACT)
    for _ in range(3):
        room.spool.offer(ACT, Hint.SWEPT)
        room.post(ACT)
    assert room.names() == [ACT]


# The authority is in the inode, the action in the name


@pytest.mark.parametrize("again", ["link", "rename"])
def test_an_executed_file_under_another_name_is_refused(room: Room, again: str) -> None:
    """A hard link (its original removed) must not turn somebody's refresh into a deletion."""
    room.post(room.write(ACT, {"project": "p"}))
    other = "request-delete_project-1"
    if again == "link":
        os.link(room.path / ACT, room.path / other)
        (room.path / ACT).unlink()
    else:
        os.rename(room.path / ACT, room.path / other)
    response = room.post(other)
    assert response.code == 400
    assert ACT in str(response.body["reason"])
    assert room.recorded(other)["code"] == 400
    assert room.names() == [ACT]


def test_a_queued_file_under_another_name_is_refused_and_withdrawn(make_room: MakeRoom) -> None:
    """Neither name is executed."""
    room = unbegun(make_room())
    future = room.spool.post(room.write(ACT, {"project": "p"}))
    os.rename(room.path / ACT, room.path / "request-delete_project-1")
    assert room.post("request-delete_project-1").code == 400
    room.spool.offer(room.write("request-a-3", {}), Hint.RENAMED)
    assert taken(room).name == "request-a-3"
    assert future is not None
    assert future.result(10).code == 400
    assert not room.has_response(ACT)


def test_a_refused_file_under_another_name_is_refused(room: Room) -> None:
    """Also when it was refused unread: the second link gone, the first name is good no more."""
    os.link(room.path / room.write(ACT, {"project": "p"}), room.path / "request-delete_project-1")
    assert room.post("request-delete_project-1").code == 400
    (room.path / "request-delete_project-1").unlink()
    assert room.post(ACT).code == 400
    assert room.names() == []


def test_it_is_refused_after_a_restart_too(make_room: MakeRoom) -> None:
    """What was seen is in the response files."""
    room = make_room().start()
    room.post(room.write(ACT, {"project": "p"}))
    room.die()
    os.rename(room.path / ACT, room.path / "request-delete_project-1")
    after = make_room().start()
    assert after.post("request-delete_project-1").code == 400
    assert after.names() == []


def test_a_new_file_with_the_number_and_times_of_an_old_one_is_executed(room: Room) -> None:
    """Inode numbers are reused at once, and clocks may tick slowly: the same bytes are not the same file."""
    numbers: dict[int, str] = {}
    for n in range(50):  # other processes may take the number first
        name = room.write(f"request-a-{n}", {"x": 1})
        os.utime(room.path / name, (5, 5))
        number = (room.path / name).stat().st_ino
        assert room.post(name).code == 200
        (room.path / name).unlink()
        if number in numbers:
            return
        numbers[number] = name
    pytest.skip("this filesystem does not reuse numbers (NOT TESTED on this run)")


# A file that is replaced or gone before its turn


def test_a_request_whose_file_is_gone_is_withdrawn(make_room: MakeRoom) -> None:
    """Neither executed nor answered; its POST is told in memory."""
    room = unbegun(make_room())
    future = room.spool.post(room.write(ACT, {"x": 1}))
    (room.path / ACT).unlink()
    room.spool.offer(room.write("request-a-2", {}), Hint.RENAMED)
    assert taken(room).name == "request-a-2"
    assert future is not None
    response = future.result(10)
    assert (response.code, response.body["reason"]) == (400, "withdrawn: the request file is gone")
    assert not room.has_response(ACT)
    assert room.spool.response(ACT) is None


def test_a_request_replaced_before_its_turn_is_executed_once_as_it_is_now(make_room: MakeRoom) -> None:
    """The bytes are those of the descriptor judged last; the old identity is withdrawn."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    room.rename_in(ACT, {"x": 22}, uid=BOB)
    claim = taken(room)
    assert (claim.body, claim.uid) == (b'{"x": 22}', BOB)
    room.spool.claims.answer(claim, done(claim))
    assert room.spool.snapshot().queued["short"] == 0


def test_a_request_swapped_for_a_link_before_its_turn_is_refused(make_room: MakeRoom, tmp_path: Path) -> None:
    """Between two of our system calls anything may happen."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    (room.path / ACT).unlink()
    (tmp_path / "secret").write_text("{}")
    (room.path / ACT).symlink_to(tmp_path / "secret")
    room.work()
    assert room.recorded(ACT)["code"] == 400
    assert room.names() == []


def test_a_request_rewritten_while_it_runs_waits_for_the_end(make_room: MakeRoom) -> None:
    """Two requests of one name are never executed beside each other; the last response stays."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    first = taken(room)
    (room.path / ACT).unlink()
    future = room.spool.post(room.write(ACT, {"x": 22}))
    progress = room.spool.progress(ACT)
    assert progress is not None
    assert progress.state == "queued"
    room.spool.offer(room.write("request-a-2", {}), Hint.RENAMED)
    assert taken(room).name == "request-a-2"
    room.spool.claims.answer(first, done(first, which=1))
    second = taken(room)
    room.spool.claims.answer(second, done(second, which=2))
    assert future is not None
    assert future.result(10).body["which"] == 2
    assert room.recorded(ACT)["which"] == 2


def test_what_was_seen_of_an_older_file_does_not_undo_an_answer(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that looked at a FIFO and then slept while its name was answered looks again."""
    os.mkfifo(room.path / ACT)
    look = room.spool._intake.look

    def slow(name: str, hint: Hint, earlier: Unsettled | None = None) -> Look:
        found = look(name, hint, earlier)
        if isinstance(found, Refusal):
            monkeypatch.undo()
            (room.path / ACT).unlink()
            assert room.post(room.write(ACT, {"x": 1})).code == 200
        return found

    monkeypatch.setattr(room.spool._intake, "look", slow)
    room.spool.offer(ACT, Hint.SWEPT)
    wait_for(room.spool.settled)
    assert room.recorded(ACT)["code"] == 200
    room.post(ACT)
    assert room.names() == [ACT]


# Refusals are answered once, too


def test_refusals_are_recorded_and_repeated(room: Room) -> None:
    """A FIFO, a link, a giant: one response each, then nothing more to do."""
    os.mkfifo(room.path / "request-a-1")
    (room.path / "request-a-2").symlink_to("nowhere")
    os.truncate(room.path / room.write("request-a-3"), 1 << 31)
    codes = [room.post(f"request-a-{n}").code for n in (1, 2, 3)]
    assert codes == [400, 400, 413]
    first = [room.recorded(f"request-a-{n}")["finished"] for n in (1, 2, 3)]
    for n in (1, 2, 3):
        room.spool.offer(f"request-a-{n}", Hint.SWEPT)
        room.post(f"request-a-{n}")
    assert [room.recorded(f"request-a-{n}")["finished"] for n in (1, 2, 3)] == first
    assert room.names() == []


def test_a_name_that_is_not_utf8_is_answered_in_a_file_of_that_name(make_room: MakeRoom) -> None:
    """It cannot be POSTed, but who dropped it finds the answer; also known after a restart."""
    room = make_room().start()
    name = os.fsdecode(b"request-a-\xff")
    room.spool.offer(room.write(name, {}), Hint.RENAMED)
    assert room.recorded(name)["code"] == 400
    room.die()
    after = make_room()
    unbegun(after)
    assert after.spool.snapshot().answered == 1


def test_an_old_file_is_refused_at_start_and_executed_if_younger(make_room: MakeRoom) -> None:
    """`request_expiry` at start; the POST that comes with it joins what is queued, however old."""
    make_room().close()
    room = make_room(SpoolLimits(request_expiry=3600, post_expiry=1))
    now = room.staging.clock.now
    room.write("request-a-1")
    room.staging.clock.now = lambda: now() + 2 * 10**9  # type: ignore[method-assign]
    future = room.spool.post("request-a-1")
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().queued["short"])
    claim = taken(room)
    room.spool.claims.answer(claim, done(claim))
    assert future is not None
    assert future.result(10).code == 200
    room.write("request-a-2")
    room.staging.clock.now = lambda: now() + 3601 * 10**9  # type: ignore[method-assign]
    room.spool.offer("request-a-2", Hint.SWEPT)
    assert room.recorded("request-a-2")["code"] == 400


def test_a_late_post_is_the_identitys_one_response(make_room: MakeRoom) -> None:
    """Refused with 400, recorded, and not executed by a later sweep."""
    room = make_room(SpoolLimits(post_expiry=1)).start()
    wait_for(lambda: room.spool.snapshot().ready)
    room.write("request-health_check-1")
    now = room.staging.clock.now
    room.staging.clock.now = lambda: now() + 2 * 10**9  # type: ignore[method-assign]
    assert room.post("request-health_check-1").code == 400
    room.spool.offer("request-health_check-1", Hint.SWEPT)
    assert room.recorded("request-health_check-1")["code"] == 400
    assert room.names() == []
