"""What keeps a registry right: refreshing, reindexing, validating, deleting, rerouting; their effects on disk."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from support.checker import assert_clean
from support.daemon import Answer, RunningDaemon, StartDaemon, address
from support.documents import Event, Logged, as_event
from support.places import Symlink, read_tree, write_tree

A_PROJECT = {"..permissions", "..usage", "..quota"}


def one(kind: str, place: str, **more: Any) -> dict[Event, int]:
    """Return the count of exactly one event."""
    return {as_event(type=kind, **address(place), **more): 1}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    return start_module_daemon()


@pytest.fixture
def project(daemon: RunningDaemon, request: pytest.FixtureRequest) -> Iterator[str]:
    """A new project, named after its test; it is clean when the test is over."""
    name = request.node.name.removeprefix("test_")
    daemon.done("create_project", {"project": name})
    yield name
    others = [f"{other}/" for other in os.listdir(daemon.registry) if other != name and other[:2] != ".."]
    assert_clean(daemon.registry, ignore=others)


# ---- refreshing


def test_refresh_usage(daemon: RunningDaemon, project: str) -> None:
    """The total is recomputed from the manifests: stored bytes count, links do not, probation does."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"})
    daemon.upload(f"{project}/a/2", {"f": b"12345", "g": b"67"})
    daemon.upload(f"{project}/b/1", {"f": b"1"}, on_probation=True)
    with open(daemon.path(project, "..usage"), "w", encoding="utf-8") as file:
        file.write('{"total": 77}')
    with Logged(daemon.registry) as logged:
        assert daemon.done("refresh_usage", {"project": project}) == {"status": "SUCCESS", "total": 8}
    assert daemon.read(project, "..usage") == {"total": 8}
    assert not logged.events


def test_refresh_latest(daemon: RunningDaemon, project: str) -> None:
    """The latest is recomputed from the summaries; without a candidate there is none, and no such file."""
    document = {"project": project, "asset": "a"}
    daemon.upload(f"{project}/a/trial", {"f": b"1"}, on_probation=True)
    with open(daemon.path(project, "a", "..latest"), "w", encoding="utf-8") as file:
        file.write('{"version": "trial"}')
    assert daemon.done("refresh_latest", document) == {"status": "SUCCESS"}
    assert daemon.read(project, "a", "..latest") is None
    for version in ("2", "1"):
        daemon.upload(f"{project}/a/{version}", {"f": b"1"})
    os.unlink(daemon.path(project, "a", "..latest"))
    assert daemon.done("refresh_latest", document) == {"status": "SUCCESS", "version": "1"}
    assert daemon.read(project, "a", "..latest") == {"version": "1"}


# ---- reindexing and validation


def spoil(daemon: RunningDaemon, *parts: str) -> None:
    with open(daemon.path(*parts), "wb") as file:
        file.write(b"{ broken")


