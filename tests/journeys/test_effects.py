"""What each action does to the registry: documents, files, links, events; and what it leaves alone."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.checker import assert_clean
from support.daemon import RunningDaemon, StartDaemon, address
from support.documents import Event, Logged, as_event, nanoseconds
from support.places import Symlink, read_tree

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


# ---- create_project, set_permissions, set_quota


def test_create_project(daemon: RunningDaemon) -> None:
    """A new project has its three documents, owned by who asked, with the default quota, and no event."""
    with Logged(daemon.registry) as logged:
        daemon.done("create_project", {"project": "created"})
    files = {name for name in os.listdir(daemon.path("created")) if not name.startswith("..LOCK")}
    assert files == A_PROJECT
    assert daemon.read("created/..permissions") == {"owners": ["root"], "uploaders": []}
    assert daemon.read("created/..usage") == {"total": 0}
    year = time.gmtime(os.stat(daemon.path("created/..quota")).st_mtime).tm_year
    assert daemon.read("created/..quota") == {"baseline": 10**9, "growth_rate": 10**9, "year": year}
    assert not logged.events


def test_permissions_are_stored_as_given(daemon: RunningDaemon) -> None:
    """Order, duplicates, empty lists and false stay; keys that nobody documented do not."""
    uploader = {
        "id": "",
        "asset": "a",
        "version": "1",
        "until": "2030-01-01T00:00:00.5+01:00",
        "trusted": False,
    }
    given = {
        "owners": ["b", "a", "b", ""],
        "uploaders": [{**uploader, "x": 1}, {"id": "u"}],
        "global_write": False,
    }
    daemon.done("create_project", {"project": "permissions", "permissions": {**given, "x": 1}})
    expected = {**given, "uploaders": [uploader, {"id": "u"}]}
    assert daemon.read("permissions/..permissions") == expected

    change = {"project": "permissions", "permissions": {"owners": []}}
    daemon.done("set_permissions", change)
    assert daemon.read("permissions/..permissions") == {**expected, "owners": []}
    daemon.done(
        "set_permissions", {"project": "permissions", "permissions": {"uploaders": [], "global_write": True}}
    )
    assert daemon.read("permissions/..permissions") == {"owners": [], "uploaders": [], "global_write": True}


def test_permissions_of_an_asset(daemon: RunningDaemon, project: str) -> None:
    """An asset is made if absent; its document has both arrays, and neither `asset` nor `global_write`."""
    with Logged(daemon.registry) as logged:
        daemon.done("set_permissions", {"project": project, "asset": "a", "permissions": {}})
    assert daemon.read(project, "a", "..permissions") == {"owners": [], "uploaders": []}
    given = {"uploaders": [{"id": "u", "asset": "b", "trusted": True}], "global_write": True}
    daemon.done("set_permissions", {"project": project, "asset": "a", "permissions": given})
    stored = {"owners": [], "uploaders": [{"id": "u", "trusted": True}]}
    assert daemon.read(project, "a", "..permissions") == stored
    assert daemon.read(project, "a", "..latest") is None
    assert daemon.read(project, "..permissions") == {"owners": ["root"], "uploaders": []}
    assert not logged.events


def test_set_quota(daemon: RunningDaemon, project: str) -> None:
    """Each given key is replaced, the others stay."""
    before = daemon.read(project, "..quota")
    daemon.done("set_quota", {"project": project, "baseline": 5})
    assert daemon.read(project, "..quota") == {**before, "baseline": 5}
    daemon.done("set_quota", {"project": project, "growth_rate": 0, "year": 2020})
    assert daemon.read(project, "..quota") == {"baseline": 5, "growth_rate": 0, "year": 2020}


# ---- upload


def test_upload(daemon: RunningDaemon, project: str) -> None:
    """The version holds the source's files and empty directories; summary, latest, usage and event follow."""
    tree = {"f": b"12345", "d/e/g": b"678", "none": None, "some/none": None, ".dot": b"9", "..skipped": b"0"}
    with Logged(daemon.registry) as logged:
        daemon.upload(f"{project}/a/1", {**tree, "only/..skipped": b"0", "..internal/f": b"0"})
    stored = {p: c for p, c in read_tree(daemon.path(project, "a", "1")).items() if p[:2] != ".."}
    del tree["..skipped"]
    assert stored == {**tree, "only": None}, "a directory that holds only `..` files counts as empty"
    summary = daemon.read(project, "a", "1", "..summary")
    assert summary.keys() == {"upload_user_id", "upload_start", "upload_finish"}
    assert summary["upload_user_id"] == "root"
    assert nanoseconds(summary["upload_start"]) <= nanoseconds(summary["upload_finish"])
    assert "." in summary["upload_finish"], "sub-second times give an order"
    assert summary["upload_finish"].endswith("Z")
    assert daemon.read(project, "a", "..latest") == {"version": "1"}
    assert daemon.read(project, "..usage") == {"total": 9}
    assert logged.events == one("add-version", f"{project}/a/1", latest=True)


