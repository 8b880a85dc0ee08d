"""A survey says what is there, and passes over what cannot be read or goes away meanwhile."""

import os
from pathlib import Path

import pytest

from gobblerd.domain.names import Address
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.survey import Probational, survey


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add_version(root: Path, place: str, finish: str, *, on_probation: bool) -> None:
    put(
        root / place / "..summary",
        '{"upload_user_id": "u", "upload_start": "2026-01-01T00:00:00Z", '
        f'"upload_finish": "{finish}", "on_probation": {str(on_probation).lower()}}}',
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "big" / "..usage", '{"total": 900}')
    put(tmp_path / "big" / "..quota", '{"baseline": 500, "growth_rate": 250, "year": 2024}')
    add_version(tmp_path, "big/a/1", "2026-01-02T00:00:00Z", on_probation=True)
    add_version(tmp_path, "big/a/2", "2026-01-01T12:00:00Z", on_probation=True)
    add_version(tmp_path, "big/b/1", "2026-01-03T00:00:00Z", on_probation=False)
    put(tmp_path / "bare" / "..usage", "no JSON")
    return tmp_path


def test_usage_quota_and_what_waits_for_review(root: Path) -> None:
    """The quota is that of the year; what waits longest comes first."""
    found = survey(Metadata(str(root)), 2026)
    bare, big = found.projects
    assert (big.used, big.limit, big.assets, big.versions) == (900, 1000, 2, 3)
    assert big.share == 0.9
    assert (bare.used, bare.limit, bare.share) == (None, None, None)
    assert found.probational == (
        Probational(Address("big", "a", "2"), "u", "2026-01-01T12:00:00Z"),
        Probational(Address("big", "a", "1"), "u", "2026-01-02T00:00:00Z"),
    )


def test_times_are_compared_whatever_their_offsets_and_fractions(root: Path) -> None:
    """A Go service writes local time and whole seconds."""
    add_version(root, "big/a/1", "2026-03-01T10:00:00+02:00", on_probation=True)
    add_version(root, "big/a/2", "2026-03-01T09:00:00.5Z", on_probation=True)
    add_version(root, "big/a/3", "2026-03-01T09:00:00Z", on_probation=True)
    found = survey(Metadata(str(root)), 2026)
    assert [each.version.version for each in found.probational] == ["1", "3", "2"]


def test_a_project_that_is_deleted_meanwhile_is_passed_over(root: Path) -> None:
    class Vanishing(Metadata):
        def children(self, place: Address) -> list[Address]:
            if place == Address("big"):
                os.rename(root / "big", root.parent / f"gone-{os.urandom(4).hex()}")
            return super().children(place)

    assert [facts.name for facts in survey(Vanishing(str(root)), 2026).projects] == ["bare"]


def test_it_rests_as_long_as_it_works(root: Path) -> None:
    """A long survey leaves the interpreter to requests half of the time."""
    for n in range(3000):
        add_version(root, f"many/a/{n}", "2026-01-01T00:00:00Z", on_probation=False)
    put(root / "many" / "..usage", '{"total": 0}')
    rests: list[float] = []
    survey(Metadata(str(root)), 2026, rest=rests.append)
    assert len(rests) > 1
    assert all(rest > 0 for rest in rests)
