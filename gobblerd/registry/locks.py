"""The lock ladder: flock between processes, a fair gate in order of arrival between threads.

A ladder is the list of lock files to hold, outermost first (spec/registry.md, "Lock files"). A thread
waits at a gate by condition variable. When another *process* holds a lock, the whole ladder is let go and
climbed again after a pause, since a Go service may hold an asset for hours and must not stop everybody.

Known limits: flock is node-local or absent on some network filesystems (`gobblerd doctor` will tell); who
holds a lock is known by process id on this machine only.
"""

import contextlib
import fcntl
import functools
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gobblerd.domain.errors import Busy, Fault, Plain, Stopped, escaped_line
from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.storage.files import STANDING
from gobblerd.storage.single import flocked
from gobblerd.storage.turn import stepped_aside

# Users may read the registry, and whoever can open a lock file can hold it for ever: theirs it is not.
LOCK_FILE_MODE = 0o600
_OPEN_LOCK = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # NFS: to write, for an exclusive lock
_SHARED, _EXCLUSIVE = fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_EX | fcntl.LOCK_NB
_LADDERS_KEPT = 1024  # those of places that are asked for again and again
_FIRST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.05


class Mode(StrEnum):
    """How a lock is held."""

    SHARED = "shared"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True, order=True)
class Rung:
    """One lock of a ladder; `path` is the lock file's, relative to the registry."""

    path: str
    mode: Mode

    def conflicts(self, other: "Rung") -> bool:
        """Tell whether the two cannot be held by different holders at once."""
        return self.path == other.path and Mode.EXCLUSIVE in {self.mode, other.mode}


Ladder = tuple[Rung, ...]


def unobserved(_seconds: float) -> None:
    """Do nothing: nobody counts the waiting."""


def _lock_of(place: Address, mode: Mode) -> Rung:
    return Rung(layout.in_place(place, layout.LOCK), mode)


def _lineage(place: Address) -> list[Address]:
    """List the directories that bear locks, from the root to the place; a version's is its asset's."""
    names = tuple(place)[:2]
    return [Address(*names[:depth]) for depth in range(len(names) + 1)]


@functools.lru_cache(_LADDERS_KEPT)
def reading_ladder(place: Address) -> Ladder:
    """Return shared locks down to the place: nothing in it will change."""
    return tuple(_lock_of(each, Mode.SHARED) for each in _lineage(place))


@functools.lru_cache(_LADDERS_KEPT)
def changing_ladder(place: Address) -> Ladder:
    """Return shared locks on the ancestors, exclusive at the place: anything below it may be changed."""
    *ancestors, target = _lineage(place)
    return (*(_lock_of(each, Mode.SHARED) for each in ancestors), _lock_of(target, Mode.EXCLUSIVE))


@functools.lru_cache(_LADDERS_KEPT)
def new_child_ladder(parent: Address) -> Ladder:
    """Return what to hold while a child appears in `parent`: shared down to it, NEWDIR exclusive there."""
    return (*reading_ladder(parent), Rung(layout.in_place(parent, layout.LOCK_NEWDIR), Mode.EXCLUSIVE))


def usage_rung(project: str) -> Rung:
    """Return the lock for read-modify-write of a project's `..usage`."""
    return Rung(layout.join(project, layout.LOCK_USAGE), Mode.EXCLUSIVE)


def holds_exclusively(rungs: Ladder, project: str) -> bool:
    """Tell whether nobody else can touch the project's `..usage`: it, all or the usage lock is ours."""
    paths = {rung.path for rung in rungs if rung.mode is Mode.EXCLUSIVE}
    return not paths.isdisjoint({layout.LOCK, layout.join(project, layout.LOCK), usage_rung(project).path})


class _Ticket:
    """One thread's place in the queue of a gate."""

    __slots__ = ("called", "holder", "mode")

    def __init__(self, mode: Mode, holder: str) -> None:
        self.mode = mode
        self.holder = holder
        self.called = threading.Event()