def test_ignore_dot(daemon: RunningDaemon, project: str) -> None:
    """With `ignore_dot` names beginning with a dot are skipped at any depth; the source's own name is not meant."""
    tree = {"f": b"1", ".x": b"2", "d/.y": b"3", ".z/f": b"4"}
    source = daemon.source(tree, name=f".{project}")
    daemon.done("upload", {**address(f"{project}/a/1"), "source": source, "ignore_dot": True})
    manifest = daemon.read(project, "a", "1", "..manifest")
    assert manifest.keys() == {"f", "d"}
    assert manifest["d"] == {"size": 0, "md5sum": ""}


def test_deduplicate(daemon: RunningDaemon, project: str) -> None:
    """A file of the latest version's is linked: of several equal ones the first by path; else it is stored."""
    daemon.upload(
        f"{project}/a/1", {"z": b"same", "b/c": b"same", "b-c": b"same", "other": b"other", "empty": b""}
    )
    daemon.upload(
        f"{project}/a/2", {"n": b"same", "d/o": b"other", "new": b"new!!", "void": b"", "none": None}
    )
    manifest = daemon.read(project, "a", "2", "..manifest")
    links = {path: entry["link"]["path"] for path, entry in manifest.items() if "link" in entry}
    assert links == {"n": "b-c", "d/o": "other", "void": "empty"}
    assert daemon.read(project, "a", "2", "..links").keys() == {"n", "void"}
    assert daemon.read(project, "a", "2", "d", "..links").keys() == {"o"}
    assert daemon.read(project, "..usage") == {"total": 12 + 5 + 5}

    daemon.upload(f"{project}/b/1", {"n": b"same"})
    assert "link" not in daemon.read(project, "b", "1", "..manifest")["n"], "only the same asset is looked at"
    daemon.upload(f"{project}/a/3", {"n": b"same"})
    link = daemon.read(project, "a", "3", "..manifest")["n"]["link"]
    assert link == {
        **address(f"{project}/a/2"),
        "path": "n",
        "ancestor": {**address(f"{project}/a/1"), "path": "b-c"},
    }
    assert os.readlink(daemon.path(project, "a", "3", "n")) == "../1/b-c"


def test_links(daemon: RunningDaemon, project: str) -> None:
    """Links into the registry and within the source, through any chain, become relative links to the real file."""
    daemon.upload(f"{project}/a/1", {"d/f": b"data\n"})
    target = daemon.path(project, "a", "1", "d", "f")
    tree = {
        "own": b"own\n",
        "x/chain1": Symlink("../x/chain2"),
        "x/chain2": Symlink("./../own"),
        "x/out": Symlink(target),
        "through": Symlink("x/out"),
        "doubled": Symlink(f"{daemon.registry}/./{project}//a/1/d/f"),
    }
    daemon.upload(f"{project}/b/1", tree)
    found = {
        p: c.target for p, c in read_tree(daemon.path(project, "b", "1")).items() if isinstance(c, Symlink)
    }
    assert found == {
        "x/chain1": "../own",
        "x/chain2": "../own",
        "x/out": "../../../a/1/d/f",
        "through": "../../a/1/d/f",
        "doubled": "../../a/1/d/f",
    }
    manifest = daemon.read(project, "b", "1", "..manifest")
    here, there = address(f"{project}/b/1"), {**address(f"{project}/a/1"), "path": "d/f"}
    assert manifest["x/chain1"]["link"] == {**here, "path": "x/chain2", "ancestor": {**here, "path": "own"}}
    assert manifest["through"]["link"] == {**here, "path": "x/out", "ancestor": there}
    assert manifest["doubled"]["link"] == there
    assert daemon.read(project, "..usage") == {"total": 9}


def test_consume(daemon: RunningDaemon, project: str) -> None:
    """Exactly the files whose bytes were stored are removed; links, skipped and deduplicated ones stay."""
    daemon.upload(f"{project}/a/1", {"old": b"old\n"})
    tree = {
        "new": b"new\n",
        "copy": b"old\n",
        "link": Symlink("new"),
        "..x": b"x",
        ".y": b"y",
        "d/f": b"f",
        "e": None,
    }
    source = daemon.source(tree)
    document = {**address(f"{project}/a/2"), "source": source, "consume": True, "ignore_dot": True}
    daemon.done("upload", document)
    left = read_tree(os.path.join(daemon.staging, source))
    expected = {p: c for p, c in tree.items() if p not in {"new", "d/f"}} | {"d": None}
    assert left == expected


