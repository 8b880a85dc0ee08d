"""A registry that the Go service wrote is served, validated, continued, rerouted and deleted as it is."""

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from support.checker import assert_clean
from support.corpus import NULL_UPLOADERS, WHITELISTED_BYTES, WHITELISTED_FILE, Corpus, unpack, versions
from support.daemon import RunningDaemon, StartDaemon, address
from support.places import Symlink, open_directory, read_tree


class Served(NamedTuple):
    """A daemon on the Go service's registry."""

    daemon: RunningDaemon
    corpus: Corpus

    def require_clean(self) -> None:
        """Check the whole registry; the one null in it is Go's."""
        assert_clean(self.corpus.registry, whitelist=[self.corpus.whitelisted], ignore=[NULL_UPLOADERS])


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with open_directory() as base:
        yield unpack(base)


@pytest.fixture
def served(corpus: Corpus, start_daemon: StartDaemon) -> Served:
    file = os.path.join(os.path.dirname(corpus.registry), "whitelist")
    with open(file, "w", encoding="utf-8") as whitelist:
        whitelist.write(f"{corpus.whitelisted}\n")
    return Served(start_daemon(registry=corpus.registry, options=["-whitelist", file]), corpus)


def test_every_version_is_valid(served: Served) -> None:
    """Every version of the Go service validates, and validating changes nothing."""
    before = read_tree(served.corpus.registry)
    found = versions(served.corpus.registry)
    assert len(found) == 13
    for version in found:
        served.daemon.done("validate_version", address("/".join(version)))
    ours = {"..transactions"}
    after = read_tree(served.corpus.registry)
    assert {p: c for p, c in after.items() if p.split("/")[0] not in ours} == before


def test_what_is_derived_is_what_was_stored(served: Served) -> None:
    """Recomputed usage and latest are what the Go service stored."""
    for project in ("alpha", "beta", "open"):
        stored = served.daemon.read(project, "..usage")
        assert served.daemon.done("refresh_usage", {"project": project})["total"] == stored["total"]
    for project, asset in sorted({version[:2] for version in versions(served.corpus.registry)}):
        stored = served.daemon.read(project, asset, "..latest")
        answer = served.daemon.done("refresh_latest", {"project": project, "asset": asset})
        # Whole seconds: of versions finished within one second, any may be the latest.
        finish = served.daemon.read(project, asset, stored["version"], "..summary")["upload_finish"]
        assert served.daemon.read(project, asset, answer["version"], "..summary")["upload_finish"] == finish
    served.require_clean()


def test_reindexing_finds_the_same(served: Served) -> None:
    """Reindexing any version gives the manifest and links that the Go service wrote."""
    for version in versions(served.corpus.registry):
        before = served.daemon.read(*version, "..manifest")
        served.daemon.done("reindex_version", address("/".join(version)))
        assert served.daemon.read(*version, "..manifest") == before, version
    served.require_clean()


def test_continued_by_an_upload(served: Served) -> None:
    """Files equal to Go's latest version become links to it, links to links keep their ancestor."""
    latest = served.corpus.registry + "/alpha/a/3"
    tree = {
        "new": b"brand new\n",
        "top.txt": b"one\n",
        "chained": Symlink(f"{latest}/chain"),
        "kept": Symlink(f"{served.corpus.whitelisted}/big.bin"),
    }
    served.daemon.upload("alpha/a/4", tree)
    manifest = served.daemon.read("alpha/a/4/..manifest")
    third = address("alpha/a/3")
    assert manifest["new"]["link"]["version"] == "3"
    assert manifest["top.txt"]["link"]["ancestor"] == {**address("alpha/a/1"), "path": "top.txt"}
    assert manifest["chained"]["link"] == {
        **third,
        "path": "chain",
        "ancestor": {**third, "path": "new"},
    }
    assert manifest["kept"]["size"] == len(WHITELISTED_BYTES)
    assert os.readlink(served.daemon.path("alpha/a/4/chained")) == "../3/new"
    assert served.daemon.read("alpha/a/..latest") == {"version": "4"}
    assert served.daemon.read("alpha/..usage") == {"total": 89 + len(WHITELISTED_BYTES)}
    served.require_clean()


def test_rerouted_and_deleted(served: Served) -> None:
    """Links into a version that goes are pointed at what lives, or copied; then it can be deleted."""
    to_delete = {"to_delete": [address("alpha/a/1"), address("alpha/a/2")]}
    dry = served.daemon.done("reroute_links", {**to_delete, "dry_run": True})["changes"]
    assert dry == served.daemon.done("reroute_links", to_delete)["changes"]
    copies = {change["path"] for change in dry if change["copy"]}
    assert copies == {"alpha/a/3/link-to-v1", "alpha/a/3/link-to-v2", "alpha/a/3/top.txt"}
    assert [change["path"] for change in dry] == sorted({*copies, "alpha/b/1/cross"}), (
        "alpha/b/1/cross loses its ancestor only: its parent alpha/a/3/link-to-v2 lives"
    )
    assert os.readlink(served.daemon.path("alpha/b/1/cross")) == "../../a/3/link-to-v2"
    for version in ("1", "2"):
        served.daemon.done("delete_version", address(f"alpha/a/{version}"))
    served.require_clean()
    for version in versions(served.corpus.registry):
        served.daemon.done("validate_version", address("/".join(version)))


def test_everything_can_be_deleted(served: Served) -> None:
    """Versions, assets and projects of the Go service go, and nothing of them stays."""
    served.daemon.done("delete_version", address("alpha/b/1"))
    served.daemon.done("delete_version", address("alpha/d/2"))
    served.daemon.done("delete_asset", address("alpha/d"))
    served.daemon.done("delete_asset", address("alpha/e"))
    assert served.daemon.read("alpha/..usage") == {"total": 89 - 16 - 14 - 2}
    served.require_clean()
    for project in ("alpha", "beta", "open"):
        served.daemon.done("delete_project", {"project": project})
    left = {name for name in os.listdir(served.corpus.registry) if not name.startswith("..")}
    assert not left
    assert read_tree(served.corpus.whitelisted) == {WHITELISTED_FILE: WHITELISTED_BYTES}
    served.require_clean()


def test_permissions_and_probation_are_understood(served: Served) -> None:
    """Go's permissions (a null among them) and its probational version can be worked with."""
    served.daemon.done("approve_probation", address("beta/data/v3"))
    assert served.daemon.read("beta/data/..latest") == {"version": "v3"}
    asset = {**address("open/mine"), "permissions": {"owners": ["x"]}}
    served.daemon.done("set_permissions", asset)
    assert served.daemon.read("open/mine/..permissions") == {"owners": ["x"], "uploaders": []}
    served.require_clean()