class _Gate:
    """One lock between the threads of this process: first come, first served."""

    __slots__ = ("holders", "queue")

    def __init__(self) -> None:
        self.holders: list[tuple[Mode, str]] = []
        self.queue: deque[_Ticket] = deque()

    def admits(self, mode: Mode) -> bool:
        return not self.holders or (
            mode is Mode.SHARED and all(held is Mode.SHARED for held, _ in self.holders)
        )

    def admit_next(self) -> None:
        """Let in those first in line who may be there together, and wake them alone."""
        while self.queue and self.admits(self.queue[0].mode):
            ticket = self.queue.popleft()
            self.holders.append((ticket.mode, ticket.holder))
            ticket.called.set()


class Held:
    """The locks of one climbed ladder, until `release`."""

    def __init__(self, table: "LockTable", holder: str) -> None:
        self._table = table
        self.holder = holder
        self._rungs: list[tuple[Rung, int]] = []  # with the descriptor that bears the flock

    @property
    def rungs(self) -> Ladder:
        """What is held, outermost first."""
        return tuple(rung for rung, _ in self._rungs)

    def add(self, rung: Rung, fd: int) -> None:
        """Take over a lock that was just acquired."""
        self._rungs.append((rung, fd))

    def release(self) -> None:
        """Let go of everything, innermost first."""
        while self._rungs:
            rung, fd = self._rungs.pop()
            os.close(fd)
            self._table.leave(rung, self.holder)


