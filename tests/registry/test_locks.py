"""The lock ladder: who waits for whom, in which order, until when; and nobody is stopped by a waiter.

Another process is played by another table on the same root: flock is between open files, not processes.
"""

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gobblerd.domain.errors import Busy, Fault, Stopped
from gobblerd.domain.names import ROOT, Address
from gobblerd.registry.locks import (
    Ladder,
    LockTable,
    Mode,
    Rung,
    changing_ladder,
    holds_exclusively,
    new_child_ladder,
    reading_ladder,
    usage_rung,
)

P, A, V = Address("p"), Address("p", "a"), Address("p", "a", "1")
S, X = Mode.SHARED, Mode.EXCLUSIVE


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "p" / "a" / "1").mkdir(parents=True)
    (tmp_path / "q").mkdir()
    return tmp_path


@pytest.fixture
def table(root: Path) -> Iterator[LockTable]:
    made = LockTable(str(root), lambda: 20.0)
    yield made
    assert made._gates == {}  # nothing is held by a test that has ended


@pytest.fixture
def other(root: Path) -> LockTable:
    return LockTable(str(root), lambda: 20.0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Climber(threading.Thread):
    """A thread that climbs, notes that it did, waits to be told, and lets go."""

    def __init__(self, table: LockTable, ladder: Ladder, name: str, order: list[str]) -> None:
        super().__init__(name=name)
        self.table, self.ladder, self.order = table, ladder, order
        self.go = threading.Event()
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            held = self.table.climb(self.ladder, self.name)
        except (Busy, OSError) as error:
            self.error = error
            return
        self.order.append(self.name)
        self.go.wait(20)
        held.release()

    def let_go(self) -> None:
        self.go.set()
        self.join()


# ---- ladders


@pytest.mark.parametrize(
    ("ladder", "rungs"),
    [
        (reading_ladder(ROOT), [("..LOCK", S)]),
        (reading_ladder(A), [("..LOCK", S), ("p/..LOCK", S), ("p/a/..LOCK", S)]),
        (reading_ladder(V), [("..LOCK", S), ("p/..LOCK", S), ("p/a/..LOCK", S)]),
        (changing_ladder(ROOT), [("..LOCK", X)]),
        (changing_ladder(P), [("..LOCK", S), ("p/..LOCK", X)]),
        (changing_ladder(A), [("..LOCK", S), ("p/..LOCK", S), ("p/a/..LOCK", X)]),
        (changing_ladder(V), [("..LOCK", S), ("p/..LOCK", S), ("p/a/..LOCK", X)]),
        (new_child_ladder(P), [("..LOCK", S), ("p/..LOCK", S), ("p/..LOCK_NEWDIR", X)]),
    ],
)
def test_ladders(ladder: Ladder, rungs: list[tuple[str, Mode]]) -> None:
    """Shared on the ancestors, outermost first; a version's lock is its asset's (spec/registry.md)."""
    assert [(rung.path, rung.mode) for rung in ladder] == rungs


@pytest.mark.parametrize(
    ("ladder", "held"),
    [
        (changing_ladder(ROOT), True),
        (changing_ladder(P), True),
        (changing_ladder(A), False),
        (reading_ladder(P), False),
        (new_child_ladder(P), False),
        ((usage_rung("p"),), True),
        (changing_ladder(Address("q")), False),
    ],
)
def test_whose_usage_is_safe(ladder: Ladder, *, held: bool) -> None:
    """An exclusive holder above needs no usage lock."""
    assert holds_exclusively(ladder, "p") is held


@pytest.mark.parametrize(
    ("one", "two", "conflict"), [(S, S, False), (S, X, True), (X, S, True), (X, X, True)]
)
def test_conflicts(one: Mode, two: Mode, *, conflict: bool) -> None:
    """Only readers go together; other paths never meet."""
    assert Rung("a", one).conflicts(Rung("a", two)) is conflict
    assert not Rung("a", one).conflicts(Rung("b", two))


# ---- within one process


@pytest.mark.parametrize(
    ("mine", "yours", "together"),
    [
        (reading_ladder(A), reading_ladder(A), True),
        (changing_ladder(A), changing_ladder(Address("q")), True),
        (changing_ladder(A), reading_ladder(P), True),
        (changing_ladder(A), reading_ladder(V), False),
        (changing_ladder(P), changing_ladder(A), False),
        (changing_ladder(ROOT), reading_ladder(ROOT), False),
        (new_child_ladder(P), new_child_ladder(P), False),
        (new_child_ladder(P), changing_ladder(A), True),
        (new_child_ladder(P), changing_ladder(P), False),
    ],
)
@pytest.mark.parametrize("foreign", [False, True])
def test_who_goes_together(
    table: LockTable, other: LockTable, *, mine: Ladder, yours: Ladder, together: bool, foreign: bool
) -> None:
    """The same between threads and between processes."""
    held = table.climb(mine, "me")
    second = other if foreign else table
    if together:
        second.climb(yours, "you", 0).release()
    else:
        with pytest.raises(Busy):
            second.climb(yours, "you", 0)
    held.release()
    second.climb(yours, "you", 0).release()


def test_first_come_first_served(table: LockTable) -> None:
    """Writers and readers in order of arrival; readers side by side go together; nobody overtakes."""
    held = table.climb(changing_ladder(A), "first")
    order: list[str] = []
    waiting: list[Climber] = []
    for name, ladder in (
        ("w1", changing_ladder(A)),
        ("r1", reading_ladder(A)),
        ("r2", reading_ladder(A)),
        ("w2", changing_ladder(A)),
        ("r3", reading_ladder(A)),
    ):
        waiting.append(Climber(table, ladder, name, order))
        until(lambda: len(table._gates["p/a/..LOCK"].queue) == len(waiting))
    held.release()
    until(lambda: order == ["w1"])
    waiting[0].let_go()
    until(lambda: set(order) == {"w1", "r1", "r2"})
    waiting[2].let_go()
    late = Climber(table, reading_ladder(A), "late", order)
    until(lambda: len(table._gates["p/a/..LOCK"].queue) == 3)
    assert set(order) == {"w1", "r1", "r2"}  # a reader behind a writer waits for it
    waiting[1].let_go()
    until(lambda: order[3:] == ["w2"])
    waiting[3].let_go()
    until(lambda: set(order[4:]) == {"r3", "late"})
    for climber in (waiting[4], late):
        climber.let_go()


def test_the_deadline_names_the_holder(table: LockTable) -> None:
    """Who holds what, in the holder's own words; the registry is never called by its path."""
    for ladder, place in ((changing_ladder(A), '"p/a"'), (changing_ladder(ROOT), "the registry")):
        held = table.climb(ladder, "an upload by alice")
        with pytest.raises(Busy) as caught:
            table.climb(ladder, "me", 0.01)
        assert caught.value.reason.startswith(f"{place} stayed locked by an upload by alice until")
        held.release()


def test_a_waiter_that_gives_up_lets_those_behind_pass(table: LockTable) -> None:
    """A writer in the queue holds up readers only while it waits."""
    held = table.climb(reading_ladder(A), "reader")
    with pytest.raises(Busy):
        table.climb(changing_ladder(A), "writer", 0.01)
    table.climb(reading_ladder(A), "another", 0).release()
    held.release()


def test_stopping_wakes_those_who_wait(table: LockTable, other: LockTable) -> None:
    """At a gate, and for another process; nothing stays held."""
    foreign = other.climb(changing_ladder(P), "foreign")
    own = table.climb(changing_ladder(Address("q")), "own")
    order: list[str] = []
    waiting = [Climber(table, changing_ladder(place), str(place), order) for place in (P, Address("q"))]
    until(lambda: bool(table._gates["q/..LOCK"].queue))
    table.stop()
    for climber in waiting:
        climber.join(20)
        assert isinstance(climber.error, Stopped)
    foreign.release()
    own.release()


def test_a_directory_that_is_not_there(table: LockTable) -> None:
    """FileNotFoundError, no lock file in its parent's place, nothing held."""
    with pytest.raises(FileNotFoundError):
        table.climb(changing_ladder(Address("none", "a")), "me")
    assert not os.path.exists(f"{table._root}/none")
    table.climb(changing_ladder(ROOT), "me", 0).release()


# ---- between processes


def test_waiting_for_another_process_holds_up_nobody(table: LockTable, other: LockTable) -> None:
    """The whole ladder is let go while a foreign lock is waited for: others get the registry meanwhile."""
    held = other.climb(changing_ladder(A), "foreign")
    order: list[str] = []
    waiting = Climber(table, changing_ladder(A), "waiting", order)
    third = LockTable(table._root, lambda: 20.0)
    third.climb((Rung("q/..LOCK", X),), "somebody").release()
    with pytest.raises(Busy):
        third.climb(changing_ladder(ROOT), "all", 0)  # the foreign one has it shared
    held.release()
    until(lambda: order == ["waiting"])
    waiting.let_go()
    third.climb(changing_ladder(ROOT), "all").release()


def test_the_ladder_is_let_go_while_waiting(table: LockTable, root: Path) -> None:
    """A Go service that holds an asset only: whoever wants all of the registry gets it between two tries."""
    (root / "p/a/..LOCK").touch()
    fd = os.open(root / "p/a/..LOCK", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    order: list[str] = []
    waiting = Climber(table, changing_ladder(A), "waiting", order)
    for _ in range(3):
        table.climb(changing_ladder(ROOT), "all of it", 20).release()
        LockTable(str(root), lambda: 20.0).climb(changing_ladder(ROOT), "another daemon").release()
    assert order == []
    os.close(fd)
    until(lambda: order == ["waiting"])
    waiting.let_go()


def test_a_holder_s_words_stay_on_their_line(table: LockTable) -> None:
    """A name that older rules allowed can hold anything but a slash."""
    held = table.climb(changing_ladder(A), "a change of p/\n\x1b[31m")
    with pytest.raises(Busy) as caught:
        table.climb(changing_ladder(A), "me", 0.01)
    held.release()
    assert caught.value.reason.isprintable()


def test_a_foreign_holder_is_named_by_its_process(table: LockTable, root: Path) -> None:
    """So that an administrator knows where to look."""
    script = "import fcntl,sys\nf=open(sys.argv[1],'w')\nfcntl.flock(f,fcntl.LOCK_EX)\nprint('held',flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(root / "p/..LOCK")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(Busy) as caught:
            table.climb(changing_ladder(P), "me", 0.01)
        process.communicate(b"\n")
    assert caught.value.reason.startswith(f'"p" stayed locked by process {process.pid} on this machine')
    table.climb(changing_ladder(P), "me", 0).release()


def test_the_usage_lock_is_taken_on_top(table: LockTable, other: LockTable) -> None:
    """Waiting in place, thread or process; the ladder stays held."""
    one = table.climb(changing_ladder(A), "one")
    two = other.climb(new_child_ladder(Address("p")), "two")
    table.extend(one, usage_rung("p"))
    done = threading.Event()

    def extend() -> None:
        other.extend(two, usage_rung("p"))
        done.set()

    thread = threading.Thread(target=extend)
    thread.start()
    assert not done.wait(0.05)
    one.release()
    thread.join(20)
    assert done.is_set()
    assert usage_rung("p") in two.rungs
    two.release()


def test_a_new_place_is_locked_before_it_appears(table: LockTable, other: LockTable, root: Path) -> None:
    """By the lock file in its staged directory: whoever sees it appear waits."""
    (root / "staged").mkdir()
    held = table.climb(new_child_ladder(P), "creator")
    table.seize(held, Address("p", "new"), str(root / "staged"))
    os.rename(root / "staged", root / "p" / "new")
    for each in (table, other):
        with pytest.raises(Busy):
            each.climb(reading_ladder(Address("p", "new")), "reader", 0)
    held.release()
    other.climb(reading_ladder(Address("p", "new")), "reader", 0).release()


# ---- the files


@pytest.mark.parametrize("umask", [0, 0o022])
def test_lock_files_are_the_daemon_s_alone(table: LockTable, root: Path, umask: int) -> None:
    """0600, also those that a Go service made: whoever can open one can hold it for ever."""
    (root / "p/..LOCK").touch()
    os.chmod(root / "p/..LOCK", 0o644)
    old = os.umask(umask)
    try:
        table.climb((*new_child_ladder(A), usage_rung("p")), "me").release()
    finally:
        os.umask(old)
    found = {str(path.relative_to(root)): path.stat() for path in root.rglob("..LOCK*")}
    assert set(found) == {"..LOCK", "p/..LOCK", "p/..LOCK_USAGE", "p/a/..LOCK", "p/a/..LOCK_NEWDIR"}
    assert {stat.S_IMODE(status.st_mode) for status in found.values()} == {0o600}
    assert {status.st_size for status in found.values()} == {0}


def test_a_lock_file_is_never_a_link(table: LockTable, root: Path) -> None:
    """Nothing is created or locked where it would point."""
    (root / "p/..LOCK").symlink_to("elsewhere")
    with pytest.raises(Fault, match="cannot be locked"):
        table.climb(changing_ladder(P), "me")
    assert not (root / "p/elsewhere").exists()
    table.climb(changing_ladder(ROOT), "me", 0).release()


def test_no_descriptor_stays(table: LockTable, other: LockTable) -> None:
    """After release, a deadline, an absent place."""
    before = len(os.listdir("/proc/self/fd"))
    held = other.climb(changing_ladder(P), "foreign")
    attempts: list[tuple[Ladder, Any]] = [
        (changing_ladder(A), Busy),
        (changing_ladder(Address("none")), FileNotFoundError),
    ]
    for ladder, error in attempts:
        with pytest.raises(error):
            table.climb(ladder, "me", 0.01)
    held.release()
    table.climb(changing_ladder(A), "me").release()
    assert len(os.listdir("/proc/self/fd")) == before


def test_many_threads_and_processes(root: Path) -> None:
    """A counter that only lock holders touch is never lost count of."""
    counter = root / "p" / "a" / "count"
    counter.write_text("0")
    tables = [LockTable(str(root), lambda: 60.0) for _ in range(2)]

    def work(table: LockTable) -> None:
        for _ in range(25):
            held = table.climb(changing_ladder(A), "worker")
            counter.write_text(str(int(counter.read_text()) + 1))
            held.release()

    threads = [threading.Thread(target=work, args=(tables[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.read_text() == "200"


@pytest.mark.parametrize("kind", ["directory", "link that goes nowhere", "link in a circle"])
def test_what_is_no_lock_file_is_named(root: Path, table: LockTable, kind: str) -> None:
    """Whoever needs it is told what is wrong and what to do, and nothing stays locked."""
    lock = root / "p/..LOCK"
    lock.mkdir() if kind == "directory" else lock.symlink_to("..LOCK" if "circle" in kind else "nowhere")
    with pytest.raises(Fault, match=r'"p/\.\.LOCK" cannot be locked: .*move away what is no such file'):
        table.climb(changing_ladder(A), "we")
    table.climb(changing_ladder(Address("q")), "we").release()
    lock.rmdir() if kind == "directory" else lock.unlink()
    table.climb(changing_ladder(A), "we").release()
