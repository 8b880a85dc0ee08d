"""A transaction happens as a whole, or not at all; after its commit there is no failure, only delay."""

import dataclasses
import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.domain.errors import Busy, Fault
from gobblerd.domain.messages import Outcome, Response
from gobblerd.domain.names import Address
from gobblerd.registry import apply
from gobblerd.registry.record import Record, read_record
from gobblerd.registry.transaction import Origin, UnfinishedError
from gobblerd.storage import files, native
from gobblerd.storage.files import Durability


@pytest.fixture(autouse=True)
def filled(bench: Bench) -> None:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"12"})
    bench.upload("p/a/2", {"f": b"345"})
    bench.run("create_project", project="q")


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, path: str, *, times: int = 10**9) -> Iterator[None]:
    """Let renames from or to a path that ends so fail with EIO, the first so many times."""
    real, left = os.rename, [times]

    def rename(source: str, target: str, **rest: Any) -> None:
        if left[0] and (str(source).endswith(path) or str(target).endswith(path)):
            left[0] -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", rename)
        yield


def mend(bench: Bench) -> list[Response]:
    delivered: list[Response] = []
    assert bench.registry.recovery.mend(delivered.append, lambda _: None) == 0
    return delivered


def transactions(bench: Bench, folder: str = "") -> list[str]:
    folders = {"committed", "applied", "state", "aside"}
    return sorted(set(os.listdir(bench.root / "..transactions" / folder)) - folders)


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


ACTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "delete_version": ("delete_version", {"project": "p", "asset": "a", "version": "2"}, "p/a/2"),
    "delete_asset": ("delete_asset", {"project": "p", "asset": "a"}, "p/a"),
    "delete_project": ("delete_project", {"project": "p"}, "/registry/p"),
    "set_permissions": (
        "set_permissions",
        {"project": "p", "permissions": {"owners": ["x"]}},
        "p/..permissions",
    ),
    "usage": ("delete_version", {"project": "p", "asset": "a", "version": "2"}, "p/..usage"),
    "latest": ("delete_version", {"project": "p", "asset": "a", "version": "2"}, "p/a/..latest"),
    "applied": ("set_quota", {"project": "p", "baseline": 7}, "applied/ID"),
}


# ---- before the commit


