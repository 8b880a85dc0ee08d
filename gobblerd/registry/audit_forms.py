"""The documented form of every JSON document of the registry, to the letter (spec/registry.md).

`documents.py` reads as leniently as the format allows; what it lets pass in silence is found here: keys that
are not documented, absent or null where the document says otherwise, keys given twice. Rot in a key's name
shows itself so, too.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gobblerd.domain.errors import quoted
from gobblerd.domain.times import parse_time
from gobblerd.registry import layout
from gobblerd.registry.audit_findings import Misfit

At = tuple[str, ...]  # the keys on the way to a value, outermost first
Form = Callable[[Any, At], Iterator[Misfit]]

_SPACE = " \t\n\r"
_CHECKSUM = re.compile(r"[0-9a-f]{32}", re.ASCII)


class _TwiceError(ValueError):
    """An object has a key twice."""


def misfits(data: bytes, form: Form) -> Iterator[Misfit]:
    """Yield where a document departs from its form; one that does not parse at all is a misfit too.

    A table is parsed entry by entry: there may be a million.
    """
    try:
        text = data.decode("utf-8")
        if isinstance(form, _Table) and text.lstrip(_SPACE).startswith("{"):
            for key, each in _entries(text):
                yield from form.item(each, (key,))
            return
        document = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        yield _misfit((), "a JSON document in which no key occurs twice", str(error), is_wrong=True)
        return
    yield from form(document, ())


def _entries(text: str) -> Iterator[tuple[str, Any]]:
    """Yield key and value of each entry of a JSON object; ValueError for a key that occurs twice."""
    decoder = json.JSONDecoder(object_pairs_hook=_once)
    seen: set[int] = set()  # of keys the hashes: they take a fifth
    at = _past(text, 0, "{")
    if text[at : at + 1] != "}":
        while True:
            key, at = _key(text, at, decoder)
            if hash(key) in seen and _occurs_before(text, key, at):
                raise _TwiceError("a key that occurs twice")
            seen.add(hash(key))
            each, at = decoder.raw_decode(text, _past(text, at, ":"))
            yield key, each
            at = _skipped(text, at)
            if text[at : at + 1] != ",":
                break
            at = _skipped(text, at + 1)
    if _past(text, at, "}") != len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def _occurs_before(text: str, key: str, end: int) -> bool:
    """Tell whether a key is among those that come before the one that ends at `end`."""
    decoder, at = json.JSONDecoder(), _past(text, 0, "{")
    while True:
        found, at = _key(text, at, decoder)
        if at >= end:
            return False
        if found == key:
            return True
        _, at = decoder.raw_decode(text, _past(text, at, ":"))
        at = _past(text, at, ",")


def _key(text: str, at: int, decoder: json.JSONDecoder) -> tuple[str, int]:
    if text[at : at + 1] != '"':
        raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
    key, end = decoder.raw_decode(text, at)
    return str(key), end


def _skipped(text: str, at: int) -> int:
    while text[at : at + 1] and text[at] in _SPACE:
        at += 1
    return at


def _past(text: str, at: int, what: str) -> int:
    """Return where to go on behind one character that must come next, and the spaces around it."""
    at = _skipped(text, at)
    if text[at : at + 1] != what:
        raise json.JSONDecodeError(f"Expecting {what!r} delimiter", text, at)
    return _skipped(text, at + 1)


def _misfit(at: At, expected: str, found: str, *, is_wrong: bool) -> Misfit:
    return Misfit(" ".join(map(quoted, at)), expected, found, is_wrong)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _TwiceError("a key that occurs twice")
    return found


def _shown(value: Any) -> str:
    return quoted(json.dumps(value)) if isinstance(value, dict | list) else json.dumps(value)


def value(what: str, test: Callable[[Any], bool]) -> Form:
    """Return the form of a value that passes the test."""

    def check(found: Any, at: At) -> Iterator[Misfit]:
        if not test(found):
            yield _misfit(at, what, _shown(found), is_wrong=True)

    return check


def keys(required: Mapping[str, Form], optional: Mapping[str, Form] | None = None, *, lenient: bool) -> Form:
    """Return the form of an object with these keys; `lenient` if readers take null and absence for empty."""
    known = {**required, **(optional or {})}

    def check(found: Any, at: At) -> Iterator[Misfit]:
        if not isinstance(found, dict):
            yield _misfit(at, "an object", _shown(found), is_wrong=True)
            return
        for key in required.keys() - found.keys():
            yield _misfit(at, f"the key {quoted(key)}", "no such key", is_wrong=not lenient)
        for key, each in found.items():
            form = known.get(key)
            if form is None:
                yield _misfit(at, "documented keys only", f"the key {quoted(key)}", is_wrong=False)
            elif each is None and lenient:
                yield _misfit(at, f"a value of {quoted(key)}", "null", is_wrong=False)
            else:
                yield from form(each, (*at, key))

    return check


@dataclass(frozen=True, slots=True)
class _Table:
    """The form of an object whose keys are names or paths."""

    item: Form

    def __call__(self, found: Any, at: At) -> Iterator[Misfit]:
        if not isinstance(found, dict):
            yield _misfit(at, "an object", _shown(found), is_wrong=True)
            return
        for key, each in found.items():
            yield from self.item(each, (*at, key))


def array(item: Form) -> Form:
    """Return the form of an array."""

    def check(found: Any, at: At) -> Iterator[Misfit]:
        if not isinstance(found, list):
            yield _misfit(at, "an array", _shown(found), is_wrong=True)
            return
        for number, each in enumerate(found):
            yield from item(each, (*at, f"[{number}]"))

    return check


def _is_time(found: Any) -> bool:
    try:
        parse_time(found)
    except (TypeError, ValueError):
        return False
    return True


_ANY = value("a value", lambda _: True)  # compared with bytes, links and other documents elsewhere
_TEXT = value("a string", lambda found: isinstance(found, str))
_FILLED = value("a string that is not empty", lambda found: isinstance(found, str) and bool(found))
_FLAG = value("true or false", lambda found: isinstance(found, bool))
_COUNT = value("a whole number, not negative", lambda found: type(found) is int and found >= 0)
_TIME = value("a time", _is_time)
_FAST = value("an xxh3-128", lambda found: isinstance(found, str) and bool(_CHECKSUM.fullmatch(found)))

_VERSION = {"project": _FILLED, "asset": _FILLED, "version": _FILLED}
_FILE = {**_VERSION, "path": _FILLED}
_LINK = keys(_FILE, {"ancestor": keys(_FILE, lenient=True)}, lenient=True)
_ENTRY = keys({"size": _ANY, "md5sum": _ANY}, {"link": _LINK}, lenient=True)
_UPLOADER = {"id": _TEXT, "version": _TEXT, "until": _TEXT, "trusted": _FLAG}


def _permissions(uploader: Mapping[str, Form], optional: Mapping[str, Form]) -> Form:
    rest = {key: form for key, form in uploader.items() if key != "id"}
    uploaders = array(keys({"id": _TEXT}, rest, lenient=True))
    return keys({"owners": array(_TEXT), "uploaders": uploaders}, optional, lenient=True)


PROJECT_PERMISSIONS = _permissions({**_UPLOADER, "asset": _TEXT}, {"global_write": _FLAG})
ASSET_PERMISSIONS = _permissions(_UPLOADER, {})
QUOTA = keys({"baseline": _COUNT, "growth_rate": _COUNT, "year": _COUNT}, lenient=False)
USAGE = keys({"total": _COUNT}, lenient=False)
LATEST = keys({"version": _FILLED}, lenient=False)
MARKER = keys(
    {"format": value("a format that is known", lambda found: found == layout.MARKER_FORMAT), "id": _FILLED},
    lenient=False,
)
MANIFEST = _Table(_ENTRY)
LINKS = _Table(_LINK)
CHECKSUMS = _Table(_FAST)
SUMMARY = keys(
    {"upload_user_id": _ANY, "upload_start": _ANY, "upload_finish": _ANY},  # checks.py judges the values
    {"on_probation": _FLAG},
    lenient=True,
)

_LATEST_TOO = {**_VERSION, "latest": _FLAG}
_EVENTS: Mapping[str, Form] = {
    kind: keys({"type": _TEXT, **fields}, lenient=False)
    for kind, fields in {
        "add-version": _LATEST_TOO,
        "delete-version": _LATEST_TOO,
        "reindex-version": _LATEST_TOO,
        "delete-asset": {"project": _FILLED, "asset": _FILLED},
        "delete-project": {"project": _FILLED},
    }.items()
}


def event(found: Any, at: At) -> Iterator[Misfit]:
    """Judge an event: one of the documented types, with that type's keys."""
    kind = found.get("type") if isinstance(found, dict) else None
    form = _EVENTS.get(kind) if isinstance(kind, str) else None
    if form is None:
        yield _misfit(at, "an event of a documented type", _shown(found), is_wrong=True)
    else:
        yield from form(found, at)