def test_reindex(daemon: RunningDaemon, project: str) -> None:
    """The manifest follows the files; parents of links are kept; summary, latest and usage are not touched."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"})
    daemon.upload(f"{project}/a/2", {"f": b"12345", "g": b"1", "d/h": b"2"})
    daemon.upload(f"{project}/a/3", {"f": b"12345", "i": b"3", "none": None})
    version = daemon.path(project, "a", "3")
    kept = [daemon.read(project, "a", "3", name) for name in ("..summary", "../..latest", "../../..usage")]
    link = daemon.read(project, "a", "3", "..manifest")["f"]
    assert link["link"]["version"] == "2"
    os.unlink(os.path.join(version, "i"))
    os.rmdir(os.path.join(version, "none"))
    write_tree(version, {"new/file": b"new", "new/none": None, "new/link": Symlink("../../2/g")})
    with Logged(daemon.registry) as logged:
        daemon.done("reindex_version", address(f"{project}/a/3"))
    manifest = daemon.read(project, "a", "3", "..manifest")
    assert manifest.keys() == {"f", "new/file", "new/none", "new/link"}
    assert manifest["f"] == link
    assert manifest["new/link"]["link"] == {**address(f"{project}/a/2"), "path": "g"}
    assert kept == [
        daemon.read(project, "a", "3", name) for name in ("..summary", "../..latest", "../../..usage")
    ]
    assert logged.events == one("reindex-version", f"{project}/a/3", latest=True)
    daemon.done("refresh_usage", {"project": project})

    with Logged(daemon.registry) as older:
        daemon.done("reindex_version", address(f"{project}/a/1"))
    assert older.events == one("reindex-version", f"{project}/a/1", latest=False)


def test_reindex_refuses_what_it_cannot_understand(daemon: RunningDaemon, project: str) -> None:
    """A link to where none may go, or a `..links` that cannot be read, is 422, and nothing changes."""
    daemon.upload(f"{project}/a/1", {"f": b"1", "l": Symlink("f")})
    version = daemon.path(project, "a", "1")
    for damage, repair in (
        (lambda: os.symlink("/etc/passwd", f"{version}/bad"), lambda: os.unlink(f"{version}/bad")),
        (lambda: os.rename(f"{version}/..links", f"{version}/../..kept"), lambda: os.rename(f"{version}/../..kept", f"{version}/..links")),
    ):  # fmt: skip
        damage()
        if not os.path.exists(f"{version}/..links"):
            spoil(daemon, project, "a", "1", "..links")
        before = read_tree(version)
        answer = daemon.ask("reindex_version", address(f"{project}/a/1"))
        assert answer.code == 422, answer
        assert "bad" in answer.reason or "..links" in answer.reason
        assert read_tree(version) == before
        repair()


def problems(answer: Answer) -> set[str]:
    assert answer.code == 422, answer
    for problem in answer.body["problems"]:
        assert problem.keys() == {"path", "kind", "expected", "found"}, problem
    return {problem["path"] for problem in answer.body["problems"]}


def test_validation_lists_every_problem(daemon: RunningDaemon, project: str) -> None:
    """All faults are told, not only the first; the reason names the first; nothing is changed or logged."""
    tree = {
        "bytes": b"12345",
        "size": b"12345",
        "gone": b"1",
        "l": Symlink("bytes"),
        "d/e": None,
        "fine": b"2",
    }
    daemon.upload(f"{project}/a/1", tree)
    version, place = daemon.path(project, "a", "1"), address(f"{project}/a/1")
    kept = read_tree(version)
    assert daemon.done("validate_version", place) == {"status": "SUCCESS"}
    for name in ("bytes", "size", "gone", "l"):
        os.unlink(os.path.join(version, name))
    os.rmdir(os.path.join(version, "d", "e"))
    os.rmdir(os.path.join(version, "d"))
    write_tree(
        version, {"bytes": b"12354", "size": b"1234", "l": Symlink("size"), "extra": b"3", "void/none": None}
    )
    before = read_tree(version)
    with Logged(daemon.registry) as logged:
        answer = daemon.ask("validate_version", place)
    found = problems(answer)
    assert {"bytes", "size", "gone", "l", "d/e", "extra", "void/none"} <= found
    assert "fine" not in found
    assert answer.body["problems"][0]["path"] in answer.reason
    assert read_tree(version) == before
    assert not logged.events
    for name in ("bytes", "size", "l", "extra"):
        os.unlink(os.path.join(version, name))
    os.rmdir(os.path.join(version, "void", "none"))
    os.rmdir(os.path.join(version, "void"))
    write_tree(
        version, {path: content for path, content in kept.items() if not os.path.lexists(f"{version}/{path}")}
    )
    assert daemon.done("validate_version", place) == {"status": "SUCCESS"}


def test_validation_follows_links(daemon: RunningDaemon, project: str) -> None:
    """A link whose target is gone from its version's manifest, or with it, is a problem of the link."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"})
    daemon.upload(f"{project}/a/2", {"f": b"12345"})
    daemon.done("delete_version", address(f"{project}/a/1"))
    assert "f" in problems(daemon.ask("validate_version", address(f"{project}/a/2")))
    daemon.done("delete_version", address(f"{project}/a/2"))


# ---- deletion


def test_delete_version(daemon: RunningDaemon, project: str) -> None:
    """A version goes with its usage; the latest is then the one before; the event says whether it was the latest."""
    for version in ("1", "2", "3"):
        daemon.upload(f"{project}/a/{version}", {"f": version.encode() * 3})
    daemon.upload(f"{project}/a/trial", {"f": b"12"}, on_probation=True)
    for version, latest, usage in (("1", False, 8), ("3", True, 5)):
        with Logged(daemon.registry) as logged:
            daemon.done("delete_version", address(f"{project}/a/{version}"))
        assert logged.events == one("delete-version", f"{project}/a/{version}", latest=latest)
        assert daemon.read(project, "a", "..latest") == {"version": "2"} if latest else {"version": "3"}
        assert daemon.read(project, "..usage") == {"total": usage}
    with Logged(daemon.registry) as logged:
        daemon.done("delete_version", address(f"{project}/a/trial"))
    assert not logged.events
    daemon.done("delete_version", address(f"{project}/a/2"))
    assert daemon.read(project, "a", "..latest") is None
    assert daemon.read(project, "..usage") == {"total": 0}


