"""Recovery: a dead daemon's committed work is finished by whoever comes next, and answered by its own."""

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from support.bench import ADMIN, STAGING_ID, Bench
from support.checker import assert_clean
from support.obstacles import immutable

from gobblerd.actions.action import Context
from gobblerd.domain.errors import Busy, Fault
from gobblerd.domain.messages import Response
from gobblerd.domain.names import Address
from gobblerd.domain.permissions import Caller
from gobblerd.registry import recovery, recovery_report
from gobblerd.registry.locks import changing_ladder
from gobblerd.registry.record import Record
from gobblerd.registry.recovery_report import recover_all
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin, UnfinishedError
from gobblerd.storage import files

OTHER = "f" * 16
DAY = 86_400 * 10**9


def nothing(_: Record) -> None:
    pass


def nothing_told(response: Response) -> None:
    raise AssertionError(response)


@pytest.fixture(autouse=True)
def filled(bench: Bench) -> None:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"12"})
    bench.upload("p/a/2", {"f": b"345"})


@pytest.fixture
def other(bench: Bench) -> Iterator[Registry]:
    """Return the registry as a daemon with another staging directory has it."""
    registry = Registry(str(bench.root), staging=OTHER, lock_timeout=lambda: 5.0)
    yield registry
    registry.close(None)


def run_as_other(bench: Bench, other: Registry, action: str, **fields: Any) -> None:
    origin = Origin(OTHER)
    caller = Caller(0, ADMIN, ADMIN, is_administrator=True)
    staging = (bench.staging_fd, str(bench.staging))
    context = Context(other, caller, origin, bench.policy, *staging, lambda done, total: None)
    bench.actions[action].model_validate(fields).perform(context)
    other.finish(origin)


