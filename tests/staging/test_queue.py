"""Whose turn it is."""

from collections.abc import Callable

from gobblerd.domain.messages import Identity
from gobblerd.staging.queue import Entry, FairQueue, Lane
from gobblerd.staging.settings import SpoolLimits


def entry(name: str, uid: int, lane: Lane = Lane.SHORT, *, administrator: bool = False) -> Entry:
    return Entry(Identity(name, 1, 1, 1), "a", uid, str(uid), 0.0, lane=lane, administrator=administrator)


def filled(*entries: Entry) -> FairQueue:
    queue = FairQueue()
    for each in entries:
        queue.put(each)
    return queue


def order(
    queue: FairQueue, lane: Lane = Lane.SHORT, may: Callable[[Entry], bool] = lambda _: True
) -> list[str]:
    found = []
    while (taken := queue.take(lane, may)) is not None:
        found.append(taken.name)
    return found


def test_users_take_turns() -> None:
    """A flood of one user's delays another's by one request, not by all of them."""
    queue = filled(*(entry(f"a{n}", 1) for n in range(4)), entry("b0", 2), entry("b1", 2), entry("c0", 3))
    assert order(queue) == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]
    assert len(queue) == 0


def test_a_users_turn_is_not_lost_by_arriving_late() -> None:
    """Whoever comes new is served after one request of each other user."""
    queue = filled(*(entry(f"a{n}", 1) for n in range(3)))
    queue.take(Lane.SHORT, lambda _: True)
    queue.put(entry("b0", 2))
    assert order(queue) == ["a1", "b0", "a2"]


def test_administrators_alternate_with_others() -> None:
    """They are never starved, and do not starve."""
    queue = filled(
        *(entry(f"a{n}", 1) for n in range(3)), *(entry(f"x{n}", 9, administrator=True) for n in range(4))
    )
    assert order(queue) == ["x0", "a0", "x1", "a1", "x2", "a2", "x3"]


def test_lanes_are_apart() -> None:
    """A short request is not behind a long one."""
    queue = filled(entry("l", 1, Lane.LONG), entry("s", 1))
    assert order(queue) == ["s"]
    assert (queue.count(Lane.LONG), queue.count(Lane.SHORT)) == (1, 0)
    assert order(queue, Lane.LONG) == ["l"]


def test_who_may_not_go_keeps_the_turn() -> None:
    """A user at the cap is passed over and comes first when below it again; one blocked name blocks no other."""
    queue = filled(entry("a0", 1), entry("a1", 1), entry("b0", 2), entry("b1", 2))
    assert order(queue, may=lambda each: each.uid != 1) == ["b0", "b1"]
    queue.put(entry("b2", 2))
    assert order(queue, may=lambda each: each.name != "a0") == ["a1", "b2"]
    assert order(queue) == ["a0"]


def test_bounds_count_users_and_totals() -> None:
    """Per user, and in all; administrators have a total of their own."""
    limits = SpoolLimits(max_queued=3, max_queued_per_user=2)
    queue = filled(entry("a0", 1), entry("a1", 1))
    assert queue.is_full(1, limits, administrator=False)
    assert not queue.is_full(2, limits, administrator=False)
    third = entry("b0", 2)
    queue.put(third)
    assert queue.is_full(3, limits, administrator=False)
    assert not queue.is_full(9, limits, administrator=True)
    assert not queue.has_emptied(3, limits)
    queue.remove(third)
    queue.take(Lane.SHORT, lambda _: True)
    assert queue.has_emptied(1, limits)


def test_ahead_counts_turns_not_entries() -> None:
    """A flood of another user's counts as one per turn of one's own."""
    first, second = entry("b0", 2), entry("b1", 2)
    queue = filled(*(entry(f"a{n}", 1) for n in range(50)), first, second)
    assert (queue.ahead(first), queue.ahead(second)) == (1, 3)
    queue.put(entry("x", 9, administrator=True))
    assert queue.ahead(first) == 2
