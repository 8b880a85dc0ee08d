"""gobblerd.service.housekeeping: when rounds are done, and the watchdog fed."""

import threading
from collections.abc import Callable, Iterator

import pytest

from gobblerd.service.housekeeping import Housekeeping, Pace

NEVER = 3600.0  # seconds: longer than a test
SOON = 0.001
DEADLINE = 60.0


class Daemon:
    """What is tended: remembers what each round heard."""

    def __init__(self) -> None:
        self.quiet = True
        self.progress = True
        self.heard: list[bool] = []
        self.fed = 0
        self._changed = threading.Condition()

    def tend(self, whole: bool) -> bool:  # noqa: FBT001  # what Housekeeping calls
        with self._changed:
            self.heard.append(whole)
            self._changed.notify_all()
            return self.quiet

    def makes_progress(self) -> bool:
        return self.progress

    def feed(self) -> None:
        self.fed += 1

    def wait_for(self, rounds: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= rounds, DEADLINE), "no further round"


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


Make = Callable[..., Housekeeping]


@pytest.fixture
def make(daemon: Daemon) -> Iterator[Make]:
    """Make housekeepings, which end with the test."""
    made: list[Housekeeping] = []

    def one(busy: float, rest: float, watchdog: float | None = None) -> Housekeeping:
        made.append(Housekeeping(daemon.tend, daemon.makes_progress, watchdog, Pace(busy, rest)))
        return made[-1]

    yield one
    for each in made:
        each.stop()


def test_rounds_follow_each_other_until_nothing_happens(daemon: Daemon, make: Make) -> None:
    """Fast while something does; each of these rounds hears that it is to look at everything."""
    daemon.quiet = False
    house = make(SOON, NEVER)
    house.start(daemon.feed)
    daemon.wait_for(5)
    assert all(daemon.heard)
    daemon.quiet = True
    done = len(daemon.heard)
    daemon.wait_for(done + 1)
    house.stop()
    assert daemon.heard.count(False) == 0


def test_at_rest_rounds_are_further_apart_and_lighter(daemon: Daemon, make: Make) -> None:
    """The first one is whole, since nothing is known before it."""
    make(NEVER, SOON).start(daemon.feed)
    daemon.wait_for(5)
    assert daemon.heard[:5] == [True, False, False, False, False]


def test_what_stirs_ends_the_rest(daemon: Daemon, make: Make) -> None:
    """A whole round comes soon, however often it is said that something happens."""
    house = make(SOON, NEVER)
    house.start(daemon.feed)
    for rounds in range(1, 6):
        daemon.wait_for(rounds)
        for _ in range(3):
            house.stir()
    daemon.wait_for(6)
    assert all(daemon.heard)


def test_what_stirs_during_a_round_is_for_the_next_one(daemon: Daemon, make: Make) -> None:
    house = make(SOON, NEVER)

    def tend(whole: bool) -> bool:  # noqa: FBT001  # as above
        if not daemon.heard:
            house.stir()
        return daemon.tend(whole)

    house._tend = tend
    house.start(daemon.feed)
    daemon.wait_for(2)
    assert daemon.heard[:2] == [True, True]


def test_a_round_that_fails_is_followed_by_others(daemon: Daemon, make: Make) -> None:
    house = make(SOON, NEVER)

    def tend(whole: bool) -> bool:  # noqa: FBT001  # as above
        if len(daemon.heard) < 3:
            daemon.tend(whole)
            raise ValueError("the storage is odd")
        return daemon.tend(whole)

    house._tend = tend
    house.start(daemon.feed)
    daemon.wait_for(4)
    assert daemon.heard == [True] * 4


def test_the_watchdog_is_fed_in_time(daemon: Daemon, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at every round, but never so that the next one would be too late; and only if there is progress."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    house = make(2.0, 8.0, 24.0)
    house._feed = daemon.feed
    fed = []
    for _ in range(10):
        house.do_round()
        fed.append(daemon.fed)
        now[0] += 8.0
    assert fed == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    daemon.progress = False
    for _ in range(10):
        house.do_round()
        now[0] += 8.0
    assert daemon.fed == 5


def test_a_hungry_watchdog_sets_the_pace(daemon: Daemon, make: Make) -> None:
    """Rounds are never further apart than it is to be fed."""
    make(NEVER, NEVER, SOON).start(daemon.feed)
    daemon.wait_for(5)
    assert daemon.fed >= 4


def test_nobody_watches(daemon: Daemon, make: Make) -> None:
    house = make(SOON, SOON)
    house._feed = daemon.feed
    house.do_round()
    assert daemon.fed == 0


def test_everything_is_looked_at_once_a_minute(
    daemon: Daemon, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody stirs for must not stay unseen."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    house = make(2.0, 8.0)
    for _ in range(9):
        house.do_round()
        now[0] += 8.0
    assert daemon.heard == [True, *[False] * 7, True]
