"""Documents to be refused: valid ones of every action, with something done to them.

`mutated` is a hypothesis strategy of (action, bytes); it begins from a right document of each action and
changes types, nulls, nesting, names and numbers, or the JSON text itself.
"""

import json
from typing import Any

from hypothesis import strategies as st

NAMES = [
    "", ".", "..", "...", "..x", "a/b", "/", "a\\b", " ", "\n", '\r\n<3>{"event": "forged"}', "\t", "\0", "\x1b[2J",
    "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\uffff", "\U0010ffff", "e\u0301", "\u00e9" * 128, "x" * 255, "x" * 256,
    "x" * 100_000, "%2e%2e", "${HOME}", "{project}", "{0}", "%s", "~root", "*", "-rf", "..logs", "..LOCK", "..transactions",
    "\ud800", "a\udfffb", "null", "1", "p", "../../etc/passwd", "CON", "'; DROP", "<script>", "request-upload-1",
]  # fmt: skip
NUMBERS = [
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63) - 1,
    10**30,
    10**4000,
    1.0,
    1.5,
    -0.0,
    1e308,
    5e-324,
]
TIMES = [
    "2030-01-01T00:00:00Z",
    "9999-12-31T23:59:59+00:00",
    "0000-01-01T00:00:00Z",
    "2030-01-01",
    "99999-01-01T00:00:00Z",
]

name = st.sampled_from(NAMES) | st.text(max_size=20)
number = st.sampled_from(NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
leaf = st.none() | st.booleans() | number | name | st.sampled_from(TIMES)
anything = st.recursive(
    leaf,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(name, inner, max_size=4),
    max_leaves=12,
)
KEYS = [
    "project", "asset", "version", "source", "permissions", "owners", "uploaders", "global_write", "id", "until", "trusted",
    "spoof", "force", "to_delete", "dry_run", "baseline", "growth_rate", "year", "on_probation", "ignore_dot", "consume",
    "unknown", "__class__", "model_config", "perform", "name",
]  # fmt: skip
PLACE = {"project": "p", "asset": "a", "version": "1"}
UPLOADER = {"id": "x", "asset": "a", "version": "1", "until": TIMES[0], "trusted": True}
PERMISSIONS = {"owners": ["x"], "uploaders": [UPLOADER], "global_write": False}
RIGHT: dict[str, dict[str, Any]] = {
    "create_project": {"project": "new", "permissions": PERMISSIONS},
    "upload": {
        **PLACE,
        "version": "2",
        "source": "none",
        "on_probation": True,
        "ignore_dot": False,
        "consume": False,
    },
    "set_permissions": {"project": "p", "asset": "a", "permissions": PERMISSIONS, "spoof": "x"},
    "approve_probation": {**PLACE, "spoof": "x"},
    "reject_probation": {**PLACE, "force": True},
    "refresh_usage": {"project": "p"},
    "refresh_latest": {"project": "p", "asset": "a"},
    "reindex_version": PLACE,
    "validate_version": PLACE,
    "delete_version": {**PLACE, "version": "none", "force": False},
    "delete_asset": {"project": "p", "asset": "none"},
    "delete_project": {"project": "none"},
    "reroute_links": {"to_delete": [{"project": "none", "asset": "a", "version": "1"}], "dry_run": True},
    "set_quota": {"project": "p", "baseline": 1, "growth_rate": 2, "year": 2026},
    "health_check": {},
}


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return where in a document something can be put, itself included."""
    found = [here]
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths_of(item, (*here, key))
    if isinstance(value, list):
        for place, item in enumerate(value):
            found += paths_of(item, (*here, place))
    return found


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return the document with `value` at `path`."""
    if not path:
        return value
    copy = dict(document) if isinstance(document, dict) else list(document)
    copy[path[0]] = put(copy[path[0]], path[1:], value)
    return copy


def deep(levels: int, core: bytes) -> bytes:
    """Return `core` inside so many arrays and objects."""
    return b'[{"a":' * levels + core + b"}]" * levels


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw an action and the bytes of a document that was right before something was done to it."""
    action = draw(st.sampled_from(sorted(RIGHT)))
    document: Any = RIGHT[action]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(paths_of(document)))
        document = put(
            document, path, draw(anything if path else st.dictionaries(st.sampled_from(KEYS), anything))
        )
    if isinstance(document, dict) and draw(st.booleans()):
        document = {**document, draw(st.sampled_from(KEYS) | name): draw(anything)}
    body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return action, draw(st.sampled_from(DISTORTIONS))(body)


def _same(body: bytes) -> bytes:
    return body


def _doubled(body: bytes) -> bytes:
    """Give every key of the outermost object twice."""
    return body[:-1] + b"," + body[1:] if len(body) > 2 else body


def _deep_inside(body: bytes) -> bytes:
    return body[:-1] + b',"x":' + deep(40, b"1") + b"}" if len(body) > 2 else body


def _huge_number(body: bytes) -> bytes:
    return body.replace(b"true", b"9" * 5000).replace(b"2026", b"1e999")


DISTORTIONS = [
    *[_same] * 6,
    _doubled,
    _deep_inside,
    _huge_number,
    lambda body: body[: len(body) // 2],
    lambda body: body + body,
    lambda body: b"\xef\xbb\xbf" + body,
    lambda body: body.decode("utf-8", "replace").encode("utf-16"),
    lambda body: body.replace(b"p", b"\xff", 1),
    lambda body: body.replace(b'"', b'"\\ud800', 1),
    lambda body: body.replace(b":", b":\0", 1),
]
