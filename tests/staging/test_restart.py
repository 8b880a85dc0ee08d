"""Crashes and restarts: nothing is executed twice, nothing is lost, nothing kills the daemon for ever."""

from staging.rooms import MakeRoom, attempts_in, done, taken, unbegun, wait_for

from gobblerd.staging.look import Hint

ACT = "request-refresh_usage-1"


# Crashes and restarts


def test_an_answered_request_is_not_executed_after_a_restart(make_room: MakeRoom) -> None:
    """Neither by the sweep at start nor by a POST, which repeats the recorded answer."""
    room = make_room().start()
    first = room.post(room.write(ACT, {"x": 1}))
    room.die()
    after = make_room().start()
    assert after.post(ACT) == first
    assert after.names() == []


def test_an_unanswered_request_is_executed_at_start(make_room: MakeRoom) -> None:
    """The staging directory itself is the queue."""
    room = unbegun(make_room())
    room.spool.offer(room.write(ACT, {"x": 1}), Hint.RENAMED)
    taken(room)
    room.die()
    after = make_room().start()
    assert after.recorded(ACT)["code"] == 200
    assert after.names() == [ACT]


def test_a_request_that_kills_the_daemon_is_tried_three_times(make_room: MakeRoom) -> None:
    """The fourth start of the same identity is answered 500 instead; a new file starts afresh."""
    make_room().close()
    for _ in range(3):
        room = unbegun(make_room())
        if not (room.path / ACT).exists():
            room.write(ACT, {"x": 1})
        room.spool.offer(ACT, Hint.RENAMED)
        taken(room)
        room.die()
    after = make_room().start()
    found = after.recorded(ACT)
    assert found["code"] == 500
    assert found["reason"].startswith("the daemon died each of the 3 times that it tried this request")
    assert after.names() == []
    (after.path / ACT).unlink()
    assert after.post(after.write(ACT, {"x": 22})).code == 200
    assert attempts_in(after.path) == []


def test_a_clean_release_is_no_attempt(make_room: MakeRoom) -> None:
    """Restarting a daemon is not dying."""
    make_room().close()
    for _ in range(5):
        room = unbegun(make_room())
        if not (room.path / ACT).exists():
            room.write(ACT, {"x": 1})
        room.spool.offer(ACT, Hint.RENAMED)
        claim = taken(room)
        room.spool.drain()
        room.spool.claims.release(claim)
        assert room.spool.settled()
        room.close()
    after = make_room().start()
    assert after.recorded(ACT)["code"] == 200


def test_a_response_that_cannot_be_written_is_written_later(make_room: MakeRoom) -> None:
    """The POST is told a 500 in memory; the request is not executed twice; the file follows."""
    room = unbegun(make_room())
    write, room.spool._ledger.files.write = room.spool._ledger.files.write, failing  # type: ignore[method-assign]
    future = room.spool.post(room.write(ACT, {"x": 1}))
    claim = taken(room)
    room.spool.claims.answer(claim, done(claim))
    assert future is not None
    assert future.result(10).code == 500
    assert room.post(ACT).code == 500
    room.spool.offer(ACT, Hint.SWEPT)
    assert not room.spool.settled()
    assert room.spool.snapshot().queued["short"] == 0
    room.spool._ledger.files.write = write  # type: ignore[method-assign]
    assert room.recorded(ACT)["code"] == 200
    wait_for(room.spool.settled)
    assert room.post(ACT).code == 200


def failing(response: object, *, recorded: bool) -> None:
    raise OSError(28, "No space left on device")


def test_a_damaged_response_file_is_passed_over(make_room: MakeRoom) -> None:
    """It is logged; its request counts as unanswered."""
    room = make_room().start()
    room.post(room.write(ACT, {"x": 1}))
    room.die()
    for name in ("request-a-1", "request-a-2", "request-a-3"):
        (room.path / "responses" / name).write_text({"1": "[]", "2": "{", "3": '{"code": 200}'}[name[-1]])
    (room.path / "responses" / "request-a-4").mkdir()
    after = make_room().start()
    wait_for(lambda: after.spool.snapshot().ready)
    assert after.spool.snapshot().answered == 1
