"""gobblerd.service.when: off, intervals and cron expressions."""

from datetime import UTC, datetime

import pytest

from gobblerd.service.when import When, parse_when


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("off", When()),
        ("3600", When(every=3600)),
        ("1.5", When(every=1.5)),
        ("30 2 * * *", When(cron="30 2 * * *")),
        ("*/5 0-6 1 jan mon", When(cron="*/5 0-6 1 jan mon")),
    ],
)
def test_what_is_a_schedule(text: str, found: When) -> None:
    """The three forms."""
    assert parse_when(text) == found
    assert found.is_off == (text == "off")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "on",
        "0",
        "0.5",
        "-3",
        "inf",
        "nan",
        "1e300",
        "1 2 3",
        "61 * * * *",
        "* * * * 8",
        "* * * * 1-9",
        "* * * x *",
        "@daily",
        "* * * * 5-3",
        "* * * * */0",
    ],
)
def test_what_is_none(text: str) -> None:
    """Everything else is refused before it is used."""
    with pytest.raises(ValueError, match=r"cron expression|at least 1 second|day of the week"):
        parse_when(text)


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", {6}),
        ("7", {6}),
        ("1", {0}),
        ("0-2", {6, 0, 1}),
        ("5-7", {4, 5, 6}),
        ("1-5", {0, 1, 2, 3, 4}),
        ("*/2", {6, 1, 3, 5}),
        ("1,3", {0, 2}),
        ("sat,sun", {5, 6}),
        ("*", set(range(7))),
    ],
)
def test_weekdays_are_numbered_as_cron_does(field: str, days: set[int]) -> None:
    """0 and 7 are Sunday (APScheduler's own 0 is Monday)."""
    when = parse_when(f"0 12 * * {field}")
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    found = set()
    for _ in range(14):
        following = when.next_after(moment)
        assert following is not None
        moment = following
        found.add(moment.weekday())
    assert found == days


def test_the_next_time_is_later_than_the_moment() -> None:
    """A job that ran at its very time is next due a period later."""
    at = datetime(2026, 11, 20, 2, 30).astimezone()
    assert parse_when("30 2 * * *").next_after(at) == datetime(2026, 11, 21, 2, 30).astimezone()
    assert parse_when("60").next_after(at) == at.replace(minute=31)
    assert parse_when("off").next_after(at) is None
