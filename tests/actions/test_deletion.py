"""`delete_project`, `delete_asset`, `delete_version`: what goes, what follows, and what is logged."""

import json
import os
from typing import Any

import pytest
from support.bench import Bench
from support.checker import assert_clean
from support.obstacles import immutable

from gobblerd.domain.errors import Fault, Wrong

PLACES = {
    "delete_project": {"project": "p"},
    "delete_asset": {"project": "p", "asset": "a"},
    "delete_version": {"project": "p", "asset": "a", "version": "2"},
}


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


def new_events(bench: Bench) -> list[dict[str, Any]]:
    found = [read(bench, f"..logs/{name}") for name in os.listdir(bench.root / "..logs")]
    return [event for event in found if event["type"] != "add-version"]


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1"})
    bench.upload("p/a/2", {"f": b"23"})
    bench.upload("p/a/trial", {"f": b"456"}, on_probation=True)
    bench.upload("p/b/1", {"f": b"7890"})
    return bench


@pytest.mark.parametrize(
    ("action", "usage"), [("delete_project", None), ("delete_asset", 4), ("delete_version", 8)]
)
def test_what_goes(filled: Bench, action: str, usage: int | None) -> None:
    """The place and nothing beside it; usage follows; exactly one event."""
    place = PLACES[action]
    before = filled.snapshot()
    filled.run(action, **place)
    gone = "/".join(place.values())
    changed = {"events", "p/..usage", "p/a/..latest"}
    expected = {
        path: content
        for path, content in before.items()
        if path != gone and not path.startswith(f"{gone}/") and path not in changed
    }
    assert {p: c for p, c in filled.snapshot().items() if p not in changed} == expected
    if usage is not None:
        assert read(filled, "p/..usage") == {"total": usage}
    latest = {"latest": True} if action == "delete_version" else {}
    assert new_events(filled) == [{"type": action.replace("_", "-"), **place, **latest}]
    assert_clean(str(filled.root))


@pytest.mark.parametrize(
    ("order", "latest"),
    [
        (["1"], ["2"]),
        (["2"], ["1"]),
        (["trial"], ["2"]),
        (["2", "1"], ["1", None]),
        (["1", "2"], ["2", None]),
    ],
)
def test_latest_follows(filled: Bench, order: list[str], latest: list[str | None]) -> None:
    """It points at the non-probational version that finished last, or is removed."""
    for version, expected in zip(order, latest, strict=True):
        filled.run("delete_version", project="p", asset="a", version=version)
        path = filled.root / "p/a/..latest"
        assert (json.loads(path.read_bytes())["version"] if path.exists() else None) == expected
    assert_clean(str(filled.root))


def test_events_of_versions(filled: Bench) -> None:
    """Probational ones have none; the others say whether they were the latest."""
    for version in ("trial", "1"):
        filled.run("delete_version", project="p", asset="a", version=version)
    place = {"project": "p", "asset": "a", "version": "1"}
    assert new_events(filled) == [{"type": "delete-version", **place, "latest": False}]


