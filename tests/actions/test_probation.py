"""`approve_probation` and `reject_probation`: who may, and what follows on disk."""

import json
import os
from typing import Any

import pytest
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.domain.errors import Absent, Fault, Forbidden, Wrong

ALICE = 61001
PLACE = {"project": "p", "asset": "a", "version": "trial"}


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


def events(bench: Bench) -> list[dict[str, Any]]:
    found = [read(bench, f"..logs/{name}") for name in os.listdir(bench.root / "..logs")]
    return [event for event in found if event.get("version") != "1"]


@pytest.fixture(autouse=True)
def trial(bench: Bench) -> None:
    uploaders = [{"id": "alice"}, {"id": "bob"}]
    bench.run("create_project", project="p", permissions={"owners": ["owner"], "uploaders": uploaders})
    bench.upload("p/a/1", {"f": b"1"})
    bench.upload("p/a/trial", {"g": b"2345"}, "alice", ALICE)


def set_finish(bench: Bench, version: str, finish: str) -> None:
    path = bench.root / "p/a" / version / "..summary"
    path.write_text(json.dumps({**json.loads(path.read_text()), "upload_finish": finish, "extra": 1}))


@pytest.mark.parametrize(
    ("one", "tried", "becomes"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", True),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", False),
        ("2026-01-01T00:00:00.5Z", "2026-01-01T00:00:00.4Z", False),
        ("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.000001Z", True),
    ],
)
def test_approval(bench: Bench, one: str, tried: str, *, becomes: bool) -> None:
    """The flag goes, and unknown keys; latest if it finished strictly later; the event says so."""
    set_finish(bench, "1", one)
    set_finish(bench, "trial", tried)
    bench.run("approve_probation", "owner", **PLACE)
    summary = read(bench, "p/a/trial/..summary")
    assert set(summary) == {"upload_user_id", "upload_start", "upload_finish"}
    assert (summary["upload_user_id"], summary["upload_finish"]) == ("alice", tried)
    assert read(bench, "p/a/..latest") == {"version": "trial" if becomes else "1"}
    assert events(bench) == [{"type": "add-version", **PLACE, "latest": becomes}]
    assert read(bench, "p/..usage") == {"total": 5}


def test_the_first_approval_makes_a_latest(bench: Bench) -> None:
    """There was none."""
    bench.upload("p/b/trial", {"g": b"1"}, on_probation=True)
    bench.run("approve_probation", project="p", asset="b", version="trial")
    assert read(bench, "p/b/..latest") == {"version": "trial"}
    assert_clean(str(bench.root))


@pytest.mark.parametrize("user", ["alice", "bob", "stranger"])
def test_only_owners_approve(bench: Bench, user: str) -> None:
    """Not even who uploaded it."""
    with pytest.raises(Forbidden, match=f'"{user}"'):
        bench.run("approve_probation", user, **PLACE)
    with pytest.raises(Forbidden):
        bench.run("approve_probation", user, **{**PLACE, "version": "none"})


@pytest.mark.parametrize("user", ["root", "owner", "asset owner", "alice"])
def test_rejection(bench: Bench, user: str) -> None:
    """By owners and by the version's uploader: gone, usage lowered, no event, latest untouched."""
    bench.run("set_permissions", project="p", asset="a", permissions={"owners": ["asset owner"]})
    bench.run("reject_probation", user, **PLACE)
    assert not (bench.root / "p/a/trial").exists()
    assert read(bench, "p/..usage") == {"total": 1}
    assert read(bench, "p/a/..latest") == {"version": "1"}
    assert events(bench) == []
    assert_clean(str(bench.root))


@pytest.mark.parametrize("user", ["bob", "stranger"])
def test_others_do_not_reject(bench: Bench, user: str) -> None:
    """Another uploader is a stranger here."""
    before = bench.snapshot()
    with pytest.raises(Forbidden, match=f'"{user}"'):
        bench.run("reject_probation", user, force=True, **PLACE)
    assert bench.snapshot() == before


@pytest.mark.parametrize("action", ["approve_probation", "reject_probation"])
def test_refusals(bench: Bench, action: str) -> None:
    """What is not on probation: 400, with `force` too. What is not there: 404."""
    force = {"force": True} if action == "reject_probation" else {}
    before = bench.snapshot()
    with pytest.raises(Wrong, match="not on probation"):
        bench.run(action, **{**PLACE, "version": "1", **force})
    for missing in ({"project": "q"}, {"asset": "q"}, {"version": "q"}):
        with pytest.raises(Absent, match="q"):
            bench.run(action, **{**PLACE, **missing, **force})
    assert bench.snapshot() == before


@pytest.mark.parametrize("action", ["approve_probation", "reject_probation"])
@pytest.mark.parametrize("content", [b"{", b"{}", None])
def test_a_summary_that_cannot_be_read(bench: Bench, action: str, content: bytes | None) -> None:
    """A fault that changes nothing, for owners; its uploader is not known."""
    path = bench.root / "p/a/trial/..summary"
    path.write_bytes(content) if content is not None else path.unlink()
    before = bench.snapshot()
    with pytest.raises(Fault, match=r"\.\.summary"):
        bench.run(action, "owner", **PLACE)
    with pytest.raises(Forbidden):
        bench.run(action, "alice", **PLACE)
    assert bench.snapshot() == before


@pytest.mark.parametrize("document", ["..summary", "..manifest"])
def test_force(bench: Bench, document: str) -> None:
    """Deleted whatever is damaged; usage stays when the manifest cannot tell."""
    (bench.root / "p/a/trial" / document).write_bytes(b"{")
    if document == "..manifest":
        with pytest.raises(Fault, match=r"\.\.manifest.*; with force .* refresh_usage"):
            bench.run("reject_probation", **PLACE)
    bench.run("reject_probation", force=True, **PLACE)
    assert not (bench.root / "p/a/trial").exists()
    assert read(bench, "p/..usage") == {"total": 5 if document == "..manifest" else 1}
    assert events(bench) == []


def test_force_leaves_no_latest_that_is_gone(bench: Bench) -> None:
    """A version whose summary cannot be read may be the latest one: `..latest` follows."""
    bench.run("approve_probation", **PLACE)
    assert read(bench, "p/a/..latest") == {"version": "trial"}
    (bench.root / "p/a/trial/..summary").write_bytes(b"{")
    bench.run("reject_probation", force=True, **PLACE)
    assert read(bench, "p/a/..latest") == {"version": "1"}
    assert_clean(str(bench.root))


def test_approval_needs_the_latest_s_summary(bench: Bench) -> None:
    """Whether it is later cannot be told: a fault."""
    (bench.root / "p/a/1/..summary").unlink()
    with pytest.raises(Fault, match="p/a/1"):
        bench.run("approve_probation", **PLACE)
