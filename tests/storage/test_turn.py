"""One thread at a time has the turn; who waits steps aside, and who keeps it too long loses it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gobblerd.storage.turn import SteppingAside, Turn, stepped_aside

SECONDS = 60  # how long a test waits for what must happen


@contextmanager
def running(*works: Callable[[], None]) -> Iterator[None]:
    """Run each in a thread of its own; all end with the block."""
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_one_thread_at_a_time() -> None:
    """Twenty threads, none of which keeps it for long, never meet."""
    turn, inside, most = Turn(patience=SECONDS), [0], [0]

    def work() -> None:
        for _ in range(50):
            with turn.taken():
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    with running(*[work] * 20):
        pass
    assert most == [1]


def test_who_waits_steps_aside() -> None:
    """Another has the turn meanwhile, and it is waited for again at the end of the block."""
    turn, other_has_it, other_may_go = Turn(patience=SECONDS), threading.Event(), threading.Event()
    order = []

    def other() -> None:
        with turn.taken():
            other_has_it.set()
            assert other_may_go.wait(SECONDS)
            order.append("other")

    with turn.taken(), running(other):
        with stepped_aside():
            assert other_has_it.wait(SECONDS)
            other_may_go.set()
        order.append("first")
    assert order == ["other", "first"]


def test_who_has_no_turn_steps_aside_for_nothing() -> None:
    """Whatever syncs may say so, in any thread."""
    turn = Turn(patience=SECONDS)
    with turn.taken(), running(lambda: stepped_aside().__enter__()):
        pass


def test_who_keeps_it_too_long_loses_it() -> None:
    """Both run then; when the first comes to its end the turn is still one thread's alone."""
    turn, passed, release = Turn(patience=0.001), threading.Event(), threading.Event()

    def hangs() -> None:
        with turn.taken():
            passed.set()
            assert release.wait(SECONDS)

    with running(hangs):
        assert passed.wait(SECONDS)
        with turn.taken():  # the other still hangs
            release.set()
    with turn.taken():
        pass


def test_whoever_loses_it_unawares_goes_on_without() -> None:
    """It may be given to a thread, and lost again, before that thread wakes up."""
    turn, done = Turn(patience=0.0002), [0]

    def work() -> None:
        for _ in range(200):
            with turn.taken():
                time.sleep(0.0003)
                with stepped_aside():
                    time.sleep(0.0001)
            done[0] += 1

    with running(*[work] * 8):
        pass
    assert done == [8 * 200]
    with turn.taken():
        assert turn._taken_over(threading.Lock(), turn._waiting), "neither waiting nor holding"


def test_who_has_begun_something_goes_before_who_begins() -> None:
    """In order of arrival otherwise."""
    turn, order = Turn(patience=SECONDS), list[str]()

    def work(name: str, *, beginning: bool) -> Callable[[], None]:
        def take() -> None:
            with turn.taken(beginning=beginning):
                order.append(name)

        return take

    with contextlib.ExitStack() as stack, turn.taken():
        for number, beginning in enumerate((True, True, False, False)):
            stack.enter_context(running(work(str(number), beginning=beginning)))
            deadline = time.monotonic() + SECONDS
            while len(turn._waiting) + len(turn._beginning) <= number:
                assert time.monotonic() < deadline
                time.sleep(0.001)
        assert turn.is_wanted
    assert order == ["2", "3", "0", "1"]


def test_who_begins_lets_few_pass() -> None:
    """Behind those who are in the middle of something, but not behind all of a crowd."""
    turn, order = Turn(patience=SECONDS), list[str]()

    def work(name: str, *, beginning: bool = False) -> None:
        with turn.taken(beginning=beginning):
            order.append(name)

    crowd = [lambda: work("under way")] * 30
    with contextlib.ExitStack() as stack, turn.taken():
        stack.enter_context(running(lambda: work("begins", beginning=True), *crowd))
        while len(turn._waiting) + len(turn._beginning) <= len(crowd):
            time.sleep(0.001)
    assert order == ["under way"] * 8 + ["begins"] + ["under way"] * 22


def test_who_goes_on_with_something_else_keeps_it() -> None:
    """Only one thing that takes too long loses the turn, not many short ones; who lost it is told so."""
    turn = Turn(patience=SECONDS)
    with turn.taken():
        assert turn.keep()
    assert not turn.keep()  # nobody has it

    turn, taken_over = Turn(patience=0.001), threading.Event()

    def other() -> None:
        with turn.taken():
            taken_over.set()

    with turn.taken(), running(other):
        assert taken_over.wait(SECONDS)
        assert not turn.keep()


def test_a_wait_that_was_brief_keeps_the_turn() -> None:
    """Handing it on would take longer; where the last one took long, others may have it."""
    turn, brief = Turn(SECONDS), SteppingAside(brief=SECONDS)
    with turn.taken(), brief.stepped_aside():
        assert turn._holder is not None
    long = SteppingAside(brief=0.0)
    with turn.taken():
        with long.stepped_aside():
            assert turn._holder is not None
            time.sleep(0.001)
        with long.stepped_aside():
            assert turn._holder is None
        assert turn._holder is not None