@pytest.mark.parametrize(
    ("action", "place"),
    [
        ("delete_project", {"project": "q"}),
        ("delete_asset", {"project": "p", "asset": "q"}),
        ("delete_asset", {"project": "q", "asset": "q"}),
        ("delete_version", {"project": "p", "asset": "a", "version": "q"}),
        ("delete_version", {"project": "p", "asset": "q", "version": "q"}),
        ("delete_version", {"project": "q", "asset": "q", "version": "q"}),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_there(filled: Bench, action: str, place: dict[str, str], *, force: bool) -> None:
    """Success, without a transaction, an event, or anything made."""
    before = filled.snapshot()
    transactions = sorted(os.listdir(filled.root / "..transactions"))
    filled.run(action, force=force, **place)
    assert filled.snapshot() == before
    assert sorted(os.listdir(filled.root / "..transactions")) == transactions


@pytest.mark.parametrize("action", PLACES)
@pytest.mark.parametrize("name", ["old\\rule", "old\nrule"])
def test_names_of_older_rules(filled: Bench, action: str, name: str) -> None:
    """What exists is deletable by them; where nothing does, they are 400."""
    *_, last = PLACES[action]
    place = {**PLACES[action], last: name}
    with pytest.raises(Wrong, match="invalid"):
        filled.run(action, **place)
    source = filled.root.joinpath(*PLACES[action].values())
    source.rename(source.parent / name)
    filled.run(action, **place)
    assert not (source.parent / name).exists()
    assert new_events(filled)[0][last] == name


@pytest.mark.parametrize("action", PLACES)
@pytest.mark.parametrize("name", ["", ".", "..", "..logs", "..transactions", "a/b", "x" * 256])
def test_names_that_nothing_can_have(filled: Bench, action: str, name: str) -> None:
    """400, and certainly nothing is deleted."""
    before = filled.snapshot()
    for field in PLACES[action]:
        with pytest.raises(Wrong):
            filled.run(action, **{**PLACES[action], field: name})
    assert filled.snapshot() == before


@pytest.mark.parametrize("content", [b"{", None])
@pytest.mark.parametrize("action", PLACES)
def test_a_manifest_that_cannot_be_read(filled: Bench, action: str, content: bytes | None) -> None:
    """A fault where it is needed; with `force` deleted, and usage untouched."""
    path = filled.root / "p/a/2/..manifest"
    path.write_bytes(content) if content is not None else path.unlink()
    before = filled.snapshot()
    if action != "delete_project":
        with pytest.raises(Fault, match=r"p/a/2/\.\.manifest.*; with force .* refresh_usage"):
            filled.run(action, **PLACES[action])
        assert filled.snapshot() == before
    filled.run(action, force=True, **PLACES[action])
    assert not filled.root.joinpath(*PLACES[action].values()).exists()
    if action != "delete_project":
        assert read(filled, "p/..usage") == {"total": 10}
    assert len(new_events(filled)) == 1


def test_a_summary_that_cannot_be_read(filled: Bench) -> None:
    """No event; `..latest` follows all the same, and skips what cannot be read."""
    (filled.root / "p/a/2/..summary").write_bytes(b"{")
    filled.run("delete_version", project="p", asset="a", version="2")
    assert new_events(filled) == []
    assert read(filled, "p/a/..latest") == {"version": "1"}
    (filled.root / "p/a/1/..summary").unlink()
    filled.run("delete_version", project="p", asset="a", version="1")
    assert not (filled.root / "p/a/..latest").exists()
    assert read(filled, "p/..usage") == {"total": 7}


@pytest.mark.parametrize("action", PLACES)
def test_what_cannot_be_moved_is_refused_before_the_commit(filled: Bench, action: str) -> None:
    """As another account's directory: a removal that was committed would close its places for good."""
    place = filled.root.joinpath(*PLACES[action].values())
    before = filled.snapshot()
    with immutable(place):
        with pytest.raises(Fault, match="cannot be written to"):
            filled.run(action, **PLACES[action])
        assert filled.snapshot() == before
        assert os.listdir(filled.root / "..transactions/committed") == []
    filled.run(action, **PLACES[action])
    assert not place.exists()


def test_what_cannot_be_taken_out_of_its_directory(filled: Bench) -> None:
    """The same where the directory above is not to be written to."""
    before = filled.snapshot()
    with immutable(filled.root / "p/a"), pytest.raises(Fault, match="cannot be written to"):
        filled.run("delete_version", **PLACES["delete_version"])
    assert filled.snapshot() == before
    assert os.listdir(filled.root / "..transactions/committed") == []


def test_a_missing_usage_is_not_zero(filled: Bench) -> None:
    """A fault that changes nothing, with `force` too; a project goes without."""
    (filled.root / "p/..usage").unlink()
    before = filled.snapshot()
    for action in ("delete_asset", "delete_version"):
        for force in (False, True):
            with pytest.raises(Fault, match=r"\.\.usage"):
                filled.run(action, force=force, **PLACES[action])
    assert filled.snapshot() == before
    filled.run("delete_project", project="p")


def test_a_tree_of_a_go_service_goes_too(filled: Bench) -> None:
    """Whatever lies in it, and whatever its modes."""
    top = filled.root / "p/a/2"
    (top / "..odd").mkdir()
    (top / "l").symlink_to("/etc")
    os.chmod(top / "f", 0o000)
    filled.run("delete_version", project="p", asset="a", version="2")
    assert_clean(str(filled.root))
    assert os.path.isdir("/etc")
