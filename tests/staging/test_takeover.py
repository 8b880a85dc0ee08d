"""The first start: what was there before is answered, never executed, also if we are killed half-way."""

import os
import threading
from typing import Any

import pytest
from staging.rooms import MakeRoom, Room, wait_for

from gobblerd.staging import loading
from gobblerd.staging.look import Hint
from gobblerd.staging.takeover import REASON


def dropped(room_path: Any, count: int) -> list[str]:
    names = [f"request-health_check-{n}" for n in range(count)]
    for name in names:
        (room_path / name).write_text("{}")
    return names


def finished(room: Room) -> bool:
    return not (room.path / "responses" / ".takeover").exists()


def test_what_was_there_is_answered_and_never_executed(place: Any, make_room: MakeRoom) -> None:
    """Each with its 400, whatever it is; what is no request file is let be."""
    names = dropped(place, 20)
    os.mkfifo(place / "request-fifo-1")
    (place / "request-empty-1").touch()
    (place / "upload").mkdir()
    room = make_room()
    assert room.staging.first_start
    room.start()
    wait_for(lambda: finished(room))
    for name in [*names, "request-fifo-1", "request-empty-1"]:
        found = room.recorded(name)
        assert (found["code"], found["reason"]) == (400, REASON)
    assert room.names() == []
    assert room.post(names[0]).body["reason"] == REASON
    assert room.post(room.write("request-a-new")).code == 200


def test_new_files_do_not_wait_for_the_takeover(
    place: Any, make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is known which files belong to it; a POST for one of those is answered so at once."""
    names = dropped(place, 3)
    gate = threading.Event()
    real = loading.take_over
    monkeypatch.setattr("gobblerd.staging.spool.take_over", lambda *all_: gate.wait(10) and real(*all_))
    room = make_room().start()
    wait_for(lambda: room.spool.snapshot().ready)
    assert room.post(room.write("request-a-new")).code == 200
    assert room.post(names[1]).body["reason"] == REASON
    room.spool.offer(names[2], Hint.CLOSED)
    assert room.recorded(names[2])["reason"] == REASON
    gate.set()
    wait_for(lambda: finished(room))
    assert room.recorded(names[0])["reason"] == REASON
    assert room.names() == ["request-a-new"]


def test_a_takeover_killed_half_way_goes_on(
    place: Any, make_room: MakeRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list stays until everything on it is answered."""
    names = dropped(place, 10)
    room = make_room()
    left = [3]

    def dying(*arguments: Any) -> None:
        if not left[0]:
            raise OSError("killed")
        left[0] -= 1
        loading.take_over(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("gobblerd.staging.spool.take_over", dying)
        room.start()
        wait_for(lambda: not left[0])
        room.die()
    assert not finished(room)
    after = make_room()
    assert not after.staging.first_start
    after.start()
    wait_for(lambda: finished(after))
    assert [after.recorded(name)["code"] for name in names] == [400] * 10
    assert after.names() == []


def test_the_list_stays_while_an_answer_cannot_be_written(place: Any, make_room: MakeRoom) -> None:
    """The next start goes on."""
    (name,) = dropped(place, 1)
    room = make_room()

    def failing(response: object, *, recorded: bool) -> None:
        raise OSError(28, "No space left on device")

    room.spool._ledger.files.write = failing  # type: ignore[method-assign]
    room.start()
    wait_for(lambda: room.spool.snapshot().unwritten)
    room.die()
    assert not finished(room)
    after = make_room().start()
    assert after.recorded(name)["reason"] == REASON


def test_killed_before_anything_was_answered(place: Any, make_room: MakeRoom) -> None:
    """`responses/` is there already, but so is the list."""
    names = dropped(place, 3)
    make_room().staging.close()
    after = make_room().start()
    assert [after.recorded(name)["reason"] for name in names] == [REASON] * 3
    assert after.names() == []


def test_a_name_dropped_anew_is_a_new_request(place: Any, make_room: MakeRoom) -> None:
    """The list names files, not names."""
    (name,) = dropped(place, 1)
    room = make_room()
    (place / "keeps-the-number").write_text("")  # so that the inode's number is another
    os.rename(place / name, place / "aside")
    room.write(name, {"again": 1})
    room.start()
    assert room.recorded(name)["code"] == 200


def test_a_damaged_list_takes_everything_over(place: Any, make_room: MakeRoom) -> None:
    """Rather a request dropped again than one done twice."""
    names = dropped(place, 2)
    room = make_room()
    (place / "responses" / ".takeover").write_text("[[")
    room.start()
    assert [room.recorded(name)["reason"] for name in names] == [REASON] * 2


def test_an_empty_directory_needs_no_takeover(make_room: MakeRoom) -> None:
    """The list goes at once."""
    room = make_room().start()
    wait_for(lambda: finished(room))
