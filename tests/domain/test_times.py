"""Times: RFC 3339 in, RFC 3339 out, whole nanoseconds between (spec/details.md, "Values")."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gobblerd.domain.times import NANOSECONDS, format_seconds, format_time, parse_time, year_of

LAST = 253402300799 * NANOSECONDS  # the end of year 9999


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:30:00-00:30", 0),
        ("1969-12-31T23:59:59.9Z", -100_000_000),
        ("2024-02-29T12:34:56.123456789Z", 1709210096123456789),
        ("2024-02-29T12:34:56.1234567899999Z", 1709210096123456789),
        ("2000-01-01T00:00:00-00:00", 946684800 * NANOSECONDS),
        ("9999-12-31T23:59:59Z", LAST),
    ],
)
def test_what_is_a_time(text: str, nanoseconds: int) -> None:
    """Any fraction, any offset; compared exactly."""
    assert parse_time(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01 00:00:00Z",
        "2024-01-01t00:00:00z",
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00,5Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:60Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+01:60",
        "2024-01-01T00:00:00+0100",
        "2024-01-01T00:00:00Z ",
        "2024-01-01T00:00:00Z\n",
        "+2024-01-01T00:00:00Z",
        "20240101T000000Z",
        "2024-W01-1T00:00:00Z",
        "٢٠٢٤-01-01T00:00:00Z",
    ],
)
def test_what_is_none(text: str) -> None:
    """`fromisoformat` would accept some of these."""
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)


@given(st.integers(-30_000_000_000 * NANOSECONDS, LAST))
@example(0)
def test_round_trip(nanoseconds: int) -> None:
    """What is written is read again, to the microsecond; texts have one form and sort as times do."""
    text = format_time(nanoseconds)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
    assert parse_time(text) == nanoseconds // 1000 * 1000
    assert parse_time(format_seconds(nanoseconds)) == nanoseconds // NANOSECONDS * NANOSECONDS
    assert year_of(nanoseconds) == int(text[:4])


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_order(one: int, other: int) -> None:
    """Times compare as their texts do."""
    assert (one // 1000 < other // 1000) == (format_time(one) < format_time(other))


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00"])
def test_times_beyond_the_calendar_are_none(text: str) -> None:
    """A stored `until` of that kind must match nobody, not fail every upload."""
    with pytest.raises(ValueError, match="years 1 to 9999"):
        parse_time(text)
