"""Quotas grow by the year; an upload may fill one, not more."""

import pytest

from gobblerd.domain.errors import Exceeded
from gobblerd.domain.usage import Quota, check_quota


@pytest.mark.parametrize(("year", "limit"), [(2020, 100), (2024, 100), (2025, 110), (2030, 160), (0, 100)])
def test_limit(year: int, limit: int) -> None:
    """baseline + growth_rate * max(0, Y - year)."""
    assert Quota(100, 10, 2024).limit(year) == limit


@pytest.mark.parametrize(
    ("used", "adding", "fits"), [(0, 10, True), (5, 5, True), (5, 6, False), (11, 0, False)]
)
def test_check(used: int, adding: int, *, fits: bool) -> None:
    """What just fits is taken; the refusal has the figures and says who can help."""
    if fits:
        check_quota("p", used, adding, 10)
    else:
        with pytest.raises(
            Exceeded, match=rf'"p".*{used + adding} bytes.*{used} now, {adding} new.*10 bytes.*set_quota'
        ):
            check_quota("p", used, adding, 10)
