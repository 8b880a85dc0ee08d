"""Stopping: what is handed out no more, who is told 503, what stays for the next daemon."""

import threading

from staging.rooms import ALICE, MakeRoom, Room, attempts_in, done, wait_for

from gobblerd.staging.look import Hint
from gobblerd.staging.spool import Lane

STAYS, POSTED = "request-a-stays", "request-a-posted"


def ready(room: Room) -> Room:
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    return room


def test_waiting_workers_are_released(make_room: MakeRoom) -> None:
    """`take` returns None once draining, also to who waits already."""
    room = ready(make_room())
    found: list[object] = []
    threads = [threading.Thread(target=lambda lane=lane: found.append(room.take(lane))) for lane in Lane]
    for thread in threads:
        thread.start()
    room.spool.drain()
    for thread in threads:
        thread.join(10)
    assert found == [None, None]


def test_queued_requests_with_a_post_are_answered_503_and_the_rest_stays(make_room: MakeRoom) -> None:
    """The 503 is in a file, so that identity is never executed; the others are, after the restart."""
    room = ready(make_room())
    room.spool.offer(room.write(STAYS), Hint.RENAMED)
    future = room.spool.post(room.write(POSTED))
    room.spool.drain()
    assert future is not None
    assert future.result(10).code == 503
    assert room.recorded(POSTED)["code"] == 503
    assert not room.has_response(STAYS)
    wait_for(room.spool.settled)
    room.close()
    after = make_room().start()
    assert after.recorded(STAYS)["code"] == 200
    assert after.post(POSTED).code == 503
    assert after.names() == [STAYS]


def test_a_post_that_waits_for_an_empty_file_is_told(make_room: MakeRoom) -> None:
    """It gets its 503 with a file; an incomplete file without a POST is left alone."""
    room = ready(make_room())
    future = room.spool.post(room.write(POSTED, b""))
    room.spool.offer(room.write(STAYS, b""), Hint.CLOSED)
    room.spool.drain()
    assert future is not None
    assert future.result(10).code == 503
    assert room.recorded(POSTED)["code"] == 503
    assert not room.has_response(STAYS)


def test_while_draining_hints_are_ignored_and_posts_refused(make_room: MakeRoom) -> None:
    """A POST of what is queued already is refused as well: nothing will be executed."""
    room = ready(make_room())
    room.spool.offer(room.write("request-a-queued"), Hint.RENAMED)
    room.spool.drain()
    room.spool.offer(room.write(STAYS), Hint.RENAMED)
    assert room.spool.progress(STAYS) is None
    assert room.post(room.write(POSTED)).code == 503
    assert room.post("request-a-queued").code == 503
    assert not room.has_response(STAYS)


def test_what_runs_is_finished(make_room: MakeRoom) -> None:
    """A response during the drain is an ordinary one; a POST may still join it."""
    room = ready(make_room())
    future = room.spool.post(room.write(POSTED))
    claim = room.take(Lane.SHORT)
    assert claim is not None
    room.spool.drain()
    assert not room.spool.settled()
    joined = room.spool.post(POSTED)
    room.spool.claims.answer(claim, done(claim))
    assert room.spool.settled()
    assert future is not None
    assert joined is not None
    assert (future.result(10).code, joined.result(10).code) == (200, 200)


def test_a_released_claim_stays_or_is_answered_503(make_room: MakeRoom) -> None:
    """503 and its file if a POST waits; else the next daemon executes it."""
    room = ready(make_room())
    future = room.spool.post(room.write(POSTED))
    room.spool.offer(room.write(STAYS, uid=ALICE + 1), Hint.RENAMED)
    claims = [room.take(Lane.SHORT), room.take(Lane.SHORT)]
    room.spool.drain()
    for claim in claims:
        assert claim is not None
        room.spool.claims.release(claim)
    assert future is not None
    assert future.result(10).code == 503
    assert room.recorded(POSTED)["code"] == 503
    assert not room.has_response(STAYS)
    assert attempts_in(room.path) == []
    wait_for(room.spool.settled)
    room.close()
    after = make_room().start()
    assert after.recorded(STAYS)["code"] == 200


def test_a_new_file_posted_behind_a_running_old_one_is_told(make_room: MakeRoom) -> None:
    """Its 503 is written after the old one's response, and stands."""
    room = ready(make_room())
    room.spool.offer(room.write(POSTED, {"x": 1}), Hint.RENAMED)
    claim = room.take(Lane.SHORT)
    assert claim is not None
    (room.path / POSTED).unlink()
    future = room.spool.post(room.write(POSTED, {"x": 22}))
    late = room.spool.post(POSTED)
    room.spool.drain()
    room.spool.claims.answer(claim, done(claim))
    assert future is not None
    assert late is not None
    assert (future.result(10).code, late.result(10).code) == (503, 503)
    assert room.recorded(POSTED)["code"] == 503
    wait_for(room.spool.settled)
