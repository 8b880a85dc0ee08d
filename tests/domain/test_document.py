"""A request's document: RFC 8259 in UTF-8, and nothing more."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.domain.document import parse_object
from gobblerd.domain.errors import Wrong

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON), st.booleans())
def test_every_json_object_is_understood(document: dict[str, Any], ascii_only: bool) -> None:  # noqa: FBT001 - drawn by position
    """As `json` writes and reads it."""
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    assert parse_object(body) == json.loads(body)


@given(st.binary())
def test_anything_is_an_object_or_wrong(body: bytes) -> None:
    """No other error comes out; what is taken, `json` takes too."""
    try:
        found = parse_object(body)
    except Wrong:
        return
    assert found == json.loads(body)


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 5000, "9" * 1_000_000])
def test_an_integer_of_any_length_is_json(digits: str) -> None:
    """RFC 8259 bounds no number; what Python does not take as an integer is no error of the document."""
    found = parse_object(b'{"a": 1, "b": ' + digits.encode() + b"}")
    assert found == {"a": 1, "b": float("-inf") if digits.startswith("-") else float("inf")}
    assert type(found["a"]) is int


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "is empty"),
        (b"{", "JSON"),
        (b"{}x", "JSON"),
        (b"{} {}", "JSON"),
        (b"[]", "an array"),
        (b'"text"', "a string"),
        (b"1", "a number"),
        (b"1.5", "a number"),
        (b"true", "a boolean"),
        (b"null", "null"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": Infinity}', "Infinity"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1, "a": 1}', "twice"),
        (b'{"a": {"b": 1, "b": 2}}', "twice"),
        (b'{"a": 01}', "JSON"),
        (b"{'a': 1}", "JSON"),
        (b'{"a": 1,}', "JSON"),
        (b'{"a": "\n"}', "JSON"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b"\xef\xbb\xbf{}", "byte-order mark"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"\\udc00": 1}', "surrogate"),
        (b'{"a": ["\\udc00\\ud800"]}', "surrogate"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "64"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "64"),
        (b"[" * 1_000_000, "JSON|64"),
    ],
)
def test_what_is_refused(body: bytes, says: str) -> None:
    """Each with a sentence that says what is the matter."""
    with pytest.raises(Wrong, match=says):
        parse_object(body)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b" \t\r\n{ } \n", {}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b'{"a": 1e400}', {"a": float("inf")}),
        (b'{"a": -0}', {"a": 0}),
    ],
)
def test_what_is_taken(body: bytes, found: dict[str, Any]) -> None:
    """White space around, pairs of surrogates, escapes."""
    assert parse_object(body) == found


def test_nesting_just_allowed() -> None:
    """64 levels, the document's own counted."""
    assert parse_object(b'{"a":' + b"[" * 63 + b"1" + b"]" * 63 + b"}")


def test_a_string_is_no_level() -> None:
    """Arrays and objects nest; what is in the last of them does not."""
    parse_object(b'{"a":' + b"[" * 63 + b'"x"' + b"]" * 63 + b"}")


def test_a_long_duplicate_key_gives_a_short_reason() -> None:
    """A reason is a sentence, whatever it quotes."""
    key = b"k" * 1_000_000
    with pytest.raises(Wrong) as caught:
        parse_object(b'{"%s":1,"%s":1}' % (key, key))
    assert len(caught.value.reason) < 1000
