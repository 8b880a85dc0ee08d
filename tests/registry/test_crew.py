"""Threads that work off tasks: results, errors and cancelling reach whoever asked; nothing is left over."""

import errno
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gobblerd.registry.crew import Crew, Desk, share, work_here

Ways = Callable[..., Iterator[int]]


def in_threads(
    tasks: list[Callable[[Desk], Iterator[list[int]]]], tick: Callable[[int], None]
) -> Iterator[int]:
    return Crew(tasks, 10).work(tick)


def in_place(
    tasks: list[Callable[[Desk], Iterator[list[int]]]], tick: Callable[[int], None]
) -> Iterator[int]:
    return work_here(tasks, 10, tick)


@pytest.fixture(params=[in_threads, in_place])
def work(request: pytest.FixtureRequest) -> Iterator[Ways]:
    before = threading.active_count()
    yield request.param
    assert threading.active_count() <= before  # a thread of an earlier test may have ended meanwhile


def yielding(*results: int) -> Callable[[Desk], Iterator[list[int]]]:
    def task(desk: Desk) -> Iterator[list[int]]:
        for result in results:
            desk.tick(result)
            yield [result]

    return task


def test_all_results_and_ticks_arrive(work: Ways) -> None:
    """From many tasks; ticks are called by the thread that takes the results."""
    callers, ticks = set(), []

    def tick(size: int) -> None:
        callers.add(threading.get_ident())
        ticks.append(size)

    numbers = list(range(200))
    assert sorted(work([yielding(n, n + 1000) for n in numbers], tick)) == [
        *numbers,
        *(n + 1000 for n in numbers),
    ]
    assert sorted(ticks) == [*numbers, *(n + 1000 for n in numbers)]
    assert callers == {threading.get_ident()}


def test_the_first_error_ends_it(work: Ways) -> None:
    """It is raised where the results are taken."""

    def fails(_: Desk) -> Iterator[list[int]]:
        yield [1]
        raise LookupError("it")

    with pytest.raises(LookupError, match="it"):
        list(work([fails, *(yielding(n) for n in range(500))], lambda _: None))


@pytest.mark.parametrize("order", [1, -1])
def test_an_error_ends_a_task_that_never_would(order: int) -> None:
    """Whichever thread has which of the two."""
    begun = threading.Event()

    def endless(desk: Desk) -> Iterator[list[int]]:
        begun.set()
        while True:
            desk.tick(1)
            time.sleep(0.001)
        yield []

    def fails(_: Desk) -> Iterator[list[int]]:
        yield [1]
        assert begun.wait(60)
        raise LookupError("it")

    with pytest.raises(LookupError, match="it"):
        list(in_threads([fails, endless][::order], lambda _: None))


def test_nobody_waits_for_who_has_a_long_task_in_hand() -> None:
    """Others go on with the small ones meanwhile, and nothing that they did is lost."""
    done = threading.Event()
    count = 100

    def long(desk: Desk) -> Iterator[list[int]]:
        while not done.wait(0.001):
            desk.tick(0)
        yield [-1]

    def last(_: Desk) -> Iterator[list[int]]:
        done.set()
        yield [-2]

    tasks = [long, *(yielding(n) for n in range(count)), last]
    assert sorted(in_threads(tasks, lambda _: None)) == [-2, -1, *range(count)]


def test_a_tick_that_raises_ends_it(work: Ways) -> None:
    """As a daemon that stops does."""

    def tick(size: int) -> None:
        if size == 7:
            raise LookupError("stop")

    with pytest.raises(LookupError, match="stop"):
        list(work([yielding(n) for n in range(500)], tick))


def test_results_that_nobody_takes_stop_nobody(work: Ways) -> None:
    """Whoever has enough closes the iterator; threads that wait to hand over give up."""
    some = work([yielding(*range(100)) for _ in range(50)], lambda _: None)
    assert next(some) == 0
    some.close()  # type: ignore[attr-defined]


def test_tasks_that_cannot_be_made(work: Ways) -> None:
    """An error of the iterator of tasks is raised as well."""

    def tasks() -> Iterator[Callable[[Desk], Iterator[list[int]]]]:
        yield yielding(1)
        raise LookupError("none")

    with pytest.raises(LookupError, match="none"):
        list(work(tasks(), lambda _: None))


@pytest.mark.parametrize("many", [0, 1, 2, 3, 100])
def test_shared_parts_come_in_their_order(many: int) -> None:
    """Whoever did them; a single one is done here."""
    done = share(lambda part: (part, threading.current_thread().name), iter(range(many)))
    assert [part for part, _ in done] == list(range(many))
    assert many > 1 or {name for _, name in done} <= {threading.current_thread().name}


def test_parts_are_begun_while_others_are_found() -> None:
    """Finding them may take as long as the work."""
    begun = threading.Event()

    def parts() -> Iterator[int]:
        yield from range(2)
        assert begun.wait(60)
        yield 2

    def work(part: int) -> int:
        begun.set()
        return part

    assert share(work, parts()) == [0, 1, 2]


@pytest.mark.parametrize("at", [0, 4, 9])
def test_an_error_in_a_part_is_raised(at: int) -> None:
    """Whichever thread met it."""

    def work(part: int) -> int:
        if part == at:
            raise OSError(errno.EIO, "broken")
        return part

    with pytest.raises(OSError, match="broken"):
        share(work, range(10))
