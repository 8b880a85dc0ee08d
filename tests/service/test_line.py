"""Jobs in order, by one thread while none waits; nobody stays behind whoever hangs."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gobblerd.service.batch import Batch, Batches
from gobblerd.service.line import Line
from gobblerd.storage.turn import Turn, stepped_aside

SECONDS = 60
THREADS = 8


def new_line(turn: Turn) -> Line:
    nobody: object = None  # performs: these jobs are not requests
    return Line(turn, Batches(nobody, lambda: None), THREADS, "line")  # type: ignore[arg-type]


@pytest.fixture
def line() -> Line:
    return new_line(Turn(0.001))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def test_all_jobs_are_done_in_order() -> None:
    """With a turn that nobody loses, as long as nobody hangs."""
    line, done = new_line(Turn(SECONDS)), list[int]()
    for number in range(2000):
        line.put(lambda _, number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: len(done) == 2000)
    assert done == list(range(2000))


def test_jobs_go_on_while_one_waits(line: Line) -> None:
    """It has stepped aside, and ends when it may."""
    may_go, done = threading.Event(), list[str]()

    def waits(_: Batch) -> None:
        with stepped_aside():
            assert may_go.wait(SECONDS)
        done.append("waited")

    line.put(waits)
    for _ in range(10):
        line.put(lambda _: done.append("other"))
    eventually(lambda: done == ["other"] * 10)
    may_go.set()
    eventually(lambda: done == ["other"] * 10 + ["waited"])


def test_jobs_go_on_while_one_hangs(line: Line) -> None:
    """Without a word: the turn is lost, also by several, up to the number of threads."""
    may_go, done = threading.Event(), list[int]()
    for _ in range(THREADS - 1):
        line.put(lambda _: assert_set(may_go))
    for number in range(5):
        line.put(lambda _, number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: sorted(done) == list(range(5)))
    may_go.set()


def assert_set(event: threading.Event) -> None:
    assert event.wait(SECONDS)


def test_who_comes_back_goes_before_what_has_not_begun() -> None:
    """Else an endless line would keep those from ending who have begun."""
    line, order = new_line(Turn(SECONDS)), list[str]()
    in_the_middle, may_go_on = threading.Event(), threading.Event()

    def steps_aside(_: Batch) -> None:
        with stepped_aside():
            in_the_middle.set()
        order.append("came back")

    def keeps_the_turn(_: Batch) -> None:
        assert in_the_middle.wait(SECONDS)
        assert may_go_on.wait(SECONDS)
        order.append("kept it")

    turn_of = line._turn
    line.put(steps_aside)
    line.put(keeps_the_turn)
    line.put(lambda _: order.append("began last"))
    eventually(lambda: turn_of.is_wanted or order[:1] == ["came back"])
    may_go_on.set()
    eventually(lambda: len(order) == 3)
    assert order.index("came back") < order.index("began last")


def test_a_turn_that_is_always_wanted_is_good_for_one_job() -> None:
    """Others are at work all the time: the line goes on nevertheless, a job for each of its turns."""

    class Wanted(Turn):
        is_wanted = True  # type: ignore[assignment]

    line, done = new_line(Wanted(SECONDS)), list[int]()
    for number in range(20):
        line.put(lambda _, number=number: done.append(number))  # type: ignore[misc]
    eventually(lambda: len(done) == 20)


def test_who_has_done_all_fetches_more(line: Line) -> None:
    """Until nothing comes any more; then somebody else has to look."""
    waiting, done = [1, 2, 3], list[int]()

    def fetch() -> None:
        if waiting:
            number = waiting.pop(0)
            line.put(lambda _: done.append(number))

    line.attend(fetch)
    line.put(lambda _: done.append(0))
    eventually(lambda: done == [0, 1, 2, 3] and not line.serves)


def test_who_waits_for_jobs_rests_while_another_fetches(line: Line) -> None:
    """And is woken when that one ends."""
    begun, may_go, rested = threading.Event(), threading.Event(), threading.Event()

    def works(_: Batch) -> None:
        begun.set()
        assert may_go.wait(SECONDS)

    def rest() -> None:
        while line.serves:
            line.rest()
        rested.set()

    line.put(works)
    assert begun.wait(SECONDS)
    assert line.serves
    threading.Thread(target=rest, daemon=True).start()
    may_go.set()
    assert rested.wait(SECONDS)


def test_rest_ends_though_who_fetches_hangs(line: Line) -> None:
    """Else nobody would notice what comes."""
    begun, may_go = threading.Event(), threading.Event()

    def hangs(_: Batch) -> None:
        begun.set()
        assert may_go.wait(SECONDS)

    line.put(hangs)
    assert begun.wait(SECONDS)
    line.rest()
    assert line.serves
    may_go.set()


def test_a_thread_stands_by_though_there_is_nothing_to_do() -> None:
    """It takes the turn, and opens a batch, which answers what others hold."""
    opened = threading.Event()

    class Noted(Batches):
        @contextmanager
        def opened(self) -> Iterator[Batch]:
            opened.set()
            with super().opened() as batch:
                yield batch

    nobody: object = None
    line = Line(Turn(SECONDS), Noted(nobody, lambda: None), THREADS, "line")  # type: ignore[arg-type]
    line.stand_by()
    assert opened.wait(SECONDS)
