"""Nonsense is answered with a clear 400: every field of every action, and every kind of bad document.

Everything is asked by an administrator of a project that is there, so that only the nonsense can be at fault.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.checker import assert_clean
from support.daemon import RunningDaemon, StartDaemon, address
from support.stage import FILES

MISSING = object()
VERSION = address("p/a/1")
UPLOAD = {**address("p/a/2"), "source": "none"}
# Action -> a document that is right in form, and what kind of value each field takes; "!" if required.
FORMS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "create_project": ({"project": "new"}, {"project": "new name!", "permissions": "permissions"}),
    "upload": (
        UPLOAD,
        {
            "project": "name!",
            "asset": "new name!",
            "version": "new name!",
            "source": "source!",
            "on_probation": "flag",
            "ignore_dot": "flag",
            "consume": "flag",
            "spoof": "user",
        },
    ),
    "set_permissions": (
        {"project": "p", "permissions": {}},
        {"project": "name!", "asset": "name", "permissions": "permissions!", "spoof": "user"},
    ),
    "approve_probation": (
        VERSION,
        {"project": "name!", "asset": "name!", "version": "name!", "spoof": "user"},
    ),
    "reject_probation": (
        VERSION,
        {"project": "name!", "asset": "name!", "version": "name!", "force": "flag", "spoof": "user"},
    ),
    "refresh_usage": ({"project": "p"}, {"project": "name!"}),
    "refresh_latest": (address("p/a"), {"project": "name!", "asset": "name!"}),
    "reindex_version": (VERSION, {"project": "name!", "asset": "name!", "version": "name!"}),
    "validate_version": (VERSION, {"project": "name!", "asset": "name!", "version": "name!"}),
    "delete_version": (
        VERSION,
        {"project": "name!", "asset": "name!", "version": "name!", "force": "flag"},
    ),
    "delete_asset": (address("p/a"), {"project": "name!", "asset": "name!", "force": "flag"}),
    "delete_project": ({"project": "p"}, {"project": "name!", "force": "flag"}),
    "reroute_links": (
        {"to_delete": [{"project": "p"}]},
        {"to_delete": "places!", "dry_run": "flag"},
    ),
    "set_quota": (
        {"project": "p"},
        {"project": "name!", "baseline": "number", "growth_rate": "number", "year": "number"},
    ),
}
NO_TEXT = [1, 1.5, True, [], {}, ["p"]]
NO_NAME = ["", ".", "..", "..x", "a/b", "/a", "a/", "x" * 256, "\u00e9" * 128, "nul\0"]
NO_NEW_NAME = ["a\\b", "line\nfeed", "tab\t", "del\x7f", "c1\x85"]
NO_PERMISSIONS: list[Any] = [
    "text",
    1,
    True,
    [],
    {"owners": "text"},
    {"owners": {}},
    {"owners": [1]},
    {"owners": [None]},
    {"owners": [["a"]]},
    {"uploaders": "text"},
    {"uploaders": {}},
    {"uploaders": ["text"]},
    {"uploaders": [None]},
    {"uploaders": [{}]},
    {"uploaders": [{"asset": "a"}]},
    {"uploaders": [{"id": None}]},
    {"uploaders": [{"id": 1}]},
    {"uploaders": [{"id": "a", "asset": 1}]},
    {"uploaders": [{"id": "a", "version": ["1"]}]},
    {"uploaders": [{"id": "a", "trusted": "yes"}]},
    {"uploaders": [{"id": "a", "trusted": 1}]},
    *(
        {"uploaders": [{"id": "a"}, {"id": "b", "until": until}]}
        for until in (
            1,
            "",
            "tomorrow",
            "2030-01-01",
            "2030-01-01T00:00:00",
            "2030-01-01 00:00:00Z",
            "2030-13-01T00:00:00Z",
            "2030-02-30T00:00:00Z",
            "2030-01-01T24:00:00Z",
            "2030-01-01T00:60:00Z",
            "2030-01-01T00:00:60Z",
            "2030-01-01T00:00:00+0100",
            "2030-W01-1T00:00:00Z",
            " 2030-01-01T00:00:00Z",
            "\u0662030-01-01T00:00:00Z",
        )
    ),
    {"global_write": "true"},
    {"global_write": 1},
]
NO_PLACES: list[Any] = [
    "text",
    1,
    {},
    {"project": "p"},
    ["p"],
    [None],
    [[]],
    [{}],
    [{"project": None}],
    [{"project": 1}],
    [{"project": ".."}],
    [{"project": "p"}, {"project": ""}],
    [{"asset": "a"}],
    [{"project": "p", "asset": 1}],
    [{"project": "p", "asset": "a/b"}],
    [{"project": "p", "version": "1"}],
    [{"project": "p", "asset": None, "version": "1"}],
    [{"project": "p", "asset": "a", "version": ".."}],
]
BAD: dict[str, list[Any]] = {
    "name": [*NO_TEXT, *NO_NAME],
    "new name": [*NO_TEXT, *NO_NAME, *NO_NEW_NAME],
    "source": [*NO_TEXT, "", ".", "..", "..x", "a/b", "/etc", "../p", "nul\0"],
    "flag": ["true", "yes", 1, 0, 1.0, [], {}],
    "user": NO_TEXT,
    "number": ["1", True, 1.5, [], {}, "1e3"],
    "permissions": NO_PERMISSIONS,
    "places": NO_PLACES,
}
WRONG = [
    (action, field, value)
    for action, (_, fields) in FORMS.items()
    for field, kind in fields.items()
    for value in (*BAD[kind.rstrip("!")], *([MISSING, None] if kind.endswith("!") else []))
]


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", FILES)
    return daemon


@pytest.fixture(scope="module", autouse=True)
def unchanged(daemon: RunningDaemon) -> Iterator[None]:
    """Whatever is asked here, the registry is as it was."""
    before = registry_state(daemon)
    yield
    assert registry_state(daemon) == before
    assert_clean(daemon.registry)


def registry_state(daemon: RunningDaemon) -> dict[str, Any]:
    return {
        name: daemon.read("p", name) for name in ("..permissions", "..usage", "..quota", "a/..latest")
    } | {"projects": sorted(name for name in os.listdir(daemon.registry) if not name.startswith(".."))}


def words_of(field: str, value: Any) -> set[str]:
    """Return the words of which a reason must hold one: the field, or a key of the object that it takes."""
    if isinstance(value, dict) and value:
        inside = {word for key, item in value.items() for word in words_of(key, item)}
        return inside | ({field} if field == "to_delete" else set())
    if isinstance(value, list):
        return {field}.union(*(words_of(field, item) for item in value))
    return {field}


def shown(value: Any) -> str:
    return "missing" if value is MISSING else json.dumps(value)[:40]


@pytest.mark.parametrize(
    ("action", "field", "value"), WRONG, ids=[f"{a}-{f}-{n}-{shown(v)}" for n, (a, f, v) in enumerate(WRONG)]
)
def test_each_field(daemon: RunningDaemon, action: str, field: str, value: Any) -> None:
    """A missing, ill-typed or forbidden value is 400, and the reason names the field."""
    document = {**FORMS[action][0], field: value}
    if value is MISSING:
        del document[field]
    answer = daemon.ask(action, document)
    assert answer.code == 400, answer
    assert set(answer.body) == {"status", "reason"}
    assert answer.body["status"] == "ERROR"
    assert any(word in answer.reason for word in words_of(field, value)), answer.reason
    assert "\n" not in answer.reason
    assert "Traceback" not in answer.reason
    assert "pydantic" not in answer.reason


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("refresh_usage", {"project": "p", "unknown": None}),
    ("set_quota", {"project": "p", "baseline": None, "growth_rate": None, "year": None}),
    (
        "set_permissions",
        {"project": "p", "asset": None, "permissions": {"owners": None, "uploaders": None}, "spoof": None},
    ),
    ("reroute_links", {"to_delete": [{"project": "p", "asset": None, "version": None}], "dry_run": None}),
    ("delete_version", {**address("p/a/none"), "force": None}),
]


@pytest.mark.parametrize(("action", "document"), ACCEPTED, ids=[a for a, _ in ACCEPTED])
def test_null_is_absence(daemon: RunningDaemon, action: str, document: dict[str, Any]) -> None:
    """An optional field that is null is as if it were not there."""
    assert daemon.ask(action, document).code == 200


# ---- documents

BODIES: dict[str, bytes] = {
    "white space": b"  \n",
    "half an object": b'{"project": "p"',
    "two objects": b'{"project": "p"}{"project": "p"}',
    "an array": b'[{"project": "p"}]',
    "a string": b'"project"',
    "null": b"null",
    "a number": b"1",
    "no JSON": b"project=p",
    "single quotes": b"{'project': 'p'}",
    "trailing comma": b'{"project": "p",}',
    "a comment": b'{"project": "p"} // mine',
    "duplicate key": b'{"project": "p", "project": "p"}',
    "duplicate key inside": b'{"project": "p", "x": {"a": 1, "a": 1}}',
    "NaN": b'{"project": "p", "x": NaN}',
    "Infinity": b'{"project": "p", "x": -Infinity}',
    "byte-order mark": b'\xef\xbb\xbf{"project": "p"}',
    "UTF-16": '{"project": "p"}'.encode("utf-16"),
    "invalid UTF-8": b'{"project": "p", "x": "\xff"}',
    "Latin-1": '{"project": "p", "x": "\u00e9"}'.encode("latin-1"),
    "overlong UTF-8": b'{"project": "p", "x": "\xc0\xaf"}',
    "unpaired surrogate": b'{"project": "p", "x": "\\ud800"}',
    "unpaired surrogate in a key": b'{"project": "p", "\\udfff": 1}',
    "control character in a string": b'{"project": "p", "x": "a\nb"}',
    "leading zero": b'{"project": "p", "x": 01}',
    "nested too deep": b'{"project": "p", "x": ' + b"[" * 65 + b"]" * 65 + b"}",
    "nested absurdly deep": b'{"project": "p", "x": ' + b"[" * 200_000,
    "nested absurdly deep, closed": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "NUL after it": b'{"project": "p"}\0',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_each_kind_of_bad_document(daemon: RunningDaemon, body: bytes) -> None:
    """What is not exactly one JSON object in UTF-8 is 400; a POST says so at once."""
    answer = daemon.post(daemon.drop("refresh_usage", body))
    assert answer.code == 400, answer
    assert set(answer.body) == {"status", "reason"}
    assert "Traceback" not in answer.reason


@pytest.mark.parametrize(
    "body",
    [
        b' \r\n\t{ "project" : "p" } \n',
        b'{"project": "\\u0070"}',
        b'{"project": "p", "x": ' + b"[" * 60 + b"]" * 60 + b"}",
        b'{"project": "p", "x": 1e999}',
        b'{"project": "p", "x": 123456789012345678901234567890}',
        b'{"project": "p", "x": "\\ud83d\\ude00 \\u0000"}',
        b'{"project": "p", "x": [{"project": 1}, null, true]}',
    ],
)
def test_unknown_keys_may_hold_any_json(daemon: RunningDaemon, body: bytes) -> None:
    """A key that no action reads is ignored, whatever valid JSON it holds, and reported in the response file."""
    name = daemon.drop("refresh_usage", body)
    answer = daemon.post(name)
    assert answer.code == 200, answer
    assert answer.body == {"status": "SUCCESS", "total": 13}
    assert daemon.wait(name).body.get("ignored", []) == (["x"] if b'"x"' in body else [])


def test_a_huge_request(daemon: RunningDaemon) -> None:
    """More than 4 MiB is 413, without reading it; just below is read."""
    assert daemon.post(daemon.drop("refresh_usage", b'{"project": "p"}'.ljust((4 << 20) + 1))).code == 413
    assert daemon.post(daemon.drop("refresh_usage", b'{"project": "p"}'.ljust(4 << 20))).code == 200
    name = daemon.drop("refresh_usage", b"{")
    os.truncate(os.path.join(daemon.staging, name), 2 << 30)
    assert daemon.post(name).code == 413


@pytest.mark.parametrize("value", [10**18, 10**30, -(10**30), -1, 2**63, 2**64, 10**4000])
@pytest.mark.parametrize("field", ["baseline", "growth_rate", "year"])
def test_numbers_beyond_reason(daemon: RunningDaemon, field: str, value: int) -> None:
    """A number is stored as it was given or refused with 400: never a fault of the daemon's."""
    project = f"q{field}{abs(value) % 997}{len(str(value))}"
    daemon.done("create_project", {"project": project})
    answer = daemon.ask("set_quota", {"project": project, field: value})
    if answer.code == 200:
        assert daemon.read(project, "..quota")[field] == value
    else:
        assert answer.code == 400, answer
        assert field in answer.reason
    assert daemon.done("refresh_usage", {"project": project})["total"] == 0
    daemon.done("delete_project", {"project": project})


