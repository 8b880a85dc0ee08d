"""Requests performed by one thread are answered together, in their order, and never held up by one that hangs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest

from gobblerd.domain.messages import Claim, Identity
from gobblerd.service.batch import Batches


class Done(NamedTuple):
    name: str
    is_pending: bool


class Performer:
    """A dispatcher that notes what it is asked for; claims named so fail, or have no answer."""

    def __init__(self, *, together: bool = True) -> None:
        self.answers_together = together
        self.answered: list[list[str]] = []

    def perform(self, claim: Claim) -> Done | None:
        if claim.name == "failing":
            raise RuntimeError(claim.name)
        return None if claim.name == "unanswered" else Done(claim.name, claim.name != "reading")

    def answer(self, together: Sequence[Done]) -> None:
        self.answered.append([done.name for done in together])


def claim(name: str) -> Claim:
    return Claim(Identity(name, 1, 2, 3), "a", 0, "root", b"{}")


def batches(performer: object, stand_by: Callable[[], None] = lambda: None) -> Batches:
    return Batches(performer, stand_by)  # type: ignore[arg-type]


def test_all_are_answered_at_the_end_in_their_order() -> None:
    """With one call, which syncs once."""
    performer = Performer()
    with batches(performer).opened() as batch:
        for name in ("one", "two", "three"):
            batch.run(claim(name))
        assert performer.answered == []
    assert performer.answered == [["one", "two", "three"]]


def test_each_is_answered_at_once_where_nothing_is_shared() -> None:
    """Then waiting would help nobody."""
    performer = Performer(together=False)
    with batches(performer).opened() as batch:
        for name in ("one", "two"):
            batch.run(claim(name))
            assert batch.is_empty
    assert performer.answered == [["one"], ["two"]]


def test_what_changed_nothing_is_answered_at_once() -> None:
    """It shares no sync with the others."""
    performer = Performer()
    with batches(performer).opened() as batch:
        for name in ("one", "reading", "two"):
            batch.run(claim(name))
    assert performer.answered == [["reading"], ["one", "two"]]


def test_what_fails_or_has_no_answer_takes_nothing_from_the_others() -> None:
    """Nor is the thread lost."""
    performer = Performer()
    with batches(performer).opened() as batch:
        for name in ("one", "failing", "unanswered", "two"):
            batch.run(claim(name))
    assert performer.answered == [["one", "two"]]


def test_what_a_thread_has_that_lost_the_turn_is_answered_by_the_next() -> None:
    """Once: when it comes back it finds nothing."""
    performer = Performer()
    together = batches(performer)
    with together.opened() as hanging:
        hanging.run(claim("waits"))
        with together.opened() as batch:
            assert performer.answered == [["waits"]]
            batch.run(claim("next"))
        hanging.run(claim("later"))
    assert performer.answered == [["waits"], ["next"], ["later"]]


def test_it_is_answered_whatever_happens_in_between() -> None:
    """Who performed it may not get to the end."""
    performer = Performer()

    def lost() -> None:
        with batches(performer).opened() as batch:
            batch.run(claim("one"))
            raise RuntimeError("between two claims")

    with pytest.raises(RuntimeError):
        lost()
    assert performer.answered == [["one"]]


def test_it_is_full_after_a_few() -> None:
    """The first must not wait for the hundredth."""
    with batches(Performer()).opened() as batch:
        count = 0
        while not batch.is_full:
            batch.run(claim(str(count)))
            count += 1
        assert 1 < count < 100


def test_it_is_answered_before_it_grows_beyond_that() -> None:
    """Also if whoever fills it does not look."""
    performer = Performer()
    with batches(performer).opened() as batch:
        for number in range(100):
            batch.run(claim(str(number)))
        assert sum(map(len, performer.answered)) > 50


def test_somebody_stands_by_while_one_waits_for_its_answer() -> None:
    """The next may hang: it must not keep the first from being answered."""
    called: list[int] = []
    with batches(performer := Performer(), lambda: called.append(len(performer.answered))).opened() as batch:
        batch.run(claim("one"))
        assert called == []
        batch.run(claim("two"))
        assert called == [0]
