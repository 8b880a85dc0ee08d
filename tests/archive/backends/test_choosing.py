"""Which place a path or a URL is."""

import doctest
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from archive.backends.curator import Curator, curating
from client.middleman import middleman
from support.daemon import RunningDaemon
from support.places import Users, ids_of

from gobblerd.archive import CDCSArchive, FileSystemArchive, GobblerArchive, Wrong, get_backend
from gobblerd.archive.backends import choosing, credentials, rmellipse
from gobblerd.client import GobblerUnreachable
from gobblerd.client.cache import local_registry
from gobblerd.domain.version_spec import VersionSpec

ALL = VersionSpec.parse(None)


@pytest.fixture
def curator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Curator]:
    monkeypatch.setenv("HOME", str(tmp_path))
    with curating() as found:
        yield found


def test_examples_of_the_docstrings() -> None:
    """What the docstrings show is what happens."""
    for module in (choosing, credentials, rmellipse):
        found = doctest.testmod(module)
        assert found.attempted
        assert found.failed == 0


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark makes an rmellipse archive, the registry's own names a registry; anything else is neither."""
    for name, sign in (("shelf", ".rmearchive"), ("go", "..logs"), ("own", "..gobblerd"), ("odd", "x")):
        (tmp_path / name / sign).mkdir(parents=True)
    assert isinstance(get_backend(str(tmp_path / "shelf")), FileSystemArchive)
    assert isinstance(get_backend(str(tmp_path / "go")), GobblerArchive)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert get_backend("~/own").host == str(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    assert get_backend("shelf").host == str(tmp_path / "shelf")
    with pytest.raises(Wrong, match=r"touch \.rmearchive"):
        get_backend(str(tmp_path / "odd"))
    with pytest.raises(Wrong, match="no directory"):
        get_backend(str(tmp_path / "none"))


def test_a_place_that_may_not_be_looked_at(tmp_path: Path, users: Users) -> None:
    """Nobody is told that it is nothing, or to mark it."""
    closed = tmp_path / "closed"
    (closed / ".rmearchive").mkdir(parents=True)
    closed.chmod(0o700)
    os.seteuid(ids_of(users.alice)[0])
    try:
        with pytest.raises(PermissionError):
            get_backend(str(closed))
    finally:
        os.seteuid(0)


def test_urls(daemon: RunningDaemon, curator: Curator) -> None:
    """Whoever answers as a gobblerd is one, anything else a CDCS; a kind before the URL settles it."""
    url = f"http://127.0.0.1:{daemon.port}"
    assert isinstance(get_backend(url), GobblerArchive)
    assert isinstance(get_backend(f"gobbler+{url}"), GobblerArchive)
    assert isinstance(get_backend(curator.url), CDCSArchive)
    assert isinstance(get_backend(f"cdcs+{curator.url}"), CDCSArchive)
    for host in ("ftp://example.org", "gopher+https://example.org", "file:///etc"):
        with pytest.raises(Wrong, match="http or https"):
            get_backend(host)
    with pytest.raises(GobblerUnreachable):
        get_backend("http://127.0.0.1:1")


def test_a_password_goes_to_its_gobblerd(daemon: RunningDaemon) -> None:
    """It may be behind a proxy that wants one; it is shown nowhere."""
    daemon.done("create_project", {"project": "proj"})
    with middleman(daemon.port) as man:
        found = get_backend(man.url, "anna", "s3:cret@")
        assert isinstance(found, GobblerArchive)
        assert list(found.list_records("proj", "none", ALL)) == []
        assert man.seen[-1].headers["Authorization"] == "Basic YW5uYTpzMzpjcmV0QA=="
        assert found.host == man.url
        assert "s3" not in local_registry("cache", str(found._gobbler.url))
        assert local_registry("cache", str(found._gobbler.url)) == local_registry("cache", man.url)
        named = get_backend(man.url.replace("://", "://anna:s3cret@"))
        assert list(named.list_records("proj", "none", ALL)) == []
        assert man.seen[-1].headers["Authorization"] == "Basic YW5uYTpzM2NyZXQ="
        assert named.host == man.url
