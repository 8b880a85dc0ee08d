"""Numbers and times as people read them, and addresses that lead back to the page."""

from urllib.parse import parse_qs

import pytest

from gobblerd.service.web.page.figures import Pager, count, here, moment, page_number, schedule, size, span


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (123_456_789, "123 MB"),
        (10**21, "1000 EB"),
        (None, "\u2013"),
    ],
)
def test_sizes_have_three_digits(number: int | None, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12 ms"), (1.5, "1.5 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (None, "\u2013")],
)
def test_spans_have_a_fitting_unit(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-11-20T10:37:45.123456Z", "2026-11-20 10:37:45 UTC"),
        ("2026-11-20T10:37:45Z", "2026-11-20 10:37:45 UTC"),
        ("2026-11-20T10:37:45+01:00", "2026-11-20T10:37:45+01:00"),
        ("", "\u2013"),
    ],
)
def test_moments_are_in_utc_or_as_written(text: str, shown: str) -> None:
    assert moment(text) == shown


def test_schedules_are_said_in_words() -> None:
    assert [schedule(when) for when in ("3600", "30 2 * * *", "", "0")] == [
        "every 1.0 h",
        "30 2 * * *",
        "off",
        "0",
    ]


def test_an_address_survives_any_name() -> None:
    """Spaces, signs and letters of any script come back as they were."""
    path = "a b/&c=d/\u00e9#%2F"
    assert parse_qs(here(path=path, page=2, q="")[1:]) == {"path": [path], "page": ["2"]}
    assert here() == "?view=projects"


def test_a_pager_counts_from_one() -> None:
    pager = Pager(total=250, page=3, per_page=100)
    assert (pager.first, pager.last, pager.pages) == (201, 250, 3)
    assert list(pager.part(range(250))) == list(range(200, 250))
    assert Pager(0, 1, 100).pages == 1
    assert count(1_234_567) == "1,234,567"


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1e3", "\u0663", "99999999999"])
def test_a_page_that_is_none_is_the_first(text: str) -> None:
    assert page_number(text) == 1