@pytest.mark.parametrize(
    "name", ["request-nonsense-1", "request--1", "request-1", "request-UPLOAD-1", "request-upload"]
)
def test_unknown_actions(daemon: RunningDaemon, name: str) -> None:
    """An action that does not exist is 400, by name."""
    daemon.drop("", {"project": "p"}, name=name)
    answer = daemon.post(name)
    assert answer.code == 400, answer
    assert answer.reason


@pytest.mark.parametrize(
    "path", ["request-none-here", "tmp-x", "%2E%2E", "request-%2F..%2Fx", "responses", "request-%00", "%FF"]
)
def test_names_that_are_no_request(daemon: RunningDaemon, path: str) -> None:
    """A POST of what is not a plain request file that is there is 400."""
    reply = daemon.http("POST", f"/new/{path}")
    assert reply.code == 400, reply
    assert reply.json()["status"] == "ERROR"


# ---- names that are allowed


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "-",
        ".a",
        "a..b",
        "a...",
        " ",
        "sp ace",
        "quote'\"",
        "percent%20",
        "$(id)",
        "#?&",
        "x" * 255,
        "\u00e9" * 127,
        "\u65e5\u672c",
        "e\u0301",
        "\U0001f600",
        "\u202e",
        "request-upload-1",
    ],
)
def test_names_that_are_right(daemon: RunningDaemon, name: str) -> None:
    """1-255 bytes of UTF-8 without `/`, `\\` and controls are a name, for project, asset and version alike."""
    daemon.done("create_project", {"project": name})
    place = dict.fromkeys(("project", "asset", "version"), name)
    daemon.done("upload", {**place, "source": daemon.source({name: b"1", f"{name[:80]}d/e": b"2"})})
    daemon.done("validate_version", place)
    assert daemon.read(name, name, "..latest") == {"version": name}
    daemon.done("delete_version", place)
    daemon.done("delete_asset", {k: place[k] for k in ("project", "asset")})
    daemon.done("delete_project", {"project": name})
    assert not os.path.exists(daemon.path(name))
