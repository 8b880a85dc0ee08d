"""`refresh_usage` and `refresh_latest`: what is derived is computed again."""

import json
import os
from typing import Any

import pytest
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.registry.counting import UsageCount


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1"})
    bench.upload("p/a/2", {"f": b"1", "g": b"23"})
    bench.upload("p/a/trial", {"f": b"456"}, on_probation=True)
    return bench


@pytest.mark.parametrize("content", ['{"total": 5}', '{"total": "5"}', "", None])
def test_usage(filled: Bench, content: str | None) -> None:
    """The sum over all manifest entries without a link, whatever was there."""
    path = filled.root / "p/..usage"
    path.write_text(content) if content is not None else path.unlink()
    events = os.listdir(filled.root / "..logs")
    assert filled.run("refresh_usage", project="p") == {"total": 6}
    assert read(filled, "p/..usage") == {"total": 6}
    assert os.listdir(filled.root / "..logs") == events
    assert_clean(str(filled.root))


def test_what_is_right_already_is_not_written(filled: Bench) -> None:
    """So that a refresh in order costs no sync."""
    paths = [filled.root / "p/..usage", filled.root / "p/a/..latest"]
    before = [path.stat().st_ino for path in paths]
    assert filled.run("refresh_usage", project="p") == {"total": 6}
    assert filled.run("refresh_latest", project="p", asset="a") == {"version": "2"}
    assert [path.stat().st_ino for path in paths] == before


def test_usage_of_nothing(bench: Bench) -> None:
    """0, for a project without versions, and with an asset without one."""
    bench.run("create_project", project="p")
    assert bench.run("refresh_usage", project="p") == {"total": 0}
    bench.run("set_permissions", project="p", asset="a", permissions={})
    assert bench.run("refresh_usage", project="p") == {"total": 0}


def test_usage_needs_every_manifest(filled: Bench) -> None:
    """A fault that names the one that cannot be read."""
    (filled.root / "p/a/1/..manifest").write_bytes(b"{")
    with pytest.raises(Fault, match=r"p/a/1/\.\.manifest"):
        filled.run("refresh_usage", project="p")


def test_a_version_that_goes_while_it_is_counted_unlocked(
    filled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble in the first, unlocked count is no trouble: what counts is counted under the lock."""
    count = UsageCount.total
    times: list[int] = []

    def first_fails(self: UsageCount) -> int:
        times.append(1)
        if len(times) == 1:
            filled.run("delete_asset", project="p", asset="a")
            raise FileNotFoundError("p/a")
        return count(self)

    monkeypatch.setattr(UsageCount, "total", first_fails)
    assert filled.run("refresh_usage", project="p") == {"total": 0}


@pytest.mark.parametrize("content", ['{"version": "1"}', '{"version": "gone"}', "{", None])
def test_latest(filled: Bench, content: str | None) -> None:
    """The non-probational version that finished last, whatever was there."""
    path = filled.root / "p/a/..latest"
    path.write_text(content) if content is not None else path.unlink()
    assert filled.run("refresh_latest", project="p", asset="a") == {"version": "2"}
    assert read(filled, "p/a/..latest") == {"version": "2"}
    assert_clean(str(filled.root))


def test_latest_skips_what_cannot_be_read(filled: Bench) -> None:
    """A version without a readable summary cannot be chosen."""
    (filled.root / "p/a/2/..summary").write_text("{}")
    assert filled.run("refresh_latest", project="p", asset="a") == {"version": "1"}


def test_latest_of_nothing(filled: Bench) -> None:
    """No `version` in the answer, and no `..latest`."""
    for version in ("1", "2"):
        filled.run("delete_version", project="p", asset="a", version=version)
    (filled.root / "p/a/..latest").write_text('{"version": "1"}')
    assert filled.run("refresh_latest", project="p", asset="a") == {}
    assert not (filled.root / "p/a/..latest").exists()
    assert filled.run("refresh_latest", project="p", asset="a") == {}


def test_what_is_not_there(filled: Bench) -> None:
    """404; a name that nothing can have is 400."""
    for action, place in (
        ("refresh_usage", {"project": "q"}),
        ("refresh_latest", {"project": "q", "asset": "a"}),
        ("refresh_latest", {"project": "p", "asset": "q"}),
    ):
        with pytest.raises(Absent, match="q"):
            filled.run(action, **place)
        with pytest.raises(Wrong):
            filled.run(action, **{key: f"{value}\\" for key, value in place.items()})
