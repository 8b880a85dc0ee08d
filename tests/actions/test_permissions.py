"""`set_permissions`: exactly the documented keys, each given one replaced, the rest kept."""

import json
import os
import stat
from typing import Any

import pytest
from pydantic import ValidationError
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.domain.errors import Absent, Fault, Forbidden, Wrong


@pytest.fixture(autouse=True)
def project(bench: Bench) -> None:
    bench.run("create_project", project="p", permissions={"owners": ["owner"]})


def stored(bench: Bench, place: str = "p") -> Any:
    return json.loads((bench.root / place / "..permissions").read_bytes())


def ask(bench: Bench, permissions: dict[str, Any], user: str = "root", **fields: Any) -> None:
    bench.run("set_permissions", user, project="p", permissions=permissions, **fields)


FULL = {"id": "u", "asset": "a", "version": "1", "until": "2030-01-01T00:00:00+01:00", "trusted": False}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"owners": ["owner"], "uploaders": []}),
        ({"owners": []}, {"owners": [], "uploaders": []}),
        ({"owners": ["b", "a", "b", ""]}, {"owners": ["b", "a", "b", ""], "uploaders": []}),
        ({"uploaders": [FULL]}, {"owners": ["owner"], "uploaders": [FULL]}),
        ({"uploaders": [{"id": "u"}, {"id": "u"}]}, {"owners": ["owner"], "uploaders": [{"id": "u"}] * 2}),
        ({"global_write": False}, {"owners": ["owner"], "uploaders": [], "global_write": False}),
        ({"global_write": True}, {"owners": ["owner"], "uploaders": [], "global_write": True}),
    ],
)
def test_each_given_key_is_stored_as_given(
    bench: Bench, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    """In order, with duplicates, `false` and the spelling of `until` kept; both arrays always."""
    ask(bench, given)
    assert stored(bench) == expected
    assert_clean(str(bench.root))


def test_absent_keys_stay(bench: Bench) -> None:
    """One change does not touch what another made; no event."""
    ask(bench, {"uploaders": [FULL], "global_write": True})
    ask(bench, {"owners": ["new"]}, "owner")
    assert stored(bench) == {"owners": ["new"], "uploaders": [FULL], "global_write": True}
    assert os.listdir(bench.root / "..logs") == []


def test_unknown_keys_are_dropped_on_rewriting(bench: Bench) -> None:
    """Those that are stored and those that are given; what Go writes as null is read as nothing."""
    (bench.root / "p/..permissions").write_text(
        '{"owners": ["o"], "uploaders": null, "x": 1, "global_write": null}'
    )
    ask(bench, {"y": 1})
    assert stored(bench) == {"owners": ["o"], "uploaders": []}
    (bench.root / "p/..permissions").write_text('{"owners": null, "uploaders": [{"id": "u", "x": 1}]}')
    ask(bench, {"uploaders": [{"id": "u", "x": 1}]})
    assert stored(bench) == {"owners": [], "uploaders": [{"id": "u"}]}


def test_at_the_level_of_an_asset(bench: Bench) -> None:
    """The directory is made if absent; `asset` and `global_write` are dropped; the project's stay."""
    given = {"owners": ["x"], "uploaders": [FULL], "global_write": True}
    ask(bench, given, "owner", asset="a")
    kept = {key: value for key, value in FULL.items() if key != "asset"}
    assert stored(bench, "p/a") == {"owners": ["x"], "uploaders": [kept]}
    assert stored(bench) == {"owners": ["owner"], "uploaders": []}
    ask(bench, {"owners": ["y"]}, "x", asset="a")
    assert stored(bench, "p/a") == {"owners": ["y"], "uploaders": [kept]}
    ask(bench, {}, "root", asset="b")
    assert stored(bench, "p/b") == {"owners": [], "uploaders": []}
    assert set(os.listdir(bench.root / "p/b")) == {"..permissions", "..LOCK"}
    assert_clean(str(bench.root))


def test_modes(bench: Bench) -> None:
    """0755 for the asset's directory, 0644 for the documents, 0600 for locks."""
    ask(bench, {}, asset="a")

    def mode(path: str) -> int:
        return stat.S_IMODE((bench.root / path).stat().st_mode)

    assert (mode("p/a"), mode("p/a/..permissions"), mode("p/a/..LOCK")) == (0o755, 0o644, 0o600)


@pytest.mark.parametrize("user", ["stranger", "uploader", "asset owner"])
def test_who_may_not(bench: Bench, user: str) -> None:
    """Owners of the project and administrators only; an asset's owner only there, and makes no asset."""
    ask(bench, {"uploaders": [{"id": "uploader", "trusted": True}]})
    ask(bench, {"owners": ["asset owner"]}, asset="a")
    before = bench.snapshot()
    for fields in ({}, {"asset": "b"}, {"asset": "a"})[: 2 if user == "asset owner" else 3]:
        with pytest.raises(Forbidden, match=f'"{user}"'):
            ask(bench, {"owners": [user]}, user, **fields)
    assert bench.snapshot() == before


def test_global_write_makes_no_asset_this_way(bench: Bench) -> None:
    """Only an upload does."""
    ask(bench, {"global_write": True})
    with pytest.raises(Forbidden):
        ask(bench, {}, "stranger", asset="a")
    assert not (bench.root / "p/a").exists()


def test_what_is_not_there(bench: Bench) -> None:
    """404 for the project; a name that nothing can have is 400."""
    with pytest.raises(Absent, match='"q"'):
        bench.run("set_permissions", project="q", permissions={})
    with pytest.raises(Absent, match='"q"'):
        bench.run("set_permissions", project="q", asset="a", permissions={})
    with pytest.raises(Wrong):
        bench.run("set_permissions", project="q\\r", permissions={})
    with pytest.raises(Wrong):
        ask(bench, {}, asset="a\\b")


@pytest.mark.parametrize("content", [b"", b"[]", b'{"owners": "x"}', None])
def test_a_document_that_cannot_be_read_is_a_fault(bench: Bench, content: bytes | None) -> None:
    """Nothing is overwritten that could not be read."""
    path = bench.root / "p/..permissions"
    path.write_bytes(content) if content is not None else path.unlink()
    with pytest.raises(Fault, match=r"\.\.permissions"):
        ask(bench, {"owners": ["me"]})


@pytest.mark.parametrize(
    "permissions",
    [
        {"owners": "x"},
        {"owners": [1]},
        {"uploaders": [{}]},
        {"uploaders": [{"id": 1}]},
        {"uploaders": [{"id": "u", "trusted": "true"}]},
        {"uploaders": [{"id": "u", "version": 1}]},
        {"global_write": 1},
        [],
        None,
    ],
)
def test_types_are_strict(bench: Bench, permissions: Any) -> None:
    """A mistyped document is refused before anything is looked at."""
    with pytest.raises(ValidationError):
        ask(bench, permissions)


@pytest.mark.parametrize(
    "until",
    ["", "soon", "2030-01-01", "2030-13-01T00:00:00Z", "2030-01-01T24:00:00Z", "2030-01-01 00:00:00Z"],
)
def test_until_must_be_a_time(bench: Bench, until: str) -> None:
    """A time that nothing could compare with would silently match nobody: 400."""
    with pytest.raises(Wrong, match="until"):
        ask(bench, {"uploaders": [{"id": "u", "until": until}]})