def test_delete_asset_and_project(daemon: RunningDaemon) -> None:
    """An asset and a project go with everything in them, and one event each."""
    daemon.done("create_project", {"project": "doomed"})
    for place, content in (("doomed/a/1", b"123"), ("doomed/a/2", b"45"), ("doomed/b/1", b"6")):
        daemon.upload(place, {"f": content})
    with Logged(daemon.registry) as asset:
        daemon.done("delete_asset", address("doomed/a"))
    assert not os.path.exists(daemon.path("doomed", "a"))
    assert daemon.read("doomed/..usage") == {"total": 1}
    with Logged(daemon.registry) as whole:
        daemon.done("delete_project", {"project": "doomed"})
    assert not os.path.exists(daemon.path("doomed"))
    assert asset.events == one("delete-asset", "doomed/a")
    assert whole.events == one("delete-project", "doomed")
    daemon.done("create_project", {"project": "doomed"})
    daemon.upload("doomed/a/1", {"f": b"again"})
    daemon.done("delete_project", {"project": "doomed"})


# ---- rerouting


def test_reroute_a_chain(daemon: RunningDaemon, project: str) -> None:
    """The parent becomes the nearest living file, the ancestor the farthest, dropped if it is the same."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"})
    for number in (2, 3, 4):
        target = daemon.path(project, "a", str(number - 1), "f")
        daemon.upload(f"{project}/a/{number}", {"f": Symlink(target)})
    daemon.upload(f"{project}/b/1", {"g": Symlink(daemon.path(project, "a", "4", "f"))}, on_probation=True)
    to_delete = {"to_delete": [address(f"{project}/a/{number}") for number in (1, 3)]}
    expected = [
        {"path": f"{project}/a/2/f", "source": f"{project}/a/1/f", "copy": True, "usage": 5},
        {"path": f"{project}/a/4/f", "source": f"{project}/a/3/f", "copy": False, "usage": 0},
        {"path": f"{project}/b/1/g", "source": f"{project}/a/1/f", "copy": False, "usage": 0},
    ]
    before = read_tree(daemon.path(project))
    with Logged(daemon.registry) as logged:
        assert daemon.done("reroute_links", {**to_delete, "dry_run": True})["changes"] == expected
        assert read_tree(daemon.path(project)) == before
        assert daemon.done("reroute_links", to_delete)["changes"] == expected
    assert not logged.events
    second = {**address(f"{project}/a/2"), "path": "f"}
    fourth = {**address(f"{project}/a/4"), "path": "f"}
    assert "link" not in daemon.read(project, "a", "2", "..manifest")["f"]
    assert daemon.read(project, "a", "4", "..manifest")["f"]["link"] == second
    assert daemon.read(project, "b", "1", "..manifest")["g"]["link"] == {**fourth, "ancestor": second}
    assert daemon.read(project, "a", "2", "..links") is None
    assert os.readlink(daemon.path(project, "b", "1", "g")) == "../../a/2/f"
    assert daemon.read(project, "..usage") == {"total": 10}
    third = daemon.read(project, "a", "3", "..manifest")["f"]["link"]
    assert third["version"] == "2", "what is to be deleted is not changed"
    for number in (1, 3):
        daemon.done("delete_version", address(f"{project}/a/{number}"))


def test_reroute_two_links_to_one_file(daemon: RunningDaemon, project: str) -> None:
    """Two links that lose the same file become two copies."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"})
    target = Symlink(daemon.path(project, "a", "1", "f"))
    daemon.upload(f"{project}/b/1", {"x": target, "d/y": target, "own": b"1"})
    changes = daemon.done("reroute_links", {"to_delete": [address(f"{project}/a")]})["changes"]
    assert [(change["path"], change["copy"]) for change in changes] == [
        (f"{project}/b/1/d/y", True),
        (f"{project}/b/1/x", True),
    ]
    daemon.done("delete_asset", address(f"{project}/a"))
    assert read_tree(daemon.path(project, "b", "1"))["d/y"] == b"12345"
    assert daemon.read(project, "..usage") == {"total": 11}
    assert daemon.ask("validate_version", address(f"{project}/b/1")).code == 200