class LockTable:
    """All locks of one registry as this process sees them."""

    def __init__(
        self, root: str, timeout: Callable[[], float], waited: Callable[[float], None] = unobserved
    ) -> None:
        self._root = root
        self._timeout = timeout  # seconds
        self._waited = waited  # told how long each climb took
        self._gates: dict[str, _Gate] = {}
        self._lock = threading.Lock()
        self._stopping = False

    def stop(self) -> None:
        """Let everybody who waits give up with Stopped."""
        with self._lock:
            self._stopping = True
            for gate in self._gates.values():
                for ticket in gate.queue:
                    ticket.called.set()

    def climb(self, ladder: Sequence[Rung], holder: str, timeout: float | None = None) -> Held:
        """Take all locks of the ladder, in order; `holder` says in one phrase who we are.

        Raises Busy when the deadline (seconds) passes, FileNotFoundError where a directory of the ladder
        is not there, Fault where a lock file cannot be opened. A timeout of 0 tries once.
        """
        began = time.monotonic()
        deadline = began + (self._timeout() if timeout is None else timeout)
        pause = _FIRST_PAUSE
        while True:
            held = Held(self, holder)
            try:
                blocked = self._climb_once(ladder, held, holder, deadline)
            except BaseException:
                held.release()
                raise
            if blocked is None:
                self._waited(time.monotonic() - began)
                return held
            held.release()
            if self._stopping:
                raise Stopped
            if time.monotonic() >= deadline:
                raise self._gave_up(blocked, self._foreign_holder(blocked))
            with stepped_aside():
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter, no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    def extend(self, held: Held, rung: Rung) -> None:
        """Take one more lock on top of a climbed ladder, waiting in place.

        Only for `..LOCK_USAGE`, which everybody takes last and holds for a moment.
        """
        deadline = time.monotonic() + self._timeout()
        pause = _FIRST_PAUSE
        while self._climb_once((rung,), held, held.holder, deadline) is not None:
            if time.monotonic() >= deadline:
                raise self._gave_up(rung, self._foreign_holder(rung))
            with stepped_aside():
                time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def check(self, rung: Rung) -> None:
        """Raise Fault, or OSError, where the lock file could not be opened; it is not locked."""
        try:
            os.close(os.open(f"{self._root}/{rung.path}", _OPEN_LOCK, LOCK_FILE_MODE))
        except OSError as error:
            if error.errno in STANDING:
                raise _unlockable(rung, error) from error
            raise

    def seize(self, held: Held, place: Address, staged: str) -> None:
        """Lock a place that does not exist yet, by the lock file in its staged directory.

        Whoever sees the place appear then waits until all of the commit is applied.
        """
        rung = _lock_of(place, Mode.EXCLUSIVE)
        self._enter(rung, held.holder, time.monotonic() + self._timeout())
        try:
            fd = self._flocked(Rung(layout.LOCK, rung.mode), staged)
        except BaseException:
            self.leave(rung, held.holder)
            raise
        if fd is None:
            raise AssertionError("somebody holds a lock in a private directory")
        held.add(rung, fd)

    def _climb_once(self, ladder: Sequence[Rung], held: Held, holder: str, deadline: float) -> Rung | None:
        """Add each rung to `held`; return the one that another process holds, None when all are taken."""
        for rung in ladder:
            self._enter(rung, holder, deadline)
            try:
                fd = self._flocked(rung, self._root)
            except BaseException:
                self.leave(rung, holder)
                raise
            if fd is None:
                self.leave(rung, holder)
                return rung
            held.add(rung, fd)
        return None

    def _flocked(self, rung: Rung, root: str) -> int | None:
        operation = _EXCLUSIVE if rung.mode is Mode.EXCLUSIVE else _SHARED
        try:
            found = flocked(f"{root}/{rung.path}", _OPEN_LOCK, LOCK_FILE_MODE, operation)
        except OSError as error:
            if error.errno in STANDING:
                raise _unlockable(rung, error) from error
            raise
        if found is None:
            return None
        fd, mode = found
        if mode & 0o077:  # made by the Go service: see LOCK_FILE_MODE
            with contextlib.suppress(PermissionError):
                os.fchmod(fd, LOCK_FILE_MODE)
        return fd

    def _enter(self, rung: Rung, holder: str, deadline: float) -> None:
        with self._lock:
            gate = self._gates.get(rung.path)
            if gate is None:
                gate = self._gates[rung.path] = _Gate()
            if not gate.queue and gate.admits(rung.mode):
                gate.holders.append((rung.mode, holder))
                return
            ticket = _Ticket(rung.mode, holder)
            gate.queue.append(ticket)
            if self._stopping:
                ticket.called.set()
        with stepped_aside():
            ticket.called.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            if ticket not in gate.queue:
                return  # let in
            gate.queue.remove(ticket)
            holders = ", ".join(who for _, who in gate.holders) or "those before us"
            gate.admit_next()  # those behind us may go with those before us
            self._forget(rung, gate)
        raise Stopped if self._stopping else self._gave_up(rung, holders)

    def leave(self, rung: Rung, holder: str) -> None:
        """Give up one place at a gate (called by `Held`)."""
        with self._lock:
            gate = self._gates[rung.path]
            gate.holders.remove((rung.mode, holder))
            gate.admit_next()
            self._forget(rung, gate)

    def _forget(self, rung: Rung, gate: _Gate) -> None:
        if not gate.holders and not gate.queue:
            del self._gates[rung.path]

    def _gave_up(self, rung: Rung, by: str) -> Busy:
        place = rung.path.rpartition("/")[0] or Plain("the registry")
        return Busy(
            "{place} stayed locked by {by} until the deadline; nothing was done: drop a new request",
            place=place,
            by=Plain(escaped_line(by)),
        )

    def _foreign_holder(self, rung: Rung) -> str:
        with contextlib.suppress(OSError, ValueError):
            inode = os.stat(f"{self._root}/{rung.path}").st_ino
            for pid in _flock_holders(inode):
                return f"process {pid} on this machine"
        return "another daemon"


def _unlockable(rung: Rung, error: OSError) -> Fault:
    return Fault(
        "{path} cannot be locked: {why}; it is to be a regular file, and it and its directory are to belong "
        "to the registry's account, user {us}: chown them, or move away what is no such file",
        path=rung.path,
        why=Plain(error.strerror or error),
        us=os.geteuid(),
    )


def _flock_holders(inode: int) -> Iterator[int]:
    """Yield the processes of this machine that hold a flock on the inode, by /proc/locks."""
    with open("/proc/locks", encoding="ascii") as table:
        for line in table:
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
                yield int(fields[4])
