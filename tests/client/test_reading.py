"""Reading where there is no registry: everything over REST; and a clear error where there is nothing to read."""

import os
from pathlib import Path

import pytest
from support.daemon import RunningDaemon, StartDaemon
from support.places import Tree, open_directory, read_tree

from gobblerd import client
from gobblerd.client import GobblerError, GobblerUnreachable

TREE: Tree = {"a": b"a\n", "sub/b": b"b\n", "none": None}


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "far"})
    daemon.upload("far/data/1", TREE)
    return daemon


@pytest.mark.parametrize("registry", [None, "/absent"])
def test_journey_without_registry(daemon: RunningDaemon, registry: str | None) -> None:
    """Without the registry's filesystem, every function that reads does so over REST."""
    url = f"http://127.0.0.1:{daemon.port}"
    read = {"registry": registry, "url": url}
    place = {"project": "far", "asset": "data", "version": "1"}
    with open_directory() as cache:
        kept = {**read, "cache": cache}
        assert client.list_projects(**read) == ["far"]
        assert client.list_assets("far", **read) == ["data"]
        assert client.list_versions("far", "data", **read) == ["1"]
        assert sorted(client.list_files(**place, include_dotdot=False, **read)) == ["a", "none/", "sub/b"]
        assert client.list_files(**place, prefix="sub/", **read) == ["sub/b"]
        assert set(client.fetch_manifest(**place, **kept)) == {"a", "sub/b", "none"}
        assert client.fetch_summary(**place, **kept)["upload_user_id"] == "root"
        assert client.fetch_latest("far", "data", **read) == "1"
        assert client.fetch_latest("far", "absent", **read) is None
        assert client.fetch_usage("far", **read) == 4
        assert client.fetch_permissions("far", **read)["owners"] == ["root"]
        assert client.fetch_permissions("far", asset="data", **read) == {"owners": [], "uploaders": []}
        with open(client.fetch_file("far/data/1/sub/b", **kept), "rb") as file:
            assert file.read() == b"b\n"
        found = read_tree(client.version_path("far", "data", "1", **kept))
        assert {path: content for path, content in found.items() if not path.startswith("..")} == TREE
        assert client.service_info(url) == {"staging": daemon.staging, "registry": daemon.registry}
        client.set_permissions("far", staging=daemon.staging, uploaders=[{"id": "x"}], **read)
        assert client.fetch_permissions("far", **read)["uploaders"][0] == {"id": "x"}
        client.set_permissions("far", staging=daemon.staging, uploaders=[], append=False, **read)


def test_permissions_have_both_lists(tmp_path: Path) -> None:
    """A Go service writes null for a list without entries; an asset may have no document at all."""
    (tmp_path / "p" / "a").mkdir(parents=True)
    (tmp_path / "p" / "..permissions").write_text('{"owners": null, "uploaders": null, "global_write": true}')
    found = client.fetch_permissions("p", str(tmp_path), None)
    assert found == {"owners": [], "uploaders": [], "global_write": True}
    assert client.fetch_permissions("p", str(tmp_path), None, asset="a") == {"owners": [], "uploaders": []}
    wanted = client.set_permissions(
        "p", str(tmp_path), "", None, owners=["x"], uploaders=[{"id": "y"}], dry_run=True
    )
    assert wanted == {"owners": ["x"], "uploaders": [{"id": "y"}]}


def test_default_cache(daemon: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cache of one's own it is pygobbler's: in the user's data directory."""
    import pygobbler

    url = f"http://127.0.0.1:{daemon.port}"
    with open_directory() as home:
        monkeypatch.setenv("HOME", home)
        for data in (None, os.path.join(home, "data")):
            if data is None:
                monkeypatch.delenv("XDG_DATA_HOME", raising=False)
            else:
                monkeypatch.setenv("XDG_DATA_HOME", data)
            ours = client.fetch_file("far/data/1/a", None, url)
            assert ours == pygobbler.fetch_file("far/data/1/a", "/absent", url)
            assert ours.startswith(data or os.path.join(home, ".local/share/gobbler"))


@pytest.mark.parametrize("registry", [None, "/absent"])
def test_nothing_to_read_from(registry: str | None) -> None:
    """Neither a registry nor a URL: the error says which is missing."""
    nowhere = {"registry": registry, "url": None}
    expected = "no registry is given" if registry is None else "the registry /absent is not there"
    for read in (
        lambda: client.fetch_latest("p", "a", **nowhere),
        lambda: client.fetch_manifest("p", "a", "1", **nowhere),
        lambda: client.fetch_file("p/a/1/f", **nowhere),
        lambda: client.fetch_directory("p/a/1", **nowhere),
        lambda: client.list_projects(**nowhere),
        lambda: client.list_files("p", "a", "1", **nowhere),
        lambda: client.clone_version("p", "a", "1", "/nonexistent/clone", registry),
    ):
        with pytest.raises(GobblerUnreachable, match=f"{expected}, and no URL"):
            read()


def test_refusal_over_rest(daemon: RunningDaemon) -> None:
    """What is not there is a 404 with the service's own reason."""
    with pytest.raises(GobblerError, match="nothing to read") as caught:
        client.fetch_usage("absent", None, f"http://127.0.0.1:{daemon.port}")
    assert caught.value.code == 404
