"""The documented form of every JSON document of the registry, to the letter (spec/registry.md).

`documents.py` reads as leniently as the format allows; what it lets pass in silence is found here: keys that
are not documented, absent or null where the document says otherwise, keys given twice. Rot in a key's name
shows itself so, too.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gobblerd.domain.errors import quoted
from gobblerd.domain.times import parse_time
from gobblerd.registry import layout
from gobblerd.registry.audit_findings import Misfit

At = tuple[str, ...]  # the keys on the way to a value, outermost first
Form = Callable[[Any, At], Iterator[Misfit]]

_CHECKSUM = re.compile(r"[0-9a-f]{32}", re.ASCII)


class _TwiceError(ValueError):
    """An object has a key twice."""


def misfits(data: bytes, form: Form) -> Iterator[Misfit]:
    """Yield where a document departs from its form; one that does not parse at all is a misfit too."""
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        yield _misfit((), "a JSON document in which no key occurs twice", str(error), is_wrong=True)
        return
    yield from form(document, ())


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


def table(item: Form) -> Form:
    """Return the form of an object whose keys are names or paths."""

    def check(found: Any, at: At) -> Iterator[Misfit]:
        if not isinstance(found, dict):
            yield _misfit(at, "an object", _shown(found), is_wrong=True)
            return
        for key, each in found.items():
            yield from item(each, (*at, key))

    return check


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
MANIFEST = table(_ENTRY)
LINKS = table(_LINK)
CHECKSUMS = table(_FAST)
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
