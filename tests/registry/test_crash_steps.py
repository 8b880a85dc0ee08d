"""Every mutating step of every action is a moment at which the daemon may be killed.

A forked child performs the action and kills itself before its n-th change of the disk (seen by an audit
hook); the parent then starts as a daemon would. The registry must be as before or as after, whichever the
delivered response says, and nothing may be left over. Recovery is killed at each of its steps too.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.bench import STAGING_ID, Bench
from support.checker import audit
from support.packing import packed

from gobblerd.domain.messages import Response
from gobblerd.registry.consume import consume_listed
from gobblerd.registry.record import Record
from gobblerd.registry.recovery_report import recover_all
from gobblerd.service.config import Config
from gobblerd.service.jobs import Jobs
from gobblerd.staging.settings import PurgeAges
from gobblerd.staging.status import PurgeCounts

MUTATIONS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def die_before(step: int) -> None:
    """Kill this process before its `step`-th change of the disk."""
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event in MUTATIONS or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
        ):
            seen += 1
            if seen == step:
                os._exit(9)

    sys.addaudithook(hook)


def in_child(work: Callable[[], Any], step: int) -> bool:
    """Do `work` in a forked child that dies before its `step`-th change; tell whether it got to the end."""
    child = os.fork()
    if child == 0:
        code = 3
        try:
            die_before(step)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, 9}, "the child failed by itself"
    return code == 0


def start_again(bench: Bench) -> list[Response]:
    """Do what a daemon does at its start; return the responses that it delivers."""
    delivered: list[Response] = []

    def consume(record: Record) -> None:
        assert record.consume is not None
        listing = f"{bench.root}/..transactions/{record.id}/{record.consume.slot}"
        consume_listed(bench.staging_fd, record.consume.source, record.consume.inode, listing)

    registry = bench.open_registry()
    registry.clean_up()
    assert registry.recovery.mend(delivered.append, consume) == 0
    registry.close()
    return delivered


FILES: dict[str, Any] = {
    "a": b"alpha",
    "d/b": b"beta",
    "d/empty": None,
    "link": ("link", "d/b"),
    "big": b"x" * 70_000,
}


def prepare(bench: Bench) -> None:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", FILES)
    bench.upload("p/a/2", {**FILES, "new": b"new"})
    bench.upload("p/a/3", {"three": b"three"}, on_probation=True)
    bench.upload("p/b/1", {"l": ("link", str(bench.root / "p/a/1/a")), "own": b"own"})
    bench.source("next", {**FILES, "more": b"more"})
    (bench.staging / "next.tar").write_bytes(packed({**FILES, "more": b"more", "larger": b"y" * 1_500_000}))


ACTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "create_project": ("create_project", {"project": "q"}),
    "upload": ("upload", {"project": "p", "asset": "a", "version": "4", "source": "next"}),
    "upload to a new asset": ("upload", {"project": "p", "asset": "c", "version": "1", "source": "next"}),
    "upload and consume": (
        "upload",
        {"project": "p", "asset": "a", "version": "4", "source": "next", "consume": True},
    ),
    "upload of an archive": (
        "upload",
        {"project": "p", "asset": "a", "version": "4", "source": "next.tar", "consume": True},
    ),
    "set_permissions": ("set_permissions", {"project": "p", "permissions": {"owners": ["x"]}}),
    "asset permissions": (
        "set_permissions",
        {"project": "p", "asset": "z", "permissions": {"owners": ["x"]}},
    ),
    "approve": ("approve_probation", {"project": "p", "asset": "a", "version": "3"}),
    "reject": ("reject_probation", {"project": "p", "asset": "a", "version": "3"}),
    "delete_version": ("delete_version", {"project": "p", "asset": "a", "version": "2"}),
    "delete_asset": ("delete_asset", {"project": "p", "asset": "b"}),
    "delete_project": ("delete_project", {"project": "p"}),
    "refresh_usage": ("refresh_usage", {"project": "p"}),
    "refresh_latest": ("refresh_latest", {"project": "p", "asset": "b"}),
    "set_quota": ("set_quota", {"project": "p", "baseline": 7}),
    "reroute": ("reroute_links", {"to_delete": [{"project": "p", "asset": "a"}]}),
    "reindex": ("reindex_version", {"project": "p", "asset": "b", "version": "1"}),
}


class Arena:
    """A prepared registry that can be had afresh, as often as needed."""

    def __init__(self, base: Path) -> None:
        self._template = base / "template"
        self._template.mkdir()
        self._base = base / "bench"
        self._base.mkdir()
        first = Bench(self._base)
        prepare(first)
        first.close()
        shutil.rmtree(self._template)
        shutil.copytree(self._base, self._template, symlinks=True)

    def fresh(self) -> Bench:
        shutil.rmtree(self._base)
        shutil.copytree(self._template, self._base, symlinks=True)
        return Bench(self._base)


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    return Arena(tmp_path)


def sources(bench: Bench) -> set[str]:
    return {str(path.relative_to(bench.staging)) for path in bench.staging.rglob("*") if path.is_file()}


def check(
    bench: Bench,
    before: dict[str, str],
    after: dict[str, str],
    delivered: list[Response],
    flaws: Sequence[str] = (),
) -> None:
    """Fail unless the registry is as after what was delivered, else as before, which had these flaws."""
    found = bench.snapshot()
    if delivered:
        assert [r.code for r in delivered] == [200]
        assert found == after
    else:
        assert found in (before, after), set(found.items()) ^ set(before.items())
    assert audit(str(bench.root)) == (list(flaws) if found == before else [])


@pytest.mark.parametrize("case", ACTIONS)
def test_a_kill_at_any_step_leaves_before_or_after(case: str, arena: Arena) -> None:
    """All or nothing, one truthful response, nothing left over; source intact unless consumed by a success."""
    action, fields = ACTIONS[case]
    bench = spoilt(arena, case)
    before, sources_before, flaws = bench.snapshot(), sources(bench), audit(str(bench.root))
    bench.run(action, **fields)
    after, sources_after = bench.snapshot(), sources(bench)
    bench.close()
    answered_by_recovery = 0
    for step in range(1, 1000):
        bench = spoilt(arena, case)
        finished = in_child(lambda bench=bench: bench.run(action, finish=False, **fields), step)
        delivered = start_again(bench)
        check(bench, before, after, delivered, flaws)
        answered_by_recovery += bool(delivered)
        if not delivered:
            assert sources(bench) == sources_before
            assert bench.snapshot() == before
        elif fields.get("consume"):
            assert sources(bench) == sources_after
        bench.close()
        if finished:
            break
    else:
        pytest.fail("the action never came to its end")
    assert answered_by_recovery >= 1  # kills between commit and answer were among them
    assert step > 5


@pytest.mark.parametrize(
    "case", ["upload and consume", "upload to a new asset", "delete_version", "reroute", "approve"]
)
def test_recovery_survives_a_kill_at_any_of_its_steps(case: str, arena: Arena) -> None:
    """A crash during recovery is recovered from; the last kill before `applied` leaves most to be done."""
    action, fields = ACTIONS[case]
    bench = arena.fresh()
    before = bench.snapshot()
    bench.run(action, **fields)
    after = bench.snapshot()
    bench.close()
    crash = first_committed_step(arena, action, fields)
    for step in range(1, 1000):
        bench = arena.fresh()
        in_child(lambda bench=bench: bench.run(action, finish=False, **fields), crash)
        assert os.listdir(bench.root / "..transactions/committed")
        finished = in_child(lambda bench=bench: start_again(bench), step)
        delivered = start_again(bench)
        check(bench, before, after, delivered)
        assert bench.snapshot() == after
        bench.close()
        if finished:
            break
    assert step > 3


def first_committed_step(arena: Arena, action: str, fields: dict[str, Any]) -> int:
    for step in range(1, 1000):
        bench = arena.fresh()
        in_child(lambda bench=bench: bench.run(action, finish=False, **fields), step)
        committed = os.listdir(bench.root / "..transactions/committed")
        bench.close()
        if committed:
            return step
    raise AssertionError("never committed")


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b'{"format": ' + b" " * 4085, b"{" + b"\0" * 5000])
def test_a_torn_record_is_put_aside(arena: Arena, content: bytes) -> None:
    """What a power cut at durability "process" may leave must not close the registry for ever."""
    bench = arena.fresh()
    torn = bench.root / "..transactions" / "committed" / "0000000000000000-torn"
    torn.write_bytes(content)
    bench.run("set_quota", project="p", baseline=7)
    assert not torn.exists()
    assert (bench.root / "..transactions/aside/0000000000000000-torn.empty").read_bytes() == content
    bench.close()


def spoil(bench: Bench, job: str) -> None:
    """Make work for one scheduled job."""
    if job == "refresh_usage":
        (bench.root / "p/..usage").write_text('{"total": 1}')
    elif job == "refresh_latest":
        (bench.root / "p/b/..latest").unlink()
    else:
        path = bench.root / "p/a/3/..summary"
        old = {**json.loads(path.read_bytes()), "upload_finish": "2020-01-01T00:00:00Z"}
        path.write_text(json.dumps(old))


def spoilt(arena: Arena, case: str) -> Bench:
    """Return a fresh bench on which the case has something to do: a refresh that finds all right writes nothing."""
    bench = arena.fresh()
    if case in {"refresh_usage", "refresh_latest"}:
        spoil(bench, case)
    return bench


def jobs_of(bench: Bench) -> Jobs:
    config = Config(staging=str(bench.staging), registry=str(bench.root), probation_days=1.0)
    unused: Any = None  # staging and spool are for purge only
    return Jobs(bench.registry, unused, unused, lambda: config)


@pytest.mark.parametrize("name", ["refresh_usage", "refresh_latest", "expire_probation"])
def test_a_kill_at_any_step_of_a_scheduled_job(name: str, arena: Arena) -> None:
    """The next run does what is left; nothing is half done in between, and nobody is answered."""
    bench = arena.fresh()
    spoil(bench, name)
    before = bench.snapshot()
    getattr(jobs_of(bench), name)()
    after = bench.snapshot()
    bench.close()
    assert before != after
    for step in range(1, 1000):
        bench = arena.fresh()
        spoil(bench, name)
        finished = in_child(lambda bench=bench: getattr(jobs_of(bench), name)(), step)
        assert start_again(bench) == []
        assert bench.snapshot() in (before, after)
        getattr(jobs_of(bench), name)()
        assert bench.snapshot() == after
        bench.close()
        if finished:
            break
    assert step > 5


_TICKS = 0.03  # seconds; the times of files are no finer than the kernel's ticks, of 10 ms at the most


class NoSpool:
    """A staging room in which nothing is old."""

    def purge(self, now: int, ages: PurgeAges, is_archive: object) -> PurgeCounts:
        return PurgeCounts()


def leave_old_things(bench: Bench) -> None:
    """An event, uncommitted work of another daemon, and an upload that was set aside."""
    event = bench.root / "..logs/2020-01-01T00:00:00Z_123456"
    event.write_text('{"type": "delete-project", "project": "x"}')
    os.utime(event, (1, 1))
    for path in ("fedcba9876543210-0011/1/d/f", "aside/fedcba9876543210-0022/1/f"):
        place = bench.root / "..transactions" / path
        place.parent.mkdir(parents=True)
        place.write_text("x")


def purge(bench: Bench) -> dict[str, Any]:
    config = Config(
        staging=str(bench.staging),
        registry=str(bench.root),
        purge_transactions_days=1e-9,
        purge_aside_days=1e-9,
    )
    staging: Any = SimpleNamespace(clock=bench.registry.clock)
    spool: Any = NoSpool()
    time.sleep(_TICKS)  # what was touched just now is old then
    return dict(Jobs(bench.registry, staging, spool, lambda: config).purge().facts)


def test_a_kill_at_any_step_of_forgetting(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change stays, and asked again, `gobblerd recover --gone` forgets the rest."""
    monkeypatch.setattr("gobblerd.registry.recovery_report._ALIVE_SECONDS", 0.0)
    for step in range(1, 1000):
        bench = arena.fresh()
        bench.run("delete_version", project="p", asset="a", version="2", finish=False)  # a record, and a tree
        after = bench.snapshot()

        def forget(bench: Bench = bench) -> set[str]:
            return {each.done for each in recover_all(str(bench.root), dry_run=False, gone=STAGING_ID)}

        finished = in_child(forget, step)
        assert forget() <= {"forgotten", "discarded"}
        assert bench.snapshot() == after
        assert [n for n in os.listdir(bench.root / "..transactions") if n.startswith(STAGING_ID)] == []
        assert start_again(bench) == []
        assert audit(str(bench.root)) == []
        bench.close()
        if finished:
            break
    assert step > 3


def test_a_kill_at_any_step_of_a_purge(arena: Arena) -> None:
    """The next one removes what is left; what is not old is not touched, and the registry audits clean."""
    bench = arena.fresh()
    before = bench.snapshot()
    bench.close()
    for step in range(1, 1000):
        bench = arena.fresh()
        leave_old_things(bench)
        finished = in_child(lambda bench=bench: purge(bench), step)
        facts = purge(bench)
        assert facts["failed"] == 0
        assert facts["events"] in ((0,) if finished else (0, 1))
        assert not [n for n in os.listdir(bench.root / "..transactions") if n.startswith("fedc")]
        assert os.listdir(bench.root / "..transactions/aside") == []
        assert bench.snapshot() == before
        assert start_again(bench) == []
        assert audit(str(bench.root)) == []
        bench.close()
        if finished:
            break
    assert step > 5
