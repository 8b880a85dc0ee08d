"""Which version is the latest, and when an upload is said to have finished."""

import pytest

from gobblerd.domain.errors import Fault
from gobblerd.domain.times import format_time, parse_time
from gobblerd.domain.version import Latest, Summary, finish_time, latest_of


def summary(finish: str, *, on_probation: bool = False) -> Summary:
    return Summary("u", "2026-01-01T00:00:00Z", finish, on_probation)


@pytest.mark.parametrize(
    ("finishes", "latest"),
    [
        ({}, None),
        ({"1": "2026-01-01T00:00:00Z"}, "1"),
        ({"1": "2026-01-02T00:00:00Z", "2": "2026-01-01T00:00:00Z"}, "1"),
        ({"1": "2026-01-01T00:00:00.9Z", "2": "2026-01-01T00:00:00.10Z"}, "1"),
        ({"1": "2026-01-01T05:00:00+05:00", "2": "2026-01-01T00:00:01Z"}, "2"),
        ({"b": "2026-01-01T00:00:00Z", "a": "2026-01-01T00:00:00Z"}, "b"),
    ],
)
def test_the_latest_finished_last(finishes: dict[str, str], latest: str | None) -> None:
    """Compared as times, not as texts; of two equal ones the greater name, in any order."""
    found = [(name, summary(finish)) for name, finish in finishes.items()]
    expected = Latest(latest) if latest else None
    assert latest_of(found) == expected == latest_of(reversed(found))


def test_probational_versions_are_never_the_latest() -> None:
    """However late they are."""
    found = [
        ("1", summary("2026-01-01T00:00:00Z")),
        ("2", summary("2027-01-01T00:00:00Z", on_probation=True)),
    ]
    assert latest_of(found) == Latest("1")
    assert latest_of(found[1:]) is None


@pytest.mark.parametrize(
    "before", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.999999999Z"]
)
@pytest.mark.parametrize("later", [-(10**12), -1, 0, 1, 999, 1000, 10**12])
def test_a_finish_is_later_than_the_latest_s(before: str, later: int) -> None:
    """Also as it is written, with microseconds; and never earlier than now."""
    latest = summary(before)
    now = latest.finish + later
    finish = finish_time(now, latest)
    assert parse_time(format_time(finish)) > latest.finish
    assert finish >= now
    assert finish_time(now, None) == now


def test_approval_drops_the_flag_only() -> None:
    """Who and when stay."""
    assert summary("x", on_probation=True).approved() == summary("x")


def test_a_latest_version_of_the_last_moment() -> None:
    """Nothing can follow it: that is said, and what to do."""
    last = Summary("u", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z")
    with pytest.raises(Fault, match=r"later than the latest version, of .*9999.*: correct upload_finish"):
        finish_time(0, last)
