"""The client that exists: pygobbler 0.1.11 from PyPI, unchanged, against the Go service's command line.

Each user's calls run in a process of that user. Differences between users are real: owners of files, groups,
rights in the registry.
"""

import inspect
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

import pygobbler
import pytest
from support.checker import assert_clean
from support.daemon import RunningDaemon, StartDaemon
from support.documents import nanoseconds
from support.places import ROOT, Symlink, Tree, Users, give_to, open_directory, read_tree, write_tree
from support.pygobbler_user import Call, PygobblerError, copy_packages, pygobbler_of


class Client:
    """Calls pygobbler's functions as one user; fills in `staging`, `registry` and `url` where they are asked for."""

    def __init__(self, user: str, call: Call, daemon: RunningDaemon) -> None:
        self.user = user
        self._call = call
        self._common = {
            "staging": daemon.staging,
            "registry": daemon.registry,
            "url": f"http://127.0.0.1:{daemon.port}",
        }

    def __call__(self, function: str, /, **arguments: Any) -> Any:
        wanted = inspect.signature(getattr(pygobbler, function)).parameters
        return self._call(function, **{k: v for k, v in self._common.items() if k in wanted}, **arguments)

    def refused(self, code: int, function: str, /, **arguments: Any) -> str:
        """Call what must be refused with this code; return the reason."""
        with pytest.raises(PygobblerError) as caught:
            self(function, **arguments)
        assert caught.value.code == code, caught.value
        return caught.value.reason

    def allocate(self, tree: Tree) -> str:
        """Allocate a directory in staging and fill it."""
        path = self("allocate_upload_directory")
        write_tree(path, tree)
        give_to(path, self.user)
        return str(path)


class Site(NamedTuple):
    """A daemon and its users."""

    daemon: RunningDaemon
    base: str
    whitelisted: str
    admin: Client
    alice: Client
    bob: Client
    carol: Client

    def outside(self, name: str, tree: Tree) -> str:
        """Make a directory outside staging that every user can read."""
        path = os.path.join(self.base, name)
        write_tree(path, tree)
        return path


