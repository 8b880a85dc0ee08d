"""`create_project` and `set_quota`."""

import json
import os
import stat
from typing import Any

import pytest
from pydantic import ValidationError
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.actions.action import Policy
from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.domain.times import year_of


def read(bench: Bench, path: str) -> Any:
    return json.loads((bench.root / path).read_bytes())


def test_a_new_project(bench: Bench) -> None:
    """Three documents with exactly their keys; the requester owns it; no event."""
    bench.run("create_project", project="p")
    year = year_of(bench.registry.clock.now())
    assert set(os.listdir(bench.root / "p")) == {"..permissions", "..usage", "..quota"}
    assert read(bench, "p/..permissions") == {"owners": ["root"], "uploaders": []}
    assert read(bench, "p/..usage") == {"total": 0}
    assert read(bench, "p/..quota") == {"baseline": 10**9, "growth_rate": 10**9, "year": year}
    assert os.listdir(bench.root / "..logs") == []
    assert stat.S_IMODE((bench.root / "p").stat().st_mode) == 0o755
    assert_clean(str(bench.root))


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({}, {"owners": ["root"], "uploaders": []}),
        ({"owners": []}, {"owners": [], "uploaders": []}),
        ({"owners": ["a"], "global_write": False}, {"owners": ["a"], "uploaders": [], "global_write": False}),
        (
            {"uploaders": [{"id": "u", "asset": "a", "x": 1}]},
            {"owners": ["root"], "uploaders": [{"id": "u", "asset": "a"}]},
        ),
    ],
)
def test_its_permissions(bench: Bench, given: dict[str, Any], stored: dict[str, Any]) -> None:
    """As given; owners default to the requester."""
    bench.run("create_project", project="p", permissions=given)
    assert read(bench, "p/..permissions") == stored


def test_quota_defaults_are_configured(bench: Bench) -> None:
    """As the policy has them."""
    bench.policy = Policy(quota_baseline=5, quota_growth_rate=6)
    bench.run("create_project", project="p")
    assert {**read(bench, "p/..quota"), "year": 0} == {"baseline": 5, "growth_rate": 6, "year": 0}


@pytest.mark.parametrize("kind", ["project", "file", "link"])
def test_what_is_there_is_not_replaced(bench: Bench, kind: str) -> None:
    """400, also for something that is no project."""
    if kind == "project":
        bench.run("create_project", project="p")
    elif kind == "file":
        (bench.root / "p").write_bytes(b"1")
    else:
        (bench.root / "p").symlink_to("none")
    before = bench.snapshot()
    with pytest.raises(Wrong, match='"p" exists'):
        bench.run("create_project", project="p")
    assert bench.snapshot() == before


@pytest.mark.parametrize(
    "name", ["", ".", "..", "..p", "a/b", "a\\b", "a\tb", "a\x7fb", "x" * 256, "é" * 128]
)
def test_names(bench: Bench, name: str) -> None:
    """New names follow the rules."""
    with pytest.raises(Wrong, match="project name"):
        bench.run("create_project", project=name)


@pytest.mark.parametrize(
    "name", [" ", "p.", "-", "é" * 127, "...".replace("..", ".,"), "a b", "🙂", "\u202e"]
)
def test_odd_names_that_are_allowed(bench: Bench, name: str) -> None:
    """No rule forbids them."""
    bench.run("create_project", project=name)
    assert (bench.root / name / "..usage").exists()


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ({"baseline": 7}, {"baseline": 7, "growth_rate": 2, "year": 2020}),
        ({"growth_rate": 0}, {"baseline": 1, "growth_rate": 0, "year": 2020}),
        ({"year": 2030}, {"baseline": 1, "growth_rate": 2, "year": 2030}),
        ({}, {"baseline": 1, "growth_rate": 2, "year": 2020}),
        (
            {"baseline": 0, "growth_rate": 2**62, "year": 0},
            {"baseline": 0, "growth_rate": 2**62, "year": 0},
        ),
    ],
)
def test_set_quota(bench: Bench, given: dict[str, int], stored: dict[str, int]) -> None:
    """Each given key replaces the stored one; unknown keys are dropped."""
    bench.run("create_project", project="p")
    (bench.root / "p/..quota").write_text('{"baseline": 1, "growth_rate": 2, "year": 2020, "x": 3}')
    bench.run("set_quota", project="p", **given)
    assert read(bench, "p/..quota") == stored
    assert os.listdir(bench.root / "..logs") == []


def test_set_quota_where_there_is_none(bench: Bench) -> None:
    """It starts from the defaults."""
    bench.run("create_project", project="p")
    (bench.root / "p/..quota").unlink()
    bench.run("set_quota", project="p", baseline=3)
    assert {**read(bench, "p/..quota"), "year": 0} == {"baseline": 3, "growth_rate": 10**9, "year": 0}


@pytest.mark.parametrize("given", [{"baseline": True}, {"baseline": 1.0}, {"year": "2020"}, {"baseline": -1}])
def test_quotas_are_numbers(bench: Bench, given: dict[str, Any]) -> None:
    """Strictly, and no baseline is negative."""
    bench.run("create_project", project="p")
    with pytest.raises(ValidationError):
        bench.run("set_quota", project="p", **given)


def test_set_quota_refusals(bench: Bench) -> None:
    """No project: 404. A quota that cannot be read is not overwritten."""
    with pytest.raises(Absent):
        bench.run("set_quota", project="p", baseline=1)
    bench.run("create_project", project="p")
    (bench.root / "p/..quota").write_text("{")
    with pytest.raises(Fault, match=r"\.\.quota"):
        bench.run("set_quota", project="p", baseline=1)


def test_a_whole_quota_needs_no_old_one(bench: Bench) -> None:
    """That is how a quota that cannot be read is mended: nothing of it would be kept."""
    bench.run("create_project", project="p")
    (bench.root / "p/..quota").write_text("{")
    whole = {"baseline": 1, "growth_rate": 2, "year": 2020}
    bench.run("set_quota", project="p", **whole)
    assert read(bench, "p/..quota") == whole
