"""Messages: facts are quoted and escaped, so that nothing a user wrote can forge a line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.domain import errors
from gobblerd.domain.errors import Busy, Kind, Plain, Stopped, Wrong, escaped, quoted, told


@given(st.text())
def test_quoting_never_yields_control_characters(text: str) -> None:
    """One line, valid UTF-8, in quotes that nothing inside can close."""
    for shown in (escaped(text), quoted(text), Wrong("x {a} y", a=text).reason):
        assert shown.encode("utf-8").decode("utf-8") == shown
        assert not any(unicodedata.category(c) in {"Cc", "Zl", "Zp", "Cs"} for c in shown)
        assert len(shown.splitlines()) <= 1
    inner = quoted(text)[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner


@given(st.text(st.characters(categories=["L", "N", "So"])))
def test_ordinary_text_is_shown_as_it_is(text: str) -> None:
    """Letters of any script."""
    assert escaped(text) == text


@pytest.mark.parametrize(
    ("fact", "shown"),
    [
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("a\nb\x1b[31m", '"a\\nb\\x1b[31m"'),
        ("\udce9", '"\\udce9"'),
        ("{x}", '"{x}"'),
        ("x" * 301, '"' + "x" * 300 + '..."'),
        (Plain("as it is"), "as it is"),
        (7, "7"),
        (None, "None"),
        (ValueError("a\nb"), "a\\nb"),
    ],
)
def test_facts(fact: object, shown: str) -> None:
    """Strings in quotes, our own words plain, anything else escaped."""
    assert Wrong("<{fact}>", fact=fact).reason == f"<{shown}>"


def test_kinds() -> None:
    """Each class says which kind of answer it is; a stop is something to try again."""
    found = {
        name: getattr(errors, name).kind
        for name in ("Wrong", "Forbidden", "Absent", "Exceeded", "Invalid", "Busy", "Fault")
    }
    assert sorted(found.values()) == sorted(Kind)
    assert isinstance(Stopped(), Busy)
    assert "shutting down" in Stopped().reason
    assert Wrong("no facts").details() == {}


def test_what_a_person_is_told() -> None:
    """A refusal's reason; of the system's errors the place, if there is one, and no number."""
    assert told(Wrong("no {thing}", thing="x")) == 'no "x"'
    assert (
        told(FileNotFoundError(2, "No such file or directory", "/a\nb"))
        == "/a\\nb: No such file or directory"
    )
    assert told(OSError(5, "Input/output error")) == "Input/output error"
    assert told(OSError("as it is")) == "as it is"
