"""JSON as RFC 8259 has it and nothing more (spec/details.md, "Taking up a request").

`json.loads` alone would take a byte-order mark, UTF-16, NaN, duplicate keys and lone surrogates.
"""

import json
from typing import Any, NoReturn

from gobblerd.domain.errors import Plain, Wrong, quoted

NESTING_MAX = 64


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {quoted(key)} occurs twice in one object")
        found[key] = value
    return found


def _number(text: str) -> int | float:
    """Return an integer; or where it has more digits than Python takes, an infinity."""
    try:
        return int(text)
    except ValueError:
        return float(text)  # valid JSON too, but too large for any use


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_number, parse_constant=_refuse_constant)


def parse_object(body: bytes, *, what: str = "the request", nesting_max: int = NESTING_MAX) -> dict[str, Any]:
    """Return the one JSON object that `body` is; Wrong with what is the matter if it is anything else.

    `what` is what the sentence calls the document.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Wrong("{what} is not valid UTF-8 (byte {at})", at=error.start, what=Plain(what)) from None
    if not text:
        raise Wrong("{what} is empty", what=Plain(what))
    if text.startswith("\ufeff"):
        raise Wrong("{what} begins with a byte-order mark; write it as UTF-8 without one", what=Plain(what))
    try:
        found = _DECODER.decode(text)
    except RecursionError:
        raise Wrong(
            "{what} is nested deeper than {most} levels", most=nesting_max, what=Plain(what)
        ) from None
    except ValueError as error:
        raise Wrong("{what} is not valid JSON: {error}", error=Plain(error), what=Plain(what)) from None
    if not isinstance(found, dict):
        raise Wrong("{what} is not a JSON object, but {found}", found=Plain(_called(found)), what=Plain(what))
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > nesting_max:  # else it can be neither
        _check_values(found, what, nesting_max)
    return found


def _called(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _check_values(document: dict[str, Any], what: str, nesting_max: int) -> None:
    """Refuse unpaired surrogates and deep nesting; iterative, so that depth cannot hurt."""
    pending: list[tuple[Any, int]] = [(document, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            _check_text(value, what)
            continue
        if depth > nesting_max:
            raise Wrong("{what} is nested deeper than {most} levels", most=nesting_max, what=Plain(what))
        if isinstance(value, dict):
            pending.extend(
                (item, depth + 1) for item in value.values() if isinstance(item, dict | list | str)
            )
            for key in value:
                _check_text(key, what)
        else:
            pending.extend((item, depth + 1) for item in value if isinstance(item, dict | list | str))


def _check_text(text: str, what: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Wrong("{what} holds an unpaired surrogate in {text}", text=text, what=Plain(what)) from None
