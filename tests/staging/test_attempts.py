"""Counting starts: what a daemon's death leaves counts, whatever was answered does not."""

from staging.rooms import MakeRoom, Room, slots_in, taken, unbegun

from gobblerd.staging.look import Hint

ACT = "request-refresh_usage-1"
LATER = "request-refresh_usage-with a longer name than the other"


def test_slots_of_answered_requests_are_used_again(room: Room) -> None:
    """Without being struck out in between; one after the other they need one, and it is struck out at the end."""
    for number, name in enumerate((LATER, ACT, LATER)):
        (room.path / name).unlink(missing_ok=True)
        assert room.post(room.write(name, {"x": number})).code == 200
        assert slots_in(room.path) == [name]
    room.close()
    assert slots_in(room.path) == []


def test_what_was_answered_before_a_kill_does_not_count(make_room: MakeRoom) -> None:
    """Its slot is free again at the next start."""
    room = make_room().start()
    first = room.post(room.write(ACT, {"x": 1}))
    room.die()
    after = make_room().start().ready()
    assert after.spool._ledger.attempts.left() == []
    assert after.post(ACT) == first
    assert after.post(after.write(LATER, {"x": 2})).code == 200
    assert slots_in(after.path) == [LATER]


def test_a_killing_request_counts_in_a_slot_that_was_used(make_room: MakeRoom) -> None:
    """What the slot held before is not taken for it, nor the other way round."""
    room = make_room().start()
    room.post(room.write(LATER, {"x": 1}))
    room.close()
    for _ in range(3):
        dying = unbegun(make_room())
        if not (dying.path / ACT).exists():
            dying.write(ACT, {"x": 2})
        dying.spool.offer(ACT, Hint.RENAMED)
        taken(dying)
        dying.die()
    after = make_room().start()
    assert after.recorded(ACT)["code"] == 500
    assert after.post(LATER).code == 200
    assert after.names() == []
