"""Jobs in order, by one thread while none waits; nobody stays behind whoever hangs."""

import threading
import time
from collections.abc import Callable

import pytest

from gobblerd.service.line import Line
from gobblerd.storage.turn import Turn, stepped_aside

SECONDS = 60
THREADS = 8


@pytest.fixture
def line() -> Line:
    return Line(Turn(0.001), THREADS, "line")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def test_all_jobs_are_done_in_order() -> None:
    """With a turn that nobody loses, as long as nobody hangs."""
    line, done = Line(Turn(SECONDS), THREADS, "line"), list[int]()
    for number in range(2000):
        line.put(lambda number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: len(done) == 2000)
    assert done == list(range(2000))


def test_jobs_go_on_while_one_waits(line: Line) -> None:
    """It has stepped aside, and ends when it may."""
    may_go, done = threading.Event(), list[str]()

    def waits() -> None:
        with stepped_aside():
            assert may_go.wait(SECONDS)
        done.append("waited")

    line.put(waits)
    for _ in range(10):
        line.put(lambda: done.append("other"))
    eventually(lambda: done == ["other"] * 10)
    may_go.set()
    eventually(lambda: done == ["other"] * 10 + ["waited"])


def test_jobs_go_on_while_one_hangs(line: Line) -> None:
    """Without a word: the turn is lost, also by several, up to the number of threads."""
    may_go, done = threading.Event(), list[int]()
    for _ in range(THREADS - 1):
        line.put(lambda: assert_set(may_go))
    for number in range(5):
        line.put(lambda number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: sorted(done) == list(range(5)))
    may_go.set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(SECONDS)


def test_who_comes_back_goes_before_what_has_not_begun() -> None:
    """Else an endless line would keep those from ending who have begun."""
    line, order = Line(Turn(SECONDS), THREADS, "line"), list[str]()
    in_the_middle, may_go_on = threading.Event(), threading.Event()

    def steps_aside() -> None:
        with stepped_aside():
            in_the_middle.set()
        order.append("came back")

    def keeps_the_turn() -> None:
        assert in_the_middle.wait(SECONDS)
        assert may_go_on.wait(SECONDS)
        order.append("kept it")

    turn_of = line._turn
    line.put(steps_aside)
    line.put(keeps_the_turn)
    line.put(lambda: order.append("began last"))
    eventually(lambda: turn_of.is_wanted or order[:1] == ["came back"])
    may_go_on.set()
    eventually(lambda: len(order) == 3)
    assert order.index("came back") < order.index("began last")


def test_a_turn_that_is_always_wanted_is_good_for_one_job() -> None:
    """Others are at work all the time: the line goes on nevertheless, a job for each of its turns."""

    class Wanted(Turn):
        is_wanted = True  # type: ignore[assignment]

    line, done = Line(Wanted(SECONDS), THREADS, "line"), list[int]()
    for number in range(20):
        line.put(lambda number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: len(done) == 20)
