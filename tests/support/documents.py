"""What each metadata document of a registry must look like, as a table (spec/registry.md).

Part of the checker, and independent of gobblerd's own code on purpose. A document is checked for exactly
the documented keys and types; what the values mean is checker.py's business.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Self

TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))", re.ASCII)
MD5 = re.compile(r"[0-9a-f]{32}", re.ASCII)
Event = tuple[tuple[str, Any], ...]  # its items, sorted
Check = Callable[[Any], list[str]]  # what is wrong with a value, if anything


def nanoseconds(text: str) -> int:
    """Return an RFC 3339 time as nanoseconds since the epoch; ValueError if it is none."""
    found = TIME.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no RFC 3339 time")
    moment = datetime.fromisoformat(found[1]).replace(tzinfo=UTC)
    if found[3]:
        offset = timedelta(hours=int(found[4]), minutes=int(found[5]))
        moment -= offset if found[3] == "+" else -offset
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86400 + whole.seconds) * 10**9 + int((found[2] or "0").ljust(9, "0"))


def text(value: Any) -> list[str]:
    """Any string."""
    return [] if isinstance(value, str) else [f"{value!r} is no string"]


def filled(value: Any) -> list[str]:
    """A string that is not empty."""
    return [] if isinstance(value, str) and value else [f"{value!r} is no non-empty string"]


def count(value: Any) -> list[str]:
    """A whole number, not negative; a boolean is none."""
    return [] if type(value) is int and value >= 0 else [f"{value!r} is no count"]


def flag(value: Any) -> list[str]:
    """True or false."""
    return [] if isinstance(value, bool) else [f"{value!r} is no boolean"]


def moment(value: Any) -> list[str]:
    """A real date and time with an offset."""
    try:
        nanoseconds(value)
    except (ValueError, TypeError):
        return [f"{value!r} is no RFC 3339 time"]
    return []


def checksum(value: Any) -> list[str]:
    """An MD5 in lower-case hex, or "" (an empty directory)."""
    valid = isinstance(value, str) and (not value or MD5.fullmatch(value))
    return [] if valid else [f"{value!r} is no MD5"]


def fast_checksum(value: Any) -> list[str]:
    """An xxh3-128: as many hex digits as an MD5."""
    return [] if isinstance(value, str) and MD5.fullmatch(value) else [f"{value!r} is no xxh3-128"]


def word(expected: str) -> Check:
    """Return a check for exactly this string."""
    return lambda value: [] if value == expected else [f"{value!r} is not {expected!r}"]


def array(item: Check) -> Check:
    """Return a check for an array (never null) of such items."""

    def check(value: Any) -> list[str]:
        if not isinstance(value, list):
            return [f"{value!r} is no array"]
        return [f"[{i}]: {flaw}" for i, found in enumerate(value) for flaw in item(found)]

    return check


def table(item: Check) -> Check:
    """Return a check for an object with any keys and such values."""

    def check(value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{value!r} is no object"]
        return [f"[{key!r}]: {flaw}" for key, found in value.items() for flaw in item(found)]

    return check


def document(required: Mapping[str, Check], optional: Mapping[str, Check] | None = None) -> Check:
    """Return a check for an object with exactly these keys."""
    known = {**required, **(optional or {})}

    def check(value: Any) -> list[str]:
        if not isinstance(value, dict):
            return [f"{value!r} is no object"]
        return [
            *(f"key {key!r} is missing" for key in required if key not in value),
            *(f"key {key!r} is not documented" for key in value if key not in known),
            *(f"{key}: {flaw}" for key in known if key in value for flaw in known[key](value[key])),
        ]

    return check


PLACE = {"project": filled, "asset": filled, "version": filled}
FILE = {**PLACE, "path": filled}
LINK = document(FILE, {"ancestor": document(FILE)})
UPLOADER = document({"id": text}, {"asset": text, "version": text, "until": text, "trusted": flag})
OWNED = {"owners": array(text), "uploaders": array(UPLOADER)}
ASSET_UPLOADER = document({"id": text}, {"version": text, "until": text, "trusted": flag})

DOCUMENTS: Mapping[str, Check] = {
    "..manifest": table(document({"size": count, "md5sum": checksum}, {"link": LINK})),
    "..links": table(LINK),
    "..checksums": table(fast_checksum),
    "..summary": document(
        {"upload_user_id": filled, "upload_start": moment, "upload_finish": moment}, {"on_probation": flag}
    ),
    "..latest": document({"version": filled}),
    "..usage": document({"total": count}),
    "..quota": document({"baseline": count, "growth_rate": count, "year": count}),
    "..permissions": document(OWNED, {"global_write": flag}),
    "asset's ..permissions": document({"owners": array(text), "uploaders": array(ASSET_UPLOADER)}),
}

_LATEST = {**PLACE, "latest": flag}
EVENTS: Mapping[str, Check] = {
    kind: document({"type": word(kind), **fields})
    for kind, fields in {
        "add-version": _LATEST,
        "delete-version": _LATEST,
        "reindex-version": _LATEST,
        "delete-asset": {"project": filled, "asset": filled},
        "delete-project": {"project": filled},
    }.items()
}


def event(value: Any) -> list[str]:
    """One of the documented events."""
    kind = value.get("type") if isinstance(value, dict) else None
    return EVENTS[kind](value) if kind in EVENTS else [f"{value!r} is no documented event"]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def parse(data: bytes) -> Any:
    """Parse one JSON document; ValueError if it is none or repeats a key."""
    return json.loads(data.decode("utf-8"), object_pairs_hook=_once)


def events(registry: str) -> Counter[Event]:
    """Return how often each event was logged; events are sorted tuples of their items."""
    logs = os.path.join(registry, "..logs")
    found: Counter[Event] = Counter()
    for name in os.listdir(logs) if os.path.isdir(logs) else ():
        with open(os.path.join(logs, name), "rb") as file:
            found[as_event(**parse(file.read()))] += 1
    return found


def as_event(**items: Any) -> Event:
    """Return an event in the form that `events` counts."""
    return tuple(sorted(items.items()))


class Logged:
    """What is logged while a block runs: `with Logged(registry) as logged: ...`, then `logged.events`."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self.events: dict[Event, int] = {}

    def __enter__(self) -> Self:
        """Look at what is logged already."""
        self._before = events(self._registry)
        return self

    def __exit__(self, *_: object) -> None:
        """Look again, and keep what is new."""
        self.events = dict(events(self._registry) - self._before)