def test_an_upload_on_probation(daemon: RunningDaemon, project: str) -> None:
    """A probational version counts in the usage, but is no latest, no event, and nothing to deduplicate against."""
    with Logged(daemon.registry) as logged:
        daemon.upload(f"{project}/a/1", {"f": b"12345"}, on_probation=True)
    assert daemon.read(project, "a", "1", "..summary")["on_probation"] is True
    assert daemon.read(project, "a", "..latest") is None
    assert daemon.read(project, "..usage") == {"total": 5}
    assert not logged.events
    daemon.upload(f"{project}/a/2", {"f": b"12345"})
    assert "link" not in daemon.read(project, "a", "2", "..manifest")["f"]


# ---- probation


def test_approval(daemon: RunningDaemon, project: str) -> None:
    """An approved version is the latest only if it was uploaded last; the event says which."""
    daemon.upload(f"{project}/a/early", {"f": b"1"}, on_probation=True)
    daemon.upload(f"{project}/a/normal", {"f": b"2"})
    daemon.upload(f"{project}/a/late", {"f": b"3"}, on_probation=True)
    before = daemon.read(project, "a", "late", "..summary")
    with Logged(daemon.registry) as early:
        daemon.done("approve_probation", address(f"{project}/a/early"))
    assert daemon.read(project, "a", "..latest") == {"version": "normal"}
    with Logged(daemon.registry) as late:
        daemon.done("approve_probation", address(f"{project}/a/late"))
    assert daemon.read(project, "a", "..latest") == {"version": "late"}
    assert early.events == one("add-version", f"{project}/a/early", latest=False)
    assert late.events == one("add-version", f"{project}/a/late", latest=True)
    del before["on_probation"]
    assert daemon.read(project, "a", "late", "..summary") == before
    assert daemon.read(project, "..usage") == {"total": 3}


def test_rejection(daemon: RunningDaemon, project: str) -> None:
    """A rejected version is gone, the usage lower, and nothing is logged."""
    daemon.upload(f"{project}/a/1", {"f": b"12345"}, on_probation=True)
    with Logged(daemon.registry) as logged:
        daemon.done("reject_probation", address(f"{project}/a/1"))
    assert not os.path.exists(daemon.path(project, "a", "1"))
    assert daemon.read(project, "..usage") == {"total": 0}
    assert not logged.events


def spoil(daemon: RunningDaemon, *parts: str) -> None:
    with open(daemon.path(*parts), "wb") as file:
        file.write(b"{ broken")


@pytest.mark.parametrize("document", ["..manifest", "..summary"])
def test_force(daemon: RunningDaemon, document: str) -> None:
    """What cannot be read is 500 and changes nothing; with `force` it is deleted, and nothing logged."""
    daemon.may_log_traceback = True  # a fault of the storage may be logged in full
    name = f"force{document[2:]}"
    daemon.done("create_project", {"project": name})
    for version in ("1", "2"):
        daemon.upload(f"{name}/a/{version}", {"f": b"12345" * int(version)}, on_probation=True)
        spoil(daemon, name, "a", version, document)
    place = address(f"{name}/a/1")
    action = "reject_probation"
    answer = daemon.ask(action, place)
    assert answer.code == 500, answer
    assert os.path.isdir(daemon.path(name, "a", "1"))
    with Logged(daemon.registry) as logged:
        daemon.done(action, {**place, "force": True})
        daemon.done("delete_version", {**address(f"{name}/a/2"), "force": True})
    assert os.listdir(daemon.path(name, "a")) == [
        entry for entry in os.listdir(daemon.path(name, "a")) if entry.startswith("..")
    ]
    assert not logged.events
    assert daemon.done("refresh_usage", {"project": name}) == {"status": "SUCCESS", "total": 0}
    daemon.done("delete_project", {"project": name})


# ---- health_check


@pytest.mark.parametrize("content", [b"", b"{}", b"no JSON \xff", b"[" * 1000])
def test_health_check(daemon: RunningDaemon, content: bytes) -> None:
    """A health_check succeeds whatever it holds."""
    assert daemon.post(daemon.drop("health_check", content)).body == {"status": "SUCCESS"}
    assert daemon.wait(daemon.drop("health_check", content)).code == 200
