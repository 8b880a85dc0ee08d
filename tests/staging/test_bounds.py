"""Floods: bounds per user and in all, 503 with a file, nothing lost, long slots shared."""

import os
import time

from staging.rooms import ADMIN, ALICE, BOB, CAROL, MakeRoom, Room, done, wait_for

from gobblerd.domain.messages import Claim
from gobblerd.staging.look import Hint
from gobblerd.staging.settings import SpoolLimits
from gobblerd.staging.spool import Lane
from gobblerd.staging.sweep import sweep


def ready(room: Room) -> Room:
    room.spool.start()
    wait_for(lambda: room.spool.snapshot().ready)
    return room


def drop(room: Room, uid: int, count: int, action: str = "a") -> list[str]:
    return [room.write(f"request-{action}-{uid}-{n:03}", {"n": n}, uid) for n in range(count)]


def offer(room: Room, names: list[str]) -> None:
    for name in names:
        room.spool.offer(name, Hint.RENAMED)


def taken(room: Room, lane: Lane = Lane.SHORT) -> Claim:
    claim = room.take(lane)
    assert claim is not None
    return claim


def test_one_users_flood_does_not_hold_up_others(make_room: MakeRoom) -> None:
    """Turns go round; an administrator's comes first."""
    room = ready(make_room())
    offer(room, drop(room, ALICE, 30))
    offer(room, drop(room, BOB, 2) + drop(room, CAROL, 1) + drop(room, ADMIN, 1))
    users = [int(taken(room).user) for _ in range(7)]
    assert users == [ADMIN, ALICE, BOB, CAROL, ALICE, BOB, ALICE]


def test_beyond_a_users_bound_files_stay_and_are_taken_when_there_is_room(make_room: MakeRoom) -> None:
    """Nothing is answered 503, nothing lost, without anybody mentioning them again; others get in."""
    room = ready(make_room(SpoolLimits(max_queued_per_user=4)))
    names = drop(room, ALICE, 25)
    offer(room, names)
    status = room.spool.snapshot()
    assert (status.queued["short"], status.overflowed) == (4, True)
    offer(room, drop(room, BOB, 1))
    assert room.spool.snapshot().queued["short"] == 5
    room.work()
    wait_for(lambda: len(room.executed) == 26)
    assert sorted(room.names()) == sorted([*names, f"request-a-{BOB}-000"])
    wait_for(lambda: not room.spool.snapshot().overflowed)


def test_beyond_the_total_bound_the_same(make_room: MakeRoom) -> None:
    """Administrators get in all the same."""
    room = ready(make_room(SpoolLimits(max_queued=6, max_queued_per_user=4)))
    for uid in (ALICE, BOB, CAROL):
        offer(room, drop(room, uid, 5))
    assert room.spool.snapshot().queued["short"] == 6
    offer(room, drop(room, ADMIN, 1))
    assert room.spool.snapshot().queued["short"] == 7
    assert room.spool.has_room(ADMIN)
    assert not room.spool.has_room(CAROL)
    room.work()
    wait_for(lambda: len(room.executed) == 16)
    assert len(set(room.names())) == 16


def test_what_was_left_is_taken_in_order_of_arrival(make_room: MakeRoom) -> None:
    """The sweep offers the oldest first."""
    room = ready(make_room(SpoolLimits(max_queued_per_user=1)))
    names = drop(room, ALICE, 8)[::-1]
    for name in names:
        os.chmod(room.path / name, 0o640)  # sets the ctime
        time.sleep(0.012)  # a tick of the file server's clock
    wait_for(lambda: room.staging.clock.now() - (room.path / names[-1]).stat().st_ctime_ns > 60_000_000)
    sweep(room.staging, room.spool)
    room.work()
    wait_for(lambda: len(room.executed) == 8)
    assert room.names() == names


def test_a_post_beyond_the_bound_is_told_503_with_a_file(make_room: MakeRoom) -> None:
    """That identity is answered for ever; a new file is a new request."""
    room = ready(make_room(SpoolLimits(max_queued_per_user=1)))
    first, second = drop(room, ALICE, 2)
    offer(room, [first])
    assert room.post(second).code == 503
    assert room.recorded(second)["code"] == 503
    room.work()
    wait_for(lambda: room.names() == [first])
    assert room.post(second).code == 503
    (room.path / second).unlink()
    assert room.post(room.write(second, {"again": True})).code == 200
    assert room.names() == [first, second]


def test_one_user_never_holds_all_long_slots(make_room: MakeRoom) -> None:
    """At most `long_slots - 1`; short ones are not counted, and a freed slot goes on at once."""
    room = ready(make_room(SpoolLimits(long_slots=3)))
    offer(room, drop(room, ALICE, 4, "upload") + drop(room, BOB, 1, "upload") + drop(room, ALICE, 1))
    claims = [taken(room, Lane.LONG) for _ in range(3)]
    assert [int(claim.user) for claim in claims] == [ALICE, BOB, ALICE]
    room.spool.claims.answer(claims[1], done(claims[1]))
    assert room.spool.snapshot().queued == {"short": 1, "long": 2}
    taken(room)
    room.work()
    room.spool.claims.answer(claims[0], done(claims[0]))
    wait_for(lambda: len(room.executed) == 2)


def test_a_single_long_slot_is_anybodys(make_room: MakeRoom) -> None:
    """With one slot the rule would stop everybody."""
    room = ready(make_room(SpoolLimits(long_slots=1)))
    offer(room, drop(room, ALICE, 1, "upload"))
    assert taken(room, Lane.LONG).uid == ALICE


def test_a_thousand_users_are_all_served(make_room: MakeRoom) -> None:
    """Each once before anybody twice."""
    room = ready(make_room())
    for n in range(2):
        offer(room, [room.write(f"request-a-{uid}-{n}", {}, uid) for uid in range(20_000, 20_200)])
    first = [taken(room).uid for _ in range(200)]
    assert len(set(first)) == 200


def test_incomplete_files_are_bounded_too(make_room: MakeRoom) -> None:
    """What is beyond stays in staging, and comes when there is room."""
    room = make_room(SpoolLimits(max_queued=4, request_settle=0.2)).start()
    wait_for(lambda: room.spool.snapshot().ready)
    names = [room.write(f"request-a-{n}", b"") for n in range(12)]
    offer(room, names)
    assert room.spool.snapshot().unsettled == 4
    wait_for(lambda: all(room.has_response(name) for name in names))