@pytest.mark.parametrize("case", [*ACTIONS, "upload"])
def test_what_a_commit_writes_has_its_space_before(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """A disk that is full from the commit on: all is written by then, usage and latest too; only names move."""
    action, fields, _ = ACTIONS.get(case, ("", {}, ""))
    real = apply.write_opened

    def write(path: str, *rest: Any, **more: Any) -> int:
        if transactions(bench, "committed"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest, **more)

    monkeypatch.setattr(apply, "write_opened", write)
    if action:
        bench.run(action, **fields)
    else:
        bench.upload("p/b/1", {"f": b"new"})
        assert read(bench, "p/..usage") == {"total": 8}
    assert transactions(bench, "committed") == transactions(bench, "applied") == []
    assert_clean(str(bench.root))


@pytest.mark.parametrize("case", ACTIONS)
def test_a_failing_commit_changes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """An error of the storage at the commit point: as before, nothing left over, nothing to deliver."""
    action, fields, _ = ACTIONS[case]
    before = bench.snapshot()
    real = os.rename

    def rename(source: str, target: str, **rest: Any) -> None:
        if "/committed/" in str(target):
            raise OSError(errno.ENOSPC, "full")
        real(source, target, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", rename)
        with pytest.raises(OSError, match="full"):
            bench.run(action, **fields)
    assert bench.snapshot() == before
    assert transactions(bench) == transactions(bench, "committed") == []
    assert mend(bench) == []
    bench.run(action, **fields)
    assert_clean(str(bench.root))


def test_what_was_only_staged_is_discarded(bench: Bench) -> None:
    """Whatever ends the block before the commit."""

    def stage_and_fail() -> None:
        with bench.registry.transaction(bench.origin("x")) as transaction:
            transaction.put("p/..permissions", b"new")
            transaction.put_symlink("p/link", "nowhere")
            assert transactions(bench) == [transaction.id]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        stage_and_fail()
    assert transactions(bench) == []
    assert_clean(str(bench.root))


def test_nothing_is_made_for_nothing(bench: Bench) -> None:
    """A transaction without a plan leaves no directory behind."""
    with bench.registry.transaction(bench.origin("x")):
        assert transactions(bench) == []


def test_a_rename_that_cannot_reach_the_project(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """EXDEV (project quotas, filesets) is learnt before the commit: a Fault with that reason."""
    registry = bench.open_registry()
    real = os.rename

    def rename(source: str, target: str, **rest: Any) -> None:
        if "..probe" in str(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(source, target, **rest)

    before = bench.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        bench.registry, old = registry, bench.registry
        with pytest.raises(Fault, match="cross-device"):
            bench.run("set_quota", project="p", baseline=1)
    assert bench.snapshot() == before
    bench.run("set_quota", project="p", baseline=1)
    old.close(None)
    assert_clean(str(bench.root))


# ---- after it


@pytest.mark.parametrize("case", ACTIONS)
def test_a_step_that_fails_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Told as unfinished; recovery finishes it and delivers the success that was recorded."""
    action, fields, path = ACTIONS[case]
    expected = expectation(bench, action, fields)
    with failing(monkeypatch, path, times=1) if path != "applied/ID" else failing_apply(monkeypatch):
        with pytest.raises(UnfinishedError, match="Input/output"):
            bench.run(action, **fields)
        assert len(transactions(bench, "committed")) == 1
    delivered = mend(bench)
    assert [(r.code, r.action) for r in delivered] == [(200, action)]
    assert bench.snapshot() == expected
    assert mend(bench) == []
    assert_clean(str(bench.root))


@contextmanager
def failing_apply(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = os.rename
    left = [1]

    def rename(source: str, target: str, **rest: Any) -> None:
        if left[0] and "/applied/" in str(target):
            left[0] = 0
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", rename)
        yield


def expectation(bench: Bench, action: str, fields: dict[str, Any]) -> dict[str, str]:
    """Return what the registry looks like after the action, as tried on a copy."""
    import shutil

    copy = bench.base / "copy"
    shutil.copytree(bench.base / "registry", copy / "registry", symlinks=True)
    other = Bench(copy)
    other.run(action, **fields)
    found = other.snapshot()
    other.close()
    return found


def test_the_next_who_takes_the_locks_finishes_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes the same place next finds it done; the response is still delivered, once."""
    with failing(monkeypatch, "p/a/2", times=1), pytest.raises(UnfinishedError):
        bench.run("delete_version", project="p", asset="a", version="2")
    assert (bench.root / "p/a/2").exists()
    bench.upload("p/a/3", {"f": b"345"})
    assert not (bench.root / "p/a/2").exists()
    assert "link" not in read(bench, "p/a/3/..manifest")["f"]
    assert [r.action for r in mend(bench)] == ["delete_version"]
    assert_clean(str(bench.root))


def test_a_step_that_fails_for_good(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its places answer 503, others do not notice; when the storage is well again it is finished."""
    with failing(monkeypatch, "p/a/2"):
        with pytest.raises(UnfinishedError):
            bench.run("delete_version", project="p", asset="a", version="2")
        for action, fields in (
            ("delete_version", {"project": "p", "asset": "a", "version": "1"}),
            ("refresh_latest", {"project": "p", "asset": "a"}),
            ("refresh_usage", {"project": "p"}),
            ("delete_asset", {"project": "p", "asset": "a"}),
        ):
            with pytest.raises(Busy, match="cannot be finished yet"):
                bench.run(action, **fields)
        bench.run("set_quota", project="q", baseline=1)
        bench.upload("q/a/1", {"f": b"1"})
        delivered: list[Response] = []
        assert bench.registry.recovery.mend(delivered.append, lambda _: None) == 1
        assert delivered == []
    assert [r.code for r in mend(bench)] == [200]
    assert read(bench, "p/..usage") == {"total": 2}
    assert read(bench, "p/a/..latest") == {"version": "1"}
    assert_clean(str(bench.root))


def test_an_upload_whose_tree_cannot_be_installed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is visible until it is; `consume` is done by recovery then, not before."""
    consumed: list[Record] = []
    with failing(monkeypatch, "p/a/3"), pytest.raises(UnfinishedError):
        bench.upload("p/a/3", {"g": b"6789"}, consume=True)
    assert not (bench.root / "p/a/3").exists()
    assert read(bench, "p/..usage") == {"total": 5}
    assert (bench.staging / "up-p-a-3" / "g").exists()
    assert bench.registry.recovery.mend(lambda _: None, consumed.append) == 0
    assert [(r.consume.source if r.consume else "") for r in consumed] == ["up-p-a-3"]
    assert read(bench, "p/..usage") == {"total": 9}
    assert_clean(str(bench.root))


# ---- durable before anybody is told, and without the locks


@pytest.fixture
def synced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Note at each sync of a record whether its place was locked: where one journal is in order it is not."""
    seen: list[bool] = []

    def note(_: int) -> None:
        seen.append(bool(bench.registry.locks._gates))

    monkeypatch.setattr("gobblerd.registry.transaction.sync", note)
    return seen


def test_the_sync_that_makes_a_change_durable_holds_no_lock(bench: Bench, synced: list[bool]) -> None:
    """So those who change one place after the other share it."""
    bench.registry.disk = dataclasses.replace(bench.registry.disk, ordered=True)
    bench.run("set_quota", project="p", baseline=7)
    assert synced == [False]


def test_nobody_is_told_of_a_change_whose_sync_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left to recovery, which answers once all of it is durable; not synced twice to look well."""
    bench.registry.disk = dataclasses.replace(bench.registry.disk, ordered=True)
    calls: list[int] = []

    def fail(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr("gobblerd.registry.transaction.sync", fail)
        with pytest.raises(UnfinishedError, match="broken"):
            bench.run("set_permissions", project="p", permissions={"owners": ["x"]})
    assert len(calls) == 1
    assert not os.path.exists(f"/proc/self/fd/{calls[0]}")
    assert [response.code for response in mend(bench)] == [200]
    assert read(bench, "p/..permissions")["owners"] == ["x"]
    assert_clean(str(bench.root))


def test_a_source_is_consumed_only_when_its_copy_is_durable(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it is the only copy that survives a power cut."""
    bench.registry.disk = dataclasses.replace(bench.registry.disk, ordered=True)
    there: list[bool] = []
    source = bench.staging / "up-p-a-3" / "g"
    monkeypatch.setattr("gobblerd.registry.transaction.sync", lambda _: there.append(source.exists()))
    bench.upload("p/a/3", {"g": b"6"}, consume=True)
    assert there == [True]
    assert not source.exists()


# ---- documents that are prepared together


def test_a_thousand_documents_take_few_descriptors(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many directories with links may be reindexed at once."""
    bench.registry.disk = dataclasses.replace(bench.registry.disk, ordered=True)
    settled: list[int] = []
    monkeypatch.setattr("gobblerd.storage.sync.write_back", lambda fds: settled.append(len(fds)))
    paths = [f"p/a/1/..note-{number}" for number in range(1000)]
    with (
        bench.registry.transaction(bench.origin("x")) as tx,
        bench.registry.changing(Address("p", "a"), tx) as asset,
    ):
        for path in paths:
            tx.put(path, path.encode())
        asset.commit(Outcome())
    assert sum(settled) >= len(paths)
    assert max(settled) < 100
    assert all((bench.root / path).read_bytes() == path.encode() for path in paths)


def test_a_document_that_is_written_twice_leaves_nothing(bench: Bench) -> None:
    """The last one counts, also if it is empty; no temporary file stays behind."""
    with (
        bench.registry.transaction(bench.origin("x")) as tx,
        bench.registry.changing(Address("p"), tx) as project,
    ):
        for path, data in (("p/..note", b"1"), ("p/..note", b"22"), ("p/..empty", b"")):
            tx.put(path, data)
        project.commit(Outcome())
    assert (bench.root / "p/..note").read_bytes() == b"22"
    assert (bench.root / "p/..empty").read_bytes() == b""
    assert transactions(bench) == []


def test_a_document_that_cannot_be_written_leaves_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No space for its bytes: as before, no half-written file among the transactions."""
    before, real = bench.snapshot(), os.write

    def write(fd: int, data: bytes) -> int:
        if b"nobody-else" in bytes(data) and b"gobblerd-transaction" not in bytes(data):
            raise OSError(errno.ENOSPC, "full")
        return real(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(native, "SINGLE", None)  # whose writing is not to be had from here
        patch.setattr(files.os, "write", write)
        with pytest.raises(OSError, match="full"):
            bench.run("set_permissions", project="p", permissions={"owners": ["nobody-else"]})
    assert bench.snapshot() == before
    assert transactions(bench) == transactions(bench, "committed") == []


# ---- what is recorded


def test_the_record(bench: Bench) -> None:
    """Steps, events, locks and the response; it waits in `applied` until the response is durable."""
    origin = bench.origin("delete_version")
    context = Address("p", "a")
    with (
        bench.registry.transaction(origin) as transaction,
        bench.registry.changing(context, transaction) as asset,
    ):
        asset.remove(Address("p", "a", "2"))
        asset.point_latest(None)
        transaction.add_usage("p", -3)
        asset.commit(Outcome({"x": 1}))
    [name] = transactions(bench, "applied")
    assert re.fullmatch(r"0123456789abcdef-[0-9a-f]{16}", name)
    record = read_record(str(bench.root / "..transactions/applied" / name))
    assert record is not None
    assert (record.id, record.staging) == (name, "0123456789abcdef")
    assert [(step.kind, step.path) for step in record.steps] == [("remove", "p/a/2")]
    assert (record.usage, record.latest) == (["p"], [("p", "a")])
    assert record.response is not None
    assert record.response["x"] == 1
    assert [path for path, _ in record.locks] == ["..LOCK", "p/..LOCK", "p/a/..LOCK"]
    assert transactions(bench, "committed") == []
    bench.registry.finish(origin)
    assert transactions(bench, "applied") == []


def test_an_answer_that_is_not_durable_is_left_to_recovery(bench: Bench) -> None:
    """`leave` keeps the record, and recovery delivers what it holds."""
    bench.run("set_quota", project="p", baseline=7, finish=False)
    assert mend(bench) == []  # still ours
    origin = bench.origin("refresh_usage")
    with bench.registry.transaction(origin) as tx, bench.registry.changing(Address("q"), tx) as project:
        tx.set_usage("q", 0)
        project.commit(Outcome({"total": 0}))
    bench.registry.leave(origin)
    assert [r.body for r in mend(bench)] == [{"status": "SUCCESS", "total": 0}]


def test_jobs_that_nobody_waits_for(bench: Bench) -> None:
    """No response, but the same transaction."""
    origin = Origin()
    with bench.registry.transaction(origin) as tx, bench.registry.changing(Address("p"), tx) as project:
        tx.set_usage("p", 5)
        project.commit(Outcome())
    assert origin.response is None
    assert transactions(bench, "applied")[0].startswith("jobs-")
    bench.registry.finish(origin)
    assert_clean(str(bench.root))


def test_events_have_names_of_their_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole seconds and six digits; a name that is taken is not overwritten."""
    import secrets

    numbers = iter([5, 5, 5, 6, 7, 8])
    monkeypatch.setattr(secrets, "randbelow", lambda _: next(numbers))
    monkeypatch.setattr(type(bench.registry.clock), "now", lambda _: 1_700_000_000_000_000_000)
    for path in (bench.root / "..logs").iterdir():
        path.unlink()
    bench.run("delete_version", project="p", asset="a", version="1")
    bench.run("delete_version", project="p", asset="a", version="2")
    names = sorted(os.listdir(bench.root / "..logs"))
    assert names == ["2023-11-14T22:13:20Z_100005", "2023-11-14T22:13:20Z_100006"]
    assert {read(bench, f"..logs/{name}")["version"] for name in names} == {"1", "2"}


@pytest.mark.parametrize("durability", Durability)
def test_both_durabilities_do_the_same(tmp_path: Path, durability: Durability) -> None:
    """`process` leaves out the syncs only."""
    (tmp_path / "b").mkdir()
    bench = Bench(tmp_path / "b", durability=durability)
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1", "e": None, "l": ("link", "f")})
    bench.upload("p/a/2", {"f": b"1"})
    bench.run("delete_version", project="p", asset="a", version="1")
    found = bench.snapshot()
    bench.close()
    assert "p/a/2/f" in found
    assert "p/a/1" not in found


def test_transactions_are_nobody_else_s(bench: Bench) -> None:
    """0700, all of it."""
    for path in (bench.root / "..transactions", *(bench.root / "..transactions").iterdir()):
        assert path.stat().st_mode & 0o777 == 0o700


def test_a_response_is_settled_with_the_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written beforehand costs no sync of its own, and its descriptor is closed; failing is no error."""
    settled: list[int] = []
    monkeypatch.setattr(type(bench.registry.disk), "settle_all", lambda _, fds: settled.append(len(fds)))
    asked: list[int] = []

    def prepare(response: Response) -> int | None:
        asked.append(response.code)
        if len(asked) == 1:
            return os.open(bench.staging / "prepared", os.O_WRONLY | os.O_CREAT)
        raise OSError(errno.ENOSPC, "full")

    before = len(os.listdir("/proc/self/fd"))
    for number, together in ((1, 3), (2, 2)):
        origin = bench.origin("x")
        origin = Origin(origin.staging, origin._respond, prepare)
        with (
            bench.registry.transaction(origin) as tx,
            bench.registry.changing(Address("p"), tx) as project,
        ):
            tx.put("p/..note", str(number).encode())
            project.commit(Outcome())
        bench.registry.finish(origin)
        assert settled == [together]
        settled.clear()
    assert asked == [200, 200]
    assert (bench.root / "p/..note").read_bytes() == b"2"
    assert len(os.listdir("/proc/self/fd")) == before