@pytest.fixture(scope="module")
def site(start_module_daemon: StartDaemon, users: Users) -> Iterator[Site]:
    with ExitStack() as stack:
        base = stack.enter_context(open_directory())
        packages = os.path.join(base, "packages")
        copy_packages(packages)
        whitelisted = os.path.join(base, "whitelisted")
        write_tree(whitelisted, {"big.bin": b"big\n"})
        for name, text in {"whitelist": whitelisted, "spoof": f"{users.carol}:{users.alice}"}.items():
            with open(os.path.join(base, name), "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
        files = ["-whitelist", os.path.join(base, "whitelist"), f"-spoof={os.path.join(base, 'spoof')}"]
        daemon = start_module_daemon(options=[*files, "--probation", "30", "-concurrency=4"])
        clients = [
            Client(user, stack.enter_context(pygobbler_of(user, packages)), daemon) for user in (ROOT, *users)
        ]
        yield Site(daemon, base, whitelisted, *clients)
        assert_clean(daemon.registry, whitelist=[whitelisted])


def place(project: str, asset: str = "data", version: str = "1") -> dict[str, str]:
    return {"project": project, "asset": asset, "version": version}


def ordered(value: Any) -> Any:
    """Sort a list; leave anything else."""
    return sorted(value) if isinstance(value, list) else value


# No directory holds only directories with files: pygobbler's local listing takes such a one for empty.
TREE: Tree = {
    "table.csv": b"a,b\n1,2\n",
    "deep/est.txt": b"deepest\n",
    "with space and \u00e9": b"name\n",
    "empty/inner": None,
    ".hidden": b"hidden\n",
}


def test_upload_and_read(site: Site) -> None:
    """A project, its first version, and everything that can be read of it, locally and remotely alike."""
    site.admin("create_project", project="read", owners=[site.alice.user])
    directory = site.outside("tree", TREE)
    site.alice("upload_directory", **place("read"), directory=directory)
    assert read_tree(directory) == TREE

    manifest = site.alice("fetch_manifest", **place("read"))
    assert set(manifest) == {"table.csv", "deep/est.txt", "with space and \u00e9", "empty/inner"}
    assert manifest["empty/inner"] == {"size": 0, "md5sum": ""}
    summary = site.alice("fetch_summary", **place("read"))
    assert summary["upload_user_id"] == site.alice.user
    assert nanoseconds(summary["upload_start"]) <= nanoseconds(summary["upload_finish"])
    assert "on_probation" not in summary

    cache = site.outside("cache-of-reads", {})
    give_to(cache, site.bob.user)
    for function, arguments, expected in (
        ("list_projects", {}, None),
        ("list_assets", {"project": "read"}, ["data"]),
        ("list_versions", {"project": "read", "asset": "data"}, ["1"]),
        ("list_files", {**place("read"), "include_dotdot": False}, [*manifest.keys() - {"empty/inner"}, "empty/inner/"]),
        ("list_files", {**place("read"), "prefix": "deep/"}, ["deep/est.txt"]),
        ("list_files", place("read"), None),
        ("fetch_latest", {"project": "read", "asset": "data"}, "1"),
        ("fetch_usage", {"project": "read"}, 8 + 8 + 5),
        ("fetch_permissions", {"project": "read"}, {"owners": [site.alice.user], "uploaders": []}),
        ("fetch_permissions", {"project": "read", "asset": "data"}, {"owners": [], "uploaders": []}),
        ("fetch_manifest", {**place("read"), "cache": cache}, manifest),
        ("fetch_summary", {**place("read"), "cache": cache}, summary),
    ):  # fmt: skip
        local = site.bob(function, **arguments)
        remote = site.bob(function, **arguments, force_remote=True)
        assert ordered(local) == ordered(remote), function
        assert expected is None or ordered(local) == ordered(expected), function
    assert "read" in site.bob("list_projects")


def test_upload_from_inside_staging(site: Site) -> None:
    """A directory allocated in staging is uploaded as it is and stays; with `consume` its stored files go."""
    site.admin("create_project", project="inside", owners=[site.alice.user])
    tree = {"a": b"a\n", "sub/b": b"bb\n", "none": None, ".dot": b"dot\n", "..own": b"internal\n"}
    directory = site.alice.allocate(tree)
    site.alice("upload_directory", **place("inside"), directory=directory, ignore_dot=False)
    assert read_tree(directory) == tree
    assert set(site.alice("fetch_manifest", **place("inside"))) == {"a", "sub/b", "none", ".dot"}

    changed = {**tree, "a": b"changed\n"}
    directory = site.alice.allocate(changed)
    site.alice("upload_directory", **place("inside", version="2"), directory=directory, consume=True)
    left = {"sub/b": b"bb\n", "none": None, ".dot": b"dot\n", "..own": b"internal\n"}
    assert read_tree(directory) == left, "only `a` was stored: `sub/b` became a link, dotfiles were skipped"


def test_deduplicate_and_clone(site: Site) -> None:
    """Equal files become links, clones become links to links, and none of them is counted twice."""
    site.admin("create_project", project="links", owners=[site.alice.user])
    one = {"same": b"same\n", "other": b"other\n"}
    site.alice("upload_directory", **place("links"), directory=site.outside("links-1", one))
    site.alice("upload_directory", **place("links", version="2"), directory=site.outside("links-2", one))
    second = site.alice("fetch_manifest", **place("links", version="2"))
    assert second["same"]["link"] == {**place("links"), "path": "same"}
    assert os.readlink(site.daemon.path("links/data/2/same")) == "../1/same"

    clone = site.alice("allocate_upload_directory", create=False)
    site.alice("clone_version", **place("links", version="2"), destination=clone)
    os.unlink(os.path.join(clone, "other"))
    write_tree(
        clone, {"other": b"changed\n", "local": Symlink("other"), "w": Symlink(f"{site.whitelisted}/big.bin")}
    )
    give_to(clone, site.alice.user)
    site.alice("upload_directory", **place("links", asset="clone"), directory=clone)
    third = site.alice("fetch_manifest", **place("links", asset="clone"))
    assert third["same"]["link"] == {
        **place("links", version="2"),
        "path": "same",
        "ancestor": {**place("links"), "path": "same"},
    }
    assert third["local"]["link"] == {**place("links", asset="clone"), "path": "other"}
    assert "link" not in third["other"]
    assert third["w"] == {"size": 4, "md5sum": "3b4df51f8f8f3229cb4b950d4f8b9175"}
    assert os.readlink(site.daemon.path("links/clone/1/same")) == "../../data/1/same"
    assert os.readlink(site.daemon.path("links/clone/1/w")) == f"{site.whitelisted}/big.bin"
    assert site.alice("fetch_usage", project="links") == 5 + 6 + 8 + 4
    assert site.admin("refresh_usage", project="links") == 5 + 6 + 8 + 4


def test_probation(site: Site) -> None:
    """An untrusted user's version waits for an owner: approved it becomes the latest, rejected it is gone."""
    site.admin("create_project", project="trial", owners=[site.alice.user], uploaders=[{"id": site.bob.user}])
    directory = site.outside("trial", {"f": b"trial\n"})
    for version in ("good", "bad", "own"):
        site.bob("upload_directory", **place("trial", version=version), directory=directory)
    assert site.bob("fetch_summary", **place("trial", version="good"))["on_probation"] is True
    assert site.bob("fetch_latest", project="trial", asset="data") is None
    assert site.bob("fetch_latest", project="trial", asset="data", force_remote=True) is None
    assert site.admin("refresh_latest", project="trial", asset="data") is None
    assert site.bob("fetch_usage", project="trial") == 18

    assert site.bob.user in site.bob.refused(403, "approve_probation", **place("trial", version="good"))
    site.carol.refused(403, "reject_probation", **place("trial", version="good"))
    site.alice("approve_probation", **place("trial", version="good"))
    assert "on_probation" not in site.bob("fetch_summary", **place("trial", version="good"))
    assert site.bob("fetch_latest", project="trial", asset="data") == "good"
    assert "probation" in site.alice.refused(400, "approve_probation", **place("trial", version="good"))

    site.alice("reject_probation", **place("trial", version="bad"))
    site.bob("reject_probation", **place("trial", version="own"))
    assert site.bob("list_versions", project="trial", asset="data") == ["good"]
    assert site.bob("fetch_usage", project="trial") == 6

    site.alice("upload_directory", **place("trial", version="later"), directory=directory, probation=True)
    assert site.bob("fetch_latest", project="trial", asset="data") == "good"
    site.alice("approve_probation", **place("trial", version="later"))
    assert site.bob("fetch_latest", project="trial", asset="data") == "later"


def test_global_write(site: Site) -> None:
    """In a `global_write` project a stranger makes an asset, owns it, and keeps others out of it."""
    site.admin("create_project", project="open", owners=[site.alice.user])
    directory = site.outside("open", {"f": b"open\n"})
    upload = {**place("open", asset="mine"), "directory": directory}
    site.carol.refused(403, "upload_directory", **upload)
    assert site.carol("list_assets", project="open") == [], "a refused upload squats no asset"

    site.alice("set_permissions", project="open", global_write=True)
    assert site.carol("fetch_permissions", project="open")["global_write"] is True
    site.carol("upload_directory", **upload)
    assert "on_probation" not in site.carol("fetch_summary", **place("open", asset="mine"))
    assert site.carol("fetch_permissions", project="open", asset="mine") == {
        "owners": [site.carol.user],
        "uploaders": [],
    }
    assert "open" in site.bob.refused(403, "upload_directory", **{**upload, "version": "2"})
    site.carol(
        "set_permissions", project="open", asset="mine", uploaders=[{"id": site.bob.user, "trusted": True}]
    )
    site.bob("upload_directory", **{**upload, "version": "2"})
    assert site.bob("fetch_latest", project="open", asset="mine") == "2"


def test_permissions(site: Site) -> None:
    """Owners are added to or replaced; a dry run asks nobody; strangers change nothing."""
    site.admin("create_project", project="perms", owners=[site.alice.user])
    entry = {"id": site.bob.user, "asset": "data", "until": "2099-01-01T00:00:00Z", "trusted": False}
    site.alice("set_permissions", project="perms", owners=[site.bob.user, site.alice.user], uploaders=[entry])
    expected = {"owners": [site.alice.user, site.bob.user], "uploaders": [entry]}
    assert site.carol("fetch_permissions", project="perms") == expected
    site.carol.refused(403, "set_permissions", project="perms", owners=[site.carol.user])
    assert site.carol("set_permissions", project="perms", owners=["x"], append=False, dry_run=True) == {
        "owners": ["x"]
    }
    site.alice("set_permissions", project="perms", owners=[site.alice.user], append=False)
    assert site.carol("fetch_permissions", project="perms") == {**expected, "owners": [site.alice.user]}


def test_spoofing(site: Site) -> None:
    """One who may act as another is, for the project, that other; one who may not is refused."""
    site.admin("create_project", project="spoofed", owners=[site.alice.user])
    directory = site.outside("spoofed", {"f": b"spoof\n"})
    upload = {**place("spoofed"), "directory": directory, "spoof": site.alice.user}
    assert site.alice.user in site.bob.refused(403, "upload_directory", **upload)
    site.carol("upload_directory", **upload)
    assert site.carol("fetch_summary", **place("spoofed"))["upload_user_id"] == site.alice.user


def test_fetch_remotely(site: Site) -> None:
    """Directories and files arrive over HTTP as they are in the registry, links and empty directories included."""
    site.admin("create_project", project="remote", owners=[site.alice.user])
    big = bytes(range(256)) * 4096
    for version in ("1", "2"):
        directory = site.outside(f"remote-{version}", {**TREE, "big": big, "v": version.encode()})
        site.alice("upload_directory", **place("remote", version=version), directory=directory)
    cache = site.outside("cache", {})
    give_to(cache, site.bob.user)
    fetch = {"cache": cache, "force_remote": True}
    path = site.bob("fetch_directory", path="remote/data/2", concurrent=2, **fetch)
    assert path.startswith(cache)
    fetched = {p: c for p, c in read_tree(path).items() if not os.path.basename(p).startswith("..")}
    assert fetched == {**{p: c for p, c in TREE.items() if p != ".hidden"}, "big": big, "v": b"2"}

    file = site.bob("fetch_file", path="remote/data/2/deep/est.txt", **fetch)
    with open(file, "rb") as opened:
        assert opened.read() == b"deepest\n"
    assert site.bob("fetch_directory", path="remote/data/2") == site.daemon.path("remote/data/2")
    assert site.bob.refused(404, "fetch_file", path="remote/data/2/nothing", **fetch)


def test_reindex_and_validate(site: Site) -> None:
    """Validation accepts what was uploaded, names what was damaged, and reindexing accepts it."""
    site.admin("create_project", project="check")
    site.admin("upload_directory", **place("check"), directory=site.outside("check", TREE))
    site.admin("validate_version", **place("check"))
    site.admin("reindex_version", **place("check"))
    site.admin("validate_version", **place("check"))
    with open(site.daemon.path("check/data/1/more"), "w", encoding="utf-8") as file:
        file.write("more\n")
    reason = site.admin.refused(422, "validate_version", **place("check"))
    assert "extra file" in reason
    assert "more" in reason
    site.admin("reindex_version", **place("check"))
    site.admin("validate_version", **place("check"))
    assert site.admin("fetch_manifest", **place("check"))["more"]["size"] == 5
    assert site.admin("refresh_usage", project="check") == 8 + 8 + 5 + 5
    site.alice.refused(403, "validate_version", **place("check"))
    site.alice.refused(403, "reindex_version", **place("check"))


def test_reroute_and_remove(site: Site) -> None:
    """Links into what is to be deleted are rerouted (after a dry run that tells the same), then it is deleted."""
    for project in ("old", "new"):
        site.admin("create_project", project=project)
    site.admin("upload_directory", **place("old"), directory=site.outside("old", {"f": b"payload\n"}))
    target = site.daemon.path("old/data/1/f")
    site.admin("upload_directory", **place("new"), directory=site.outside("new-1", {"g": Symlink(target)}))
    target = site.daemon.path("new/data/1/g")
    site.admin(
        "upload_directory",
        **place("new", version="2"),
        directory=site.outside("new-2", {"h": Symlink(target)}),
    )

    expected = [
        {"path": "new/data/1/g", "source": "old/data/1/f", "copy": True, "usage": 8},
        {"path": "new/data/2/h", "source": "old/data/1/f", "copy": False, "usage": 0},
    ]
    site.alice.refused(403, "reroute_links", to_delete=[{"project": "old"}], dry_run=True)
    assert site.admin("reroute_links", to_delete=[{"project": "old"}], dry_run=True) == expected
    assert site.admin("fetch_usage", project="new") == 0
    assert site.admin("reroute_links", to_delete=[{"project": "old"}]) == expected
    assert site.admin("fetch_usage", project="new") == 8
    assert os.readlink(site.daemon.path("new/data/2/h")) == "../1/g"

    site.alice.refused(403, "remove_project", project="old")
    site.admin("remove_project", project="old")
    assert "old" not in site.admin("list_projects")
    for version in ("1", "2"):
        site.admin("validate_version", **place("new", version=version))
    site.admin("remove_version", **place("new", version="2"))
    assert site.admin("fetch_latest", project="new", asset="data") == "1"
    assert site.admin("refresh_latest", project="new", asset="data") == "1"
    site.admin("remove_asset", project="new", asset="data")
    assert site.admin("list_assets", project="new") == []
    assert site.admin("fetch_usage", project="new") == 0
    site.admin("remove_project", project="new")
    site.admin("remove_project", project="new")


def test_errors_are_pygobbler_s_own(site: Site) -> None:
    """Each refusal arrives as requests.HTTPError with its code and a reason that names the thing at fault."""
    site.admin("create_project", project="errors", owners=[site.alice.user])
    directory = site.outside("errors", {"f": b"1"})
    site.alice("upload_directory", **place("errors"), directory=directory)
    upload = {"directory": directory}
    assert "errors" in site.admin.refused(400, "create_project", project="errors")
    assert site.bob.user in site.bob.refused(403, "create_project", project="mine")
    assert "exists" in site.alice.refused(400, "upload_directory", **place("errors"), **upload)
    assert "absent" in site.alice.refused(404, "upload_directory", **place("absent"), **upload)
    assert "absent" in site.admin.refused(404, "refresh_usage", project="absent")
    assert "absent" in site.admin.refused(404, "refresh_latest", project="errors", asset="absent")
    assert "absent" in site.admin.refused(404, "validate_version", **place("errors", version="absent"))
    assert "project" in site.admin.refused(400, "create_project", project="..x")
    bad = site.outside("errors-bad", {"bad": Symlink("/etc/passwd")})
    assert "bad" in site.alice.refused(400, "upload_directory", **place("errors", version="2"), directory=bad)
    assert site.alice("list_versions", project="errors", asset="data") == ["1"]


def test_service_info(site: Site) -> None:
    """`/info` is exactly the two directories."""
    expected = {"staging": site.daemon.staging, "registry": site.daemon.registry}
    assert site.bob("service_info") == expected
    assert json.loads(site.daemon.get("/info").data) == expected
