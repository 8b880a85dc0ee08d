"""Every mutating step of every action may fail instead of being the last: in one process, by an audit hook.

The sibling of tests/registry/test_crash_steps.py: the hook raises EIO, ENOSPC, EDQUOT or ESTALE at the n-th
change of the disk, once, or from then on until the storage is healed. Afterwards recovery runs as it does in a
daemon every two seconds, by the same process. Nothing may be half done: the registry is as before if the action
was refused, as after if it was committed.

Normal run: GOBBLERD_STEPS steps of each action (default 6), chosen by GOBBLERD_SEED; `-m long`: every step.
Each case runs in a forked child, since a hook cannot be taken away again.
"""

import errno
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from faults.scenes import SEED
from registry.test_crash_steps import ACTIONS, MUTATIONS, WRITING, Arena, sources, spoilt
from support.bench import Bench
from support.checker import audit

from gobblerd.domain.errors import GobblerdError
from gobblerd.domain.messages import Response
from gobblerd.registry.consume import consume_listed
from gobblerd.registry.record import Record
from gobblerd.registry.transaction import UnfinishedError

STEPS = int(os.environ.get("GOBBLERD_STEPS", "6"))
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE)


@dataclass
class Storage:
    """Fails at step `at` with `error`, once or for good; counts the steps while it is `armed`."""

    armed: bool = False
    at: int = 0
    error: int = 0
    for_good: bool = False
    seen: int = 0

    def arm(self, at: int, error: int, *, for_good: bool) -> None:
        """Begin to count."""
        self.at, self.error, self.for_good, self.seen, self.armed = at, error, for_good, 0, True

    def heal(self) -> bool:
        """Fail no more; tell whether it had come to the failure."""
        self.armed = False
        return self.seen >= self.at

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """See every change of the disk before it is made."""
        if not self.armed or not _is_change(event, arguments):
            return
        self.seen += 1
        if self.seen == self.at or (self.for_good and self.seen > self.at):
            raise OSError(self.error, os.strerror(self.error))


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return isinstance(arguments[2], int) and bool(arguments[2] & WRITING)
    return event in MUTATIONS


def perform(bench: Bench, action: str, fields: dict[str, Any]) -> str:
    """Do one action as a daemon does; return what becomes of it."""
    try:
        bench.run(action, **fields)
    except UnfinishedError:
        return "unfinished"
    except (OSError, GobblerdError):
        return "refused"
    return "done"


def mend(bench: Bench) -> list[Response]:
    """Recover as the daemon does from time to time, in the same process."""
    delivered: list[Response] = []

    def consume(record: Record) -> None:
        assert record.consume is not None
        listing = f"{bench.root}/..transactions/{record.id}/{record.consume.slot}"
        consume_listed(bench.staging_fd, record.consume.source, record.consume.inode, listing)

    assert bench.registry.recovery.mend(delivered.append, consume) == 0
    return delivered


class Trial:
    """One action, and what its registry and sources look like before and after."""

    def __init__(self, arena: Arena, case: str) -> None:
        """Do it once undisturbed."""
        self.fresh = lambda: spoilt(arena, case)
        self.action, self.fields = ACTIONS[case]
        bench = self.fresh()
        self.before, self.sources_before = bench.snapshot(), sources(bench)
        self.flaws = audit(str(bench.root))  # of what a refresh is to mend
        bench.run(self.action, **self.fields)
        self.after, self.sources_after = bench.snapshot(), sources(bench)
        bench.close()
        assert self.before != self.after or case == "reindex", "nothing to do, nothing to fail"

    def fail(self, storage: Storage, at: int, error: int, *, for_good: bool) -> str:
        """Do it while the storage fails at a step, and check; return what became of it, "" if past its end."""
        bench = self.fresh()
        storage.arm(at, error, for_good=for_good)
        ended = perform(bench, self.action, self.fields)
        reached = storage.heal()
        said = f"step {at}, {errno.errorcode[error]}, {'for good' if for_good else 'once'}: {ended}"
        delivered = mend(bench)
        committed = ended in {"done", "unfinished"}
        assert not (ended == "refused" and delivered), f"{said}, but delivered {delivered}"
        assert ended != "unfinished" or [r.code for r in delivered] == [200], f"{said}, delivered {delivered}"
        found, expected = bench.snapshot(), self.after if committed else self.before
        if for_good:  # the probe is taken away by the next request or start
            found = {path: content for path, content in found.items() if "..probe-" not in path}
        assert found == expected, f"{said}: {set(found.items()) ^ set(expected.items())}"
        left = sources(bench)
        whole = self.sources_before if not committed or not self.fields.get("consume") else self.sources_after
        assert left == whole or (committed and left <= self.sources_before), f"{said}: {left ^ whole}"
        bench.registry.close(None)
        again = bench.open_registry()  # what could not be removed is removed at the next start
        again.clean_up()
        again.close(None)
        os.close(bench.staging_fd)
        assert audit(str(bench.root)) == ([] if committed else self.flaws), said
        assert bench.snapshot() == expected, said
        return ended if reached else ""


def in_child(work: Callable[[], str]) -> str:
    """Run `work` in a forked child and return its text; what fails there fails here."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = work()
        except BaseException:  # noqa: BLE001 - told to the parent, as text
            text = f"FAILED {traceback.format_exc()}"
        os.write(writer, text.encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    assert said, "the child died"
    assert not said.startswith("FAILED"), said
    return said


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    return Arena(tmp_path)


def some_steps(arena: Arena, case: str) -> str:
    storage = Storage()
    sys.addaudithook(storage.hook)
    trial = Trial(arena, case)
    storage_steps = count_steps(trial, storage)
    choice = random.Random(f"{SEED} {case}")
    ends = [
        trial.fail(storage, at, choice.choice(ERRORS), for_good=bool(number % 2))
        for number, at in enumerate(choice.sample(range(1, storage_steps + 1), min(STEPS, storage_steps)))
    ]
    return f"{case}: {len(ends)} faults at {storage_steps} steps: {', '.join(ends)}"


def count_steps(trial: Trial, storage: Storage) -> int:
    bench = trial.fresh()
    storage.arm(1_000_000, errno.EIO, for_good=False)
    bench.run(trial.action, **trial.fields)
    storage.heal()
    bench.close()
    return storage.seen


def every_step(arena: Arena, case: str) -> str:
    storage = Storage()
    sys.addaudithook(storage.hook)
    trial = Trial(arena, case)
    ends: list[str] = []
    for error in ERRORS:
        for for_good in (False, True):
            at = 1
            while end := trial.fail(storage, at, error, for_good=for_good):
                ends.append(end)
                at += 1
    counts = {end: ends.count(end) for end in sorted(set(ends))}
    assert len(counts) > 1
    return f"COUNT {case}: {len(ends)} faults: {counts}"


@pytest.mark.parametrize("case", ACTIONS)
def test_a_failing_step_leaves_before_or_after(case: str, arena: Arena) -> None:
    """All or nothing, whatever step fails, once or until the storage is healed."""
    print(in_child(lambda: some_steps(arena, case)))  # noqa: T201 - shown beside a failure


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("case", ACTIONS)
def test_any_failing_step_leaves_before_or_after(case: str, arena: Arena) -> None:
    """The same for every step and every error."""
    print(in_child(lambda: every_step(arena, case)))  # noqa: T201 - counts for docs/reliability.md
