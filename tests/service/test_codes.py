"""gobblerd.service.codes: what an error is answered with, whoever answers."""

from collections.abc import Mapping
from typing import Any

import pytest

from gobblerd.domain.errors import Absent, Busy, Exceeded, Fault, Forbidden, Invalid, Kind, Refused, Wrong
from gobblerd.service.codes import STATUS, refusal


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Wrong, 400),
        (Forbidden, 403),
        (Absent, 404),
        (Exceeded, 413),
        (Invalid, 422),
        (Fault, 500),
        (Busy, 503),
    ],
)
def test_each_kind_has_its_code(error: type[Refused], code: int) -> None:
    """And the sentence."""
    assert refusal(error("no {thing}", thing="x")) == (code, {"status": "ERROR", "reason": 'no "x"'})


def test_no_kind_is_forgotten() -> None:
    assert {*STATUS} == {*Kind}


def test_details_are_told() -> None:
    """What an error has to say besides its sentence."""

    class Detailed(Invalid):
        def details(self) -> Mapping[str, Any]:
            return {"problems": [1]}

    assert refusal(Detailed("two")) == (422, {"status": "ERROR", "reason": "two", "problems": [1]})
