"""Every function of pygobbler 0.1.11, run twice: with real pygobbler, and with gobblerd.client in its place.

A case calls the function in its usual ways and returns what came of it: results, errors, files made. Both
sides' outcomes must be equal. Where pygobbler is wrong, the difference is a test of its own at the end.
"""

import inspect
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pygobbler
import pytest
from client.sides import Side
from support.daemon import RunningDaemon, StartDaemon
from support.places import Symlink, Tree, open_directory, read_tree

import gobblerd.client

TREE: Tree = {
    "table.csv": b"a,b\n1,2\n",
    "deep/est.txt": b"deepest\n",
    "deep/file": b"x",
    "with space \u00e9": b"name\n",
    "empty": None,
    ".hidden": b"hidden\n",
}
NAMES = sorted(name for name in vars(pygobbler) if inspect.isfunction(getattr(pygobbler, name)))
OWN = frozenset({"..checksums"})  # gobblerd's own, which one of the listings leaves out
CASES: dict[str, Callable[[Side], Any]] = {}
NUMBERS = itertools.count(100)


def case(function: Callable[[Side], Any]) -> Callable[[Side], Any]:
    """Register the case of the pygobbler function that is called like this one."""
    CASES[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    return start_module_daemon()


@pytest.fixture
def sides(daemon: RunningDaemon) -> Iterator[list[Side]]:
    with open_directory() as base:
        found = []
        for module, letter in ((pygobbler, "a"), (gobblerd.client, "b")):
            directory = os.path.join(base, letter)
            os.mkdir(directory)
            project = f"project-{letter}{next(NUMBERS)}"
            daemon.done("create_project", {"project": project})
            found.append(Side(module, daemon, directory, project))
        yield found


# ---- requests


@case
def create_project(side: Side) -> Any:
    name = f"{side.project}-more"
    made = side.create_project(name, owners=["a", "b"], uploaders=[{"id": "c"}], **side.staging)
    plain = side.create_project(f"{side.project}-less", **side.staging)
    again = side.refused("create_project", name, **side.staging)
    return made, plain, again, side.daemon.read(name, "..permissions")


@case
def set_permissions(side: Side) -> Any:
    both = {**side.staging, **side.registry}
    entry = {"id": "bob", "until": "2099-01-01T00:00:00Z"}
    found = [
        side.set_permissions(side.project, owners=["root", "bob"], uploaders=[entry], **both),
        side.daemon.read(side.project, "..permissions"),
        side.set_permissions(side.project, owners=["x"], append=False, dry_run=True, **both),
        side.set_permissions(side.project, global_write=True, **both),
        side.daemon.read(side.project, "..permissions"),
        side.set_permissions(side.project, asset="new", owners=["z"], global_write=True, **both),
        side.daemon.read(side.project, "new", "..permissions"),
        side.set_permissions(side.project, uploaders=[{"id": "c"}], dry_run=True, **both),
        side.set_permissions(side.project, uploaders=[], append=False, **both),
        side.daemon.read(side.project, "..permissions"),
    ]
    return [*found, side.refused("set_permissions", "absent", owners=["x"], **both)[0]]


@case
def approve_probation(side: Side) -> Any:
    side.upload(TREE, probation=True)
    before = side.daemon.read(side.project, "data", "1", "..summary")["on_probation"]
    approved = side.approve_probation(**side.place(), **side.staging)
    again = side.refused("approve_probation", **side.place(), **side.staging)
    return before, approved, again, side.daemon.read(side.project, "data", "..latest")


@case
def reject_probation(side: Side) -> Any:
    side.upload(TREE, probation=True)
    side.upload(TREE, version="2", probation=True)
    found = [
        side.reject_probation(**side.place(), **side.staging),
        side.reject_probation(**side.place(version="2"), force=True, **side.staging),
    ]
    return (
        found,
        os.listdir(side.daemon.path(side.project, "data")) == [],
        side.refused("reject_probation", **side.place(), spoof="nobody", **side.staging),
    )


@case
def remove_project(side: Side) -> Any:
    found = (
        side.remove_project(side.project, **side.staging),
        side.remove_project(side.project, **side.staging),
    )
    return (
        found,
        os.path.exists(side.daemon.path(side.project)),
        side.refused("remove_project", "..", **side.staging),
    )


@case
def remove_asset(side: Side) -> Any:
    side.upload(TREE)
    found = side.remove_asset(side.project, "data", **side.staging)
    forced = side.remove_asset(side.project, "data", force=True, **side.staging)
    return found, forced, os.path.exists(side.daemon.path(side.project, "data"))


@case
def remove_version(side: Side) -> Any:
    side.upload(TREE)
    found = side.remove_version(**side.place(), **side.staging)
    forced = side.remove_version(**side.place(), force=True, **side.staging)
    return found, forced, os.path.exists(side.daemon.path(side.project, "data", "1"))


@case
def reroute_links(side: Side) -> Any:
    side.upload({"f": b"payload"})
    side.upload({"f": b"payload"}, version="2")
    doomed = [side.place()]
    return [
        side.reroute_links(doomed, dry_run=True, **side.staging),
        os.path.islink(side.daemon.path(side.project, "data", "2", "f")),
        side.reroute_links(doomed, **side.staging),
        os.path.islink(side.daemon.path(side.project, "data", "2", "f")),
        side.refused("reroute_links", [{"version": "1"}], **side.staging)[:2],
    ]


@case
def refresh_usage(side: Side) -> Any:
    side.upload(TREE)
    return side.refresh_usage(side.project, **side.staging), side.refused(
        "refresh_usage", "absent", **side.staging
    )


@case
def refresh_latest(side: Side) -> Any:
    side.upload(TREE)
    os.unlink(side.daemon.path(side.project, "data", "..latest"))
    found = side.refresh_latest(side.project, "data", **side.staging)
    side.upload(TREE, "trial", probation=True)
    return found, side.refresh_latest(side.project, "trial", **side.staging)


@case
def reindex_version(side: Side) -> Any:
    side.upload(TREE)
    with open(side.daemon.path(side.project, "data", "1", "more"), "w", encoding="utf-8") as file:
        file.write("more")
    found = side.reindex_version(**side.place(), **side.staging)
    return found, side.daemon.read(side.project, "data", "1", "..manifest")


@case
def validate_version(side: Side) -> Any:
    side.upload(TREE)
    found = side.validate_version(**side.place(), **side.staging)
    with open(side.daemon.path(side.project, "data", "1", "more"), "w", encoding="utf-8") as file:
        file.write("more")
    return found, side.refused("validate_version", **side.place(), **side.staging)


# ---- uploads


@case
def allocate_upload_directory(side: Side) -> Any:
    made = side.allocate_upload_directory(side.daemon.staging)
    named = side.allocate_upload_directory(side.daemon.staging, create=False)
    assert os.path.dirname(made) == os.path.dirname(named) == side.daemon.staging
    return os.stat(made).st_mode, os.listdir(made), os.path.exists(named)


@case
def upload_directory(side: Side) -> Any:
    links = {"in": Symlink("table.csv"), "sub/up": Symlink("../table.csv"), "big": b"0" * (3 << 20)}
    before = set(os.listdir(side.daemon.staging))
    side.upload({**TREE, **links}, concurrent=2)
    side.upload(TREE, version="2")
    target = side.daemon.path(side.project, "data", "2", "table.csv")
    side.upload({".dot": b".", "linked": Symlink(target)}, "other", ignore_dot=False, probation=True)
    left = set(os.listdir(side.daemon.staging)) - before
    existing = side.refused("upload_directory", **side.place(), directory=side.base, **side.staging)
    manifests = [
        side.daemon.read(side.project, *place, "..manifest")
        for place in (("data", "1"), ("data", "2"), ("other", "1"))
    ]
    return manifests, sorted(left), existing, read_tree(os.path.join(side.base, "data-1")).keys()


@case
def clone_version(side: Side) -> Any:
    side.upload({path: content for path, content in TREE.items() if path != "empty"})
    clone = os.path.join(side.base, "clone")
    made = side.clone_version(**side.place(), destination=clone, registry=side.daemon.registry)
    absent = side.refused(
        "clone_version", **side.place("absent"), destination=clone, registry=side.daemon.registry
    )
    return made, sorted((path, str(link)) for path, link in read_tree(clone).items()), absent[0]


# ---- reading


@case
def fetch_manifest(side: Side) -> Any:
    side.upload(TREE)
    found = side.fetch_manifest(**side.place(), **side.registry)
    kept = [side.fetch_manifest(**side.place(), cache=side.cache, **side.remote) == found for _ in range(2)]
    missing = [side.refused("fetch_manifest", **side.place("absent"), **reading) for reading in _both(side)]
    return found, kept, side.cached(), [error[0] for error in missing], missing[1]


@case
def fetch_summary(side: Side) -> Any:
    side.upload(TREE, probation=True)
    found = side.fetch_summary(**side.place(), **side.registry)
    kept = side.fetch_summary(**side.place(), cache=side.cache, **side.remote)
    side.approve_probation(**side.place(), **side.staging)
    stale = side.fetch_summary(**side.place(), cache=side.cache, **side.remote)
    fresh = side.fetch_summary(**side.place(), cache=side.cache, overwrite=True, **side.remote)
    return sorted(found), found == kept == stale, "on_probation" in fresh, sorted(side.cached())


@case
def fetch_latest(side: Side) -> Any:
    side.upload(TREE)
    side.upload(TREE, "trial", probation=True)
    return [
        side.fetch_latest(side.project, asset, **reading)
        for reading in _both(side)
        for asset in ("data", "trial", "absent")
    ]


@case
def fetch_usage(side: Side) -> Any:
    side.upload(TREE)
    missing = [side.refused("fetch_usage", "absent", **reading) for reading in _both(side)]
    found = [side.fetch_usage(side.project, **reading) for reading in _both(side)]
    return found, missing[0][0], missing[1]


@case
def fetch_permissions(side: Side) -> Any:
    found = [
        side.fetch_permissions(side.project, asset=asset, **reading)
        for reading in _both(side)
        for asset in (None, "absent")
    ]
    missing = [side.refused("fetch_permissions", "absent", **reading) for reading in _both(side)]
    return found, missing[0][0], missing[1]


@case
def list_projects(side: Side) -> Any:
    return [
        [name for name in side.list_projects(**reading) if name == side.project] for reading in _both(side)
    ]


@case
def list_assets(side: Side) -> Any:
    side.upload(TREE)
    side.upload(TREE, "more")
    found = [sorted(side.list_assets(side.project, **reading)) for reading in _both(side)]
    return found, [side.refused("list_assets", "absent", **reading)[0] for reading in _both(side)]


@case
def list_versions(side: Side) -> Any:
    side.upload(TREE)
    side.upload(TREE, version="2")
    found = [sorted(side.list_versions(side.project, "data", **reading)) for reading in _both(side)]
    return found, [side.refused("list_versions", "a", "b", **reading)[0] for reading in _both(side)]


@case
def list_files(side: Side) -> Any:
    side.upload(TREE)
    ways: tuple[dict[str, Any], ...] = ({}, {"prefix": "deep/"}, {"prefix": "d"}, {"include_dotdot": False})
    found = [
        sorted(set(side.list_files(**side.place(), **way, **reading)) - OWN)
        for reading in _both(side)
        for way in ways
    ]
    nothing = side.list_files(**side.place("absent"), **side.registry)
    return found, nothing, side.refused("list_files", **side.place("absent"), **side.remote)


@case
def fetch_file(side: Side) -> Any:
    side.upload(TREE)
    path = f"{side.project}/data/1/deep/est.txt"
    local = side.fetch_file(path, **side.registry)
    fetched = [side.fetch_file(path, cache=side.cache, **side.remote) for _ in range(2)]
    with open(fetched[0], "w", encoding="utf-8") as file:
        file.write("changed")
    kept = side.fetch_file(path, cache=side.cache, **side.remote)
    tree = side.cached()
    side.fetch_file(path, cache=side.cache, overwrite=True, **side.remote)
    absent = side.refused("fetch_file", f"{path}-not", cache=side.cache, **side.remote)
    return local, fetched, kept, tree, side.cached(), absent, side.fetch_file(f"{path}-not", **side.registry)


@case
def fetch_directory(side: Side) -> Any:
    side.upload(TREE)
    path = f"{side.project}/data/1"
    local = side.fetch_directory(path, **side.registry)
    fetched = side.fetch_directory(path, cache=side.cache, **side.remote)
    first = _without_identity(side.cached())
    with open(os.path.join(fetched, "table.csv"), "w", encoding="utf-8") as file:
        file.write("changed")
    side.fetch_directory(path, cache=side.cache, **side.remote)
    kept = _without_identity(side.cached())
    side.fetch_directory(path, cache=side.cache, overwrite=True, concurrent=2, **side.remote)
    part = side.fetch_directory(f"{path}/deep", cache=side.cache, **side.remote)
    absent = side.refused("fetch_directory", f"{path}-not", cache=side.cache, **side.remote)
    return local, fetched, first, kept, part, _without_identity(side.cached()), absent


@case
def version_path(side: Side) -> Any:
    side.upload(TREE)
    local = side.version_path(side.project, "data", "1", **side.registry)
    fetched = side.version_path(side.project, "data", "1", cache=side.cache, concurrent=2, **side.remote)
    return local, fetched, sorted(read_tree(fetched))


@case
def service_info(side: Side) -> Any:
    return side.service_info(side.url)


@case
def unpack_path(side: Side) -> Any:
    texts = ("a/b/c", "a/b/c/", "a/b/c/d", "a/b/c/d/e/", "a/b/c//d", "//", "a/b//x")
    return [side.unpack_path(text) for text in texts], [
        side.refused("unpack_path", text) for text in ("", "a/b")
    ]


def _both(side: Side) -> tuple[dict[str, Any], dict[str, Any]]:
    return side.registry, side.remote


def _without_identity(tree: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the mark of a whole directory says; pygobbler's says nothing."""
    found = {path: None if path.endswith("....OK") else content for path, content in tree.items()}
    return {path: "{}" if path.endswith("..summary") else content for path, content in found.items()}


@pytest.mark.parametrize("name", CASES)
def test_both_sides_give_the_same(name: str, sides: list[Side]) -> None:
    """A program that changes its import from pygobbler to gobblerd.client sees the same as before."""
    theirs, ours = (side.comparable(CASES[name](side)) for side in sides)
    assert ours == theirs


def test_every_function_has_a_case() -> None:
    """Nothing that pygobbler exports is left uncompared; starting and stopping have tests of their own."""
    assert set(NAMES) == CASES.keys() | {"start_gobbler", "stop_gobbler"}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_the_same(name: str) -> None:
    """Names, order and defaults of parameters are pygobbler's; what is more can only be given by name."""
    theirs = inspect.signature(getattr(pygobbler, name)).parameters.values()
    ours = list(inspect.signature(getattr(gobblerd.client, name)).parameters.values())
    for their, our in zip(theirs, ours, strict=False):
        assert (our.name, our.kind) == (their.name, their.kind)
        assert our.default == their.default or (not our.default and their.default == [])
    assert all(more.kind is more.KEYWORD_ONLY for more in ours[len(theirs) :])


def test_each_function_is_a_module_too() -> None:
    """`from pygobbler.fetch_file import fetch_file` moves over as well, and the attribute stays the function."""
    for name in NAMES:
        exec(f"from gobblerd.client.{name} import {name} as found", scope := {})
        assert scope["found"] is getattr(gobblerd.client, name)
        assert callable(getattr(gobblerd.client, name))
    from gobblerd.client import _utils

    assert callable(_utils.dump_request)


# ---- where pygobbler is wrong


def test_directory_of_directories_is_not_empty(sides: list[Side]) -> None:
    """A directory that holds only directories with files is no empty one; pygobbler lists it when it reads locally."""
    side = sides[1]
    side.upload({"a/b/c": b"1", "a/d/e": None})
    for reading in _both(side):
        found = side.list_files(**side.place(), include_dotdot=False, **reading)
        assert sorted(found) == ["a/b/c", "a/d/e/"]
        assert side.list_files(**side.place(), prefix="a/b/c", include_dotdot=False, **reading) == ["a/b/c"]


def test_directory_in_a_clone_stays_a_directory(sides: list[Side]) -> None:
    """A version with an empty directory can be cloned and uploaded again; pygobbler makes a link of it, which is refused."""
    side = sides[1]
    side.upload({"f": b"1", "empty": None})
    clone = os.path.join(side.base, "clone")
    side.clone_version(**side.place(), destination=clone, registry=side.daemon.registry)
    side.upload_directory(**side.place(version="2"), directory=clone, **side.staging)
    manifest = side.daemon.read(side.project, "data", "2", "..manifest")
    assert manifest["empty"] == {"size": 0, "md5sum": ""}
    assert "link" in manifest["f"]


@pytest.mark.parametrize("name", ["hash#tag", "100%25", "what?", "new\nline", "a&b=c", "plus+"])
def test_any_name_can_be_fetched(sides: list[Side], name: str) -> None:
    """Names that mean something in a URL are fetched like any other."""
    side = sides[1]
    side.upload({name: b"content", f"{name}-d/f": b"2"}, "odd")
    fetched = side.version_path(side.project, "odd", "1", cache=side.cache, **side.remote)
    assert {path: content for path, content in read_tree(fetched).items() if not path.startswith("..")} == {
        name: b"content",
        f"{name}-d/f": b"2",
    }