def die_committed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str, action: str, **fields: Any
) -> None:
    """Perform an action whose step at `path` fails, and let its daemon die with the record committed."""
    real = os.rename

    def rename(source: str, target: str, **rest: Any) -> None:
        if str(target).endswith(path) or str(source).endswith(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", rename)
        with pytest.raises(UnfinishedError):
            bench.run(action, **fields)
    bench.registry.close(None)


def start_again(bench: Bench) -> list[Response]:
    """Open the registry anew, as its daemon does when it starts; return what it delivers."""
    delivered: list[Response] = []
    bench.registry = bench.open_registry()
    bench.registry.clean_up()
    assert bench.registry.recovery.mend(delivered.append, nothing) == 0
    return delivered


def names(bench: Bench, folder: str) -> list[str]:
    return sorted(os.listdir(bench.root / "..transactions" / folder))


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


DELETE = {"project": "p", "asset": "a", "version": "2"}


# ---- two daemons


def test_another_daemon_finishes_what_stands_in_its_way(
    bench: Bench, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the place as after the change; the response waits for the daemon that was asked."""
    die_committed(bench, monkeypatch, "p/a/2", "delete_version", **DELETE)
    run_as_other(bench, other, "set_permissions", project="p", asset="a", permissions={"owners": ["x"]})
    assert not (bench.root / "p/a/2").exists()
    assert read(bench, "p/..usage") == {"total": 2}
    assert read(bench, "p/a/..latest") == {"version": "1"}
    delivered: list[Response] = []
    assert other.recovery.mend(delivered.append, nothing) == 0
    assert delivered == []
    assert len(names(bench, "applied")) == 1
    assert [(r.code, r.identity.name) for r in start_again(bench)] == [(200, "request-delete_version-1")]
    assert start_again(bench) == []
    assert_clean(str(bench.root))


def test_another_daemon_mends_from_time_to_time(
    bench: Bench, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what is in nobody's way; it consumes nothing of another staging directory."""
    die_committed(bench, monkeypatch, "p/a/3", "upload", project="p", asset="a", version="3", **source(bench))
    consumed: list[Record] = []
    assert other.recovery.mend(lambda _: None, consumed.append) == 0
    assert (bench.root / "p/a/3/g").read_bytes() == b"678"
    assert consumed == []
    assert [r.action for r in start_again(bench)] == ["upload"]
    assert_clean(str(bench.root))


def source(bench: Bench) -> dict[str, Any]:
    return {"source": bench.source("s", {"g": b"678"}), "consume": True}


def test_a_project_s_usage_is_right_whoever_counts_first(
    bench: Bench, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload into another asset of a project with an unfinished change: nothing is counted twice."""
    die_committed(bench, monkeypatch, "p/..usage", "delete_version", **DELETE)
    bench.source("s", {"g": b"678"})
    run_as_other(bench, other, "upload", project="p", asset="b", version="1", source="s")
    assert read(bench, "p/..usage") == {"total": 5}
    assert len(start_again(bench)) == 1
    assert_clean(str(bench.root))


def test_a_living_daemon_s_record_is_left_alone(bench: Bench, other: Registry) -> None:
    """Its locks are held: nobody else applies it, and `mend` says that it is unfinished."""
    bench.run("set_quota", project="p", baseline=7, finish=False)
    [name] = names(bench, "applied")
    folder = bench.root / "..transactions"
    os.rename(folder / "applied" / name, folder / "committed" / name)  # as in the middle of applying
    held = bench.registry.locks.climb(other.recovery._load("..transactions/committed", name).ladder, "alive")  # type: ignore[union-attr]
    assert other.recovery.mend(lambda _: None, nothing) == 1
    assert names(bench, "committed") == [name]
    held.release()
    assert other.recovery.mend(lambda _: None, nothing) == 0
    assert names(bench, "applied") == [name]


def test_our_own_unfinished_records_are_told(
    bench: Bench, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a start whose locks somebody else holds: the request must not be executed a second time."""
    die_committed(bench, monkeypatch, "p/a/2", "delete_version", **DELETE)
    told: list[str] = []
    bench.registry = bench.open_registry()
    held = other.locks.climb(changing_ladder(Address("p", "a")), "another daemon's work")
    assert bench.registry.recovery.mend(nothing_told, nothing, lambda r: told.append(r.identity.name)) == 1
    assert told == ["request-delete_version-1"]
    assert other.recovery.mend(nothing_told, nothing, lambda r: told.append("not ours")) == 1
    held.release()
    delivered: list[Response] = []
    assert bench.registry.recovery.mend(delivered.append, nothing, lambda r: told.append("finished")) == 0
    assert [answer.code for answer in delivered] == [200]
    assert len(told) == 1
    assert_clean(str(bench.root))


# ---- places that were taken


def test_a_taken_place_is_set_aside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Go service wrote there after our crash: its version stays, ours is kept aside, the answer is 500."""
    die_committed(bench, monkeypatch, "p/a/3", "upload", project="p", asset="a", version="3", **source(bench))
    (bench.root / "p/a/3").mkdir()
    (bench.root / "p/a/3/go").write_bytes(b"1")
    consumed: list[Record] = []
    delivered: list[Response] = []
    bench.registry = bench.open_registry()
    assert bench.registry.recovery.mend(delivered.append, consumed.append) == 0
    [answer] = delivered
    assert answer.code == 500
    assert answer.identity.name == "request-upload-1"
    assert "p/a/3" in answer.body["reason"]
    assert str(bench.root) not in answer.body["reason"]
    assert consumed == []
    assert os.listdir(bench.root / "p/a/3") == ["go"]
    [aside] = names(bench, "aside")
    assert [p.read_bytes() for p in (bench.root / "..transactions/aside" / aside).rglob("g")] == [b"678"]
    assert (bench.staging / "s/g").exists()
    assert read(bench, "p/..usage") == {"total": 5}
    assert bench.registry.recovery.mend(delivered.append, consumed.append) == 0
    assert len(delivered) == 1


def test_a_place_taken_by_a_file_is_set_aside_and_answered(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where an asset was to be: nothing of it can be synced, and the answer comes all the same."""
    bench.source("s", {"g": b"678"})
    die_committed(bench, monkeypatch, "p/new", "upload", project="p", asset="new", version="1", source="s")
    (bench.root / "p/new").write_bytes(b"somebody's notes")
    [answer] = start_again(bench)
    assert (answer.code, "p/new was taken" in answer.body["reason"]) == (500, True)
    assert (bench.root / "p/new").read_bytes() == b"somebody's notes"
    assert len(names(bench, "aside")) == 1
    assert names(bench, "applied") == names(bench, "committed") == []


def test_an_answer_that_cannot_be_given_does_not_hold_up_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is raised, so that a daemon executes nothing before it; but only after the others were given."""
    for project in ("q", "r", "s"):
        bench.run("create_project", project=project, finish=False)
    bench.registry.close(None)
    first = names(bench, "applied")[0]
    given: list[int] = []
    failing = iter([True])

    def deliver(response: Response) -> None:
        if next(failing, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        given.append(response.code)

    bench.registry = bench.open_registry()
    with pytest.raises(OSError, match="No space"):
        bench.registry.recovery.mend(deliver, nothing)
    assert given == [200, 200]
    assert names(bench, "applied") == [first]
    assert bench.registry.recovery.mend(deliver, nothing) == 0
    assert given == [200, 200, 200]


# ---- what was not committed


def test_what_cannot_be_removed_stops_nothing(bench: Bench) -> None:
    """As another account's files in a project that was deleted: a start does without, and so does the purge."""
    kept = bench.root / "p/a/1/f"
    with immutable(kept):
        bench.run("delete_project", project="p")
        bench.registry.close(None)
        (left,) = (name for name in names(bench, "") if name.startswith(STAGING_ID))
        for number in range(3):
            (bench.root / f"..transactions/{STAGING_ID}-{number:016x}").mkdir()
        assert start_again(bench) == []
        assert [name for name in names(bench, "") if name.startswith(STAGING_ID)] == [left]
        bench.run("create_project", project="p")
        assert bench.registry.recovery.purge_abandoned(bench.registry.clock.now() + 8 * DAY) == 0
        aside = bench.root / "..transactions/aside"
        (bench.root / "..transactions" / left).rename(aside / left)
        (aside / "z").mkdir()
        assert bench.registry.recovery.purge_aside(bench.registry.clock.now() + 8 * DAY, 1.0) == 1
        assert names(bench, "aside") == [left]
    assert bench.registry.recovery.purge_aside(bench.registry.clock.now() + 8 * DAY, 1.0) == 1


def test_recover_says_what_it_cannot_remove(bench: Bench) -> None:
    """And what to do about it."""
    lost = bench.root / f"..transactions/{OTHER}-{1:016x}"
    lost.mkdir()
    (lost / "f").touch()
    with immutable(lost / "f"):
        later = bench.registry.clock.now() + 9 * DAY
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(recovery_report.time, "time_ns", lambda: later)
            (finding,) = recover_all(str(bench.root), dry_run=False)
    assert finding.done.startswith("failed: ")
    assert finding.done.endswith(f"remove ..transactions/{lost.name} as root")


def test_a_record_that_cannot_be_read(bench: Bench) -> None:
    """It is named, with what to do: its places are not known, so nothing may be changed."""
    (bench.root / "..transactions/committed/x").mkdir()
    with pytest.raises(Fault, match='committed/x" cannot be read: Is a directory; mend that'):
        bench.run("set_quota", project="p", baseline=1)


def test_a_place_that_cannot_be_locked_does_not_hold_up_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its change waits, and whoever comes is told, the log once; others are finished, and the daemon starts."""
    bench.run("create_project", project="q")
    die_committed(bench, monkeypatch, "p/..quota", "set_quota", project="p", baseline=1)
    bench.registry = bench.open_registry()
    die_committed(bench, monkeypatch, "q/..quota", "set_quota", project="q", baseline=2)
    lock = bench.root / "p/..LOCK"
    lock.unlink()
    lock.mkdir()
    bench.registry = bench.open_registry()
    delivered: list[Response] = []
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            assert bench.registry.recovery.mend(delivered.append, nothing) == 1
    assert [line["event"] for line in logged].count("a committed change cannot be finished yet") == 1
    assert [answer.code for answer in delivered] == [200]
    assert read(bench, "q/..quota")["baseline"] == 2
    with pytest.raises(Fault, match=r'"p/\.\.LOCK" cannot be locked: Is a directory'):
        bench.run("set_quota", project="p", baseline=3)
    lock.rmdir()
    assert [answer.code for answer in start_again(bench)] == [200]
    assert read(bench, "p/..quota")["baseline"] == 1


def staged(bench: Bench, staging: str) -> str:
    name = f"{staging}-{'0' * 16}"
    path = bench.root / "..transactions" / name / "1"
    path.mkdir(parents=True)
    (path / "f").write_bytes(b"staged")
    return name


def test_uncommitted_work_is_discarded_by_its_own_daemon(bench: Bench, other: Registry) -> None:
    """At its start; another's stays."""
    staged(bench, STAGING_ID)
    theirs = staged(bench, OTHER)
    assert bench.registry.clean_up() == 1
    assert [n for n in names(bench, "") if "-" in n] == [theirs]
    assert bench.registry.clean_up() == 0
    assert other.clean_up() == 1
    assert_clean(str(bench.root))


def test_uncommitted_work_of_others_is_left_for_seven_days(bench: Bench) -> None:
    """Untouched for longer, anybody may remove it."""
    theirs = staged(bench, OTHER)
    now = os.stat(bench.root / "..transactions" / theirs).st_ctime_ns
    recovery = bench.registry.recovery
    assert recovery.purge_abandoned(now + 7 * DAY - 10**9) == 0
    assert recovery.purge_abandoned(now + 7 * DAY + 10**9) == 1
    assert_clean(str(bench.root))


def test_what_is_under_way_or_recorded_is_never_discarded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A living thread's directory, and that of a committed or applied record."""
    bench.run("set_quota", project="p", baseline=7, finish=False)
    with bench.registry.transaction(bench.origin("x")) as transaction:
        transaction.put("p/..x", b"1")
        assert bench.registry.recovery.discard_uncommitted() == 0
        assert bench.registry.recovery.purge_abandoned(2**62) == 0
    die_committed(bench, monkeypatch, "p/a/2", "delete_version", **DELETE)
    registry = bench.open_registry()
    assert registry.recovery.discard_uncommitted() == 0
    assert registry.recovery.purge_abandoned(2**62) == 0
    registry.close()
    assert {r.action for r in start_again(bench)} == {"delete_version", "set_quota"}


# ---- records that are not ours to read


@pytest.mark.parametrize("content", [b"{", b'{"format": "gobblerd-transaction-3"}', b"[]"])
def test_a_record_that_cannot_be_read_stops_changes(bench: Bench, content: bytes) -> None:
    """A later version's, or rot: nothing is guessed, the registry is not changed around it."""
    (bench.root / "..transactions/committed/x-1").write_bytes(content)
    with pytest.raises(Fault, match="x-1"):
        bench.run("set_quota", project="p", baseline=1)


# ---- for people


def test_recover_for_people(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A dry run changes nothing and says what would be done; the real one does it; answers wait."""
    die_committed(bench, monkeypatch, "p/a/2", "delete_version", **DELETE)
    young = staged(bench, OTHER)
    before = bench.snapshot()
    found = recover_all(str(bench.root), dry_run=True)
    assert [(f.state, f.done) for f in found] == [
        ("committed", "would be finished"),
        ("uncommitted", "left to its daemon"),
    ]
    assert found[0].places == ("p/a/2",)
    assert bench.snapshot() == before
    done = recover_all(str(bench.root), dry_run=False)
    assert ("committed", "finished") in [(f.state, f.done) for f in done]
    assert not (bench.root / "p/a/2").exists()
    assert young in names(bench, "")
    assert [r.code for r in start_again(bench)] == [200]


def test_recover_forgets_a_staging_directory_that_is_gone(
    bench: Bench, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had changed stays, and its records go; a dry run only says so, and others' records stay."""
    run_as_other(bench, other, "set_quota", project="p", baseline=5)
    bench.run("set_quota", project="p", baseline=7, finish=False)
    [record] = names(bench, "applied")
    mine, theirs = staged(bench, STAGING_ID), staged(bench, OTHER)
    monkeypatch.setattr(recovery_report, "_ALIVE_SECONDS", 0.0)
    before = bench.snapshot()
    listed = recover_all(str(bench.root), dry_run=True, gone=STAGING_ID)
    assert bench.snapshot() == before
    assert {(f.transaction, f.done, f.waits_for) for f in listed} == {
        (record, "would be forgotten", ""),
        (mine, "would be discarded", ""),
        (theirs, "left to its daemon", OTHER),
    }
    assert "(200)" in listed[0].action
    done = recover_all(str(bench.root), dry_run=False, gone=STAGING_ID)
    assert {f.transaction: f.done for f in done} == {
        record: "forgotten",
        mine: "discarded",
        theirs: "left to its daemon",
    }
    assert read(bench, "p/..quota")["baseline"] == 7
    assert names(bench, "applied") == []
    assert [n for n in names(bench, "") if "-" in n] == [theirs]
    assert start_again(bench) == []


def test_recover_forgets_nothing_of_a_daemon_that_may_be_running(bench: Bench) -> None:
    """Its records are moments old."""
    bench.run("set_quota", project="p", baseline=7, finish=False)
    staged(bench, STAGING_ID)
    found = recover_all(str(bench.root), dry_run=False, gone=STAGING_ID)
    assert {f.done for f in found} == {recovery_report._PERHAPS_ALIVE}
    assert [r.code for r in start_again(bench)] == [200]


def test_recover_without_one_that_is_gone_touches_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of scheduled jobs neither, which have no staging directory."""
    monkeypatch.setattr(recovery_report, "_ALIVE_SECONDS", 0.0)
    bench.run("set_quota", project="p", baseline=7, finish=False)
    [name] = names(bench, "applied")
    path = bench.root / "..transactions" / "applied" / name
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "staging": ""}))
    assert [f.done for f in recover_all(str(bench.root), dry_run=False)] == ["waits for its daemon"]
    assert names(bench, "applied") == [name]


def test_recover_leaves_a_running_daemon_alone(bench: Bench, other: Registry) -> None:
    """Its locks are held."""
    bench.run("set_quota", project="p", baseline=7, finish=False)
    [name] = names(bench, "applied")
    folder = bench.root / "..transactions"
    os.rename(folder / "applied" / name, folder / "committed" / name)
    held = other.locks.climb(other.recovery._load("..transactions/committed", name).ladder, "alive")  # type: ignore[union-attr]
    assert [f.done for f in recover_all(str(bench.root), dry_run=False)] == [
        "left alone: its daemon is running"
    ]
    held.release()


def test_a_required_marker_that_is_gone(bench: Bench) -> None:
    """An unmounted root looks like an empty registry: 503, nothing is made there."""
    registry = Registry(
        str(bench.root), staging=STAGING_ID, require_marker=lambda: True, lock_timeout=lambda: 5.0
    )
    bench.registry, old = registry, bench.registry
    with pytest.raises(Busy, match="marker"):
        bench.run("create_project", project="x")
    with pytest.raises(Busy, match="marker"):
        bench.upload("p/a/9", {"f": b"1"})
    (bench.root / "..gobblerd").write_text("{}")
    bench.run("create_project", project="x")
    old.close(None)


# ---- records of earlier versions, and documents in records


def as_of_format_1(bench: Bench, name: str) -> None:
    """Rewrite a committed record as gobblerd wrote it when documents lay in the transaction's directory."""
    place = bench.root / "..transactions" / "committed" / name
    directory = bench.root / "..transactions" / name
    directory.mkdir(exist_ok=True)
    record = json.loads(place.read_bytes())
    record["format"] = "gobblerd-transaction-1"
    for number, step in enumerate((*record["steps"], *record["events"]), start=10):
        if step["kind"] == "write":
            (directory / str(number)).write_text(step.pop("content"))
            step.update(kind="install", slot=str(number))
        step.setdefault("fresh", False)
    place.write_text(json.dumps(record))


@pytest.mark.parametrize("path", ["p/..permissions", "p/a/..latest"])
def test_a_record_of_an_earlier_version_is_finished(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """An upgrade may find records pending whose documents and events are staged files."""
    action, fields = (
        ("set_permissions", {"project": "p", "permissions": {"owners": ["x"]}})
        if path.endswith("permissions")
        else ("delete_version", DELETE)
    )
    events = len(os.listdir(bench.root / "..logs"))
    die_committed(bench, monkeypatch, path, action, **fields)
    [name] = names(bench, "committed")
    as_of_format_1(bench, name)
    assert [r.code for r in start_again(bench)] == [200]
    if action == "set_permissions":
        assert read(bench, "p/..permissions")["owners"] == ["x"]
    else:
        assert read(bench, "p/a/..latest") == {"version": "1"}
        assert len(os.listdir(bench.root / "..logs")) == events + 1
    assert_clean(str(bench.root))


def test_documents_may_be_written_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that died after its last step, before it could say so: no event appears twice."""
    bench.upload("p/a/9", {"f": b"9"}, on_probation=True)
    real = os.rename

    def rename(source: str, target: str, **rest: Any) -> None:
        if "/applied/" in str(target):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(source, target, **rest)

    events = len(os.listdir(bench.root / "..logs"))
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "rename", rename)
        with pytest.raises(UnfinishedError):
            bench.run("approve_probation", project="p", asset="a", version="9")
    assert len(os.listdir(bench.root / "..logs")) == events + 1
    before = bench.snapshot()
    assert [r.code for r in start_again(bench)] == [200]
    assert bench.snapshot() == before
    assert len(os.listdir(bench.root / "..logs")) == events + 1
    assert_clean(str(bench.root))


def test_a_change_is_durable_before_its_source_goes_or_anybody_is_told(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer died after the last step, before its sync: a power cut now must not take the source's only copy."""
    bench.run("upload", finish=False, project="p", asset="a", version="3", **source(bench))
    order: list[str] = []
    monkeypatch.setattr(recovery, "sync_touched", lambda *_: order.append("touched"))
    monkeypatch.setattr(recovery, "sync_directory", lambda path: order.append(os.path.basename(path)))
    again = bench.open_registry()
    assert again.recovery.mend(lambda _: order.append("told"), lambda _: order.append("consumed")) == 0
    assert order == ["touched", "applied", "consumed", "told"]
    again.close(None)


def test_what_was_about_to_be_renamed_is_rubbish(bench: Bench) -> None:
    """A record or document on its way when the daemon died goes at the next start."""
    (bench.root / "..transactions" / f"{STAGING_ID}-{'0' * 16}.new").write_bytes(b"{")
    assert bench.registry.clean_up() == 1
    assert_clean(str(bench.root))
