"""`Gobbler`: the functions as methods, with the places said once, by whoever says them first."""

import inspect
import os
from pathlib import Path

import pytest
from support.daemon import RunningDaemon, StartDaemon
from support.places import open_directory, write_tree

from gobblerd import client
from gobblerd.client import Gobbler, GobblerTimeout, settings


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    return start_module_daemon()


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key in settings.KEYS:
        monkeypatch.delenv(f"GOBBLER_{key.upper()}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def configure(text: str) -> str:
    path = settings.config_file()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def test_every_function_is_a_method() -> None:
    """The object has what the package has, but for starting services."""
    functions = {name for name in client.__all__ if inspect.isfunction(getattr(client, name))}
    methods = {name for name in vars(Gobbler) if not name.startswith("_")}
    assert methods == functions - {"start_gobbler", "stop_gobbler"}
    assert Gobbler().create_project.__doc__ == client.create_project.__doc__
    assert Gobbler.create_project is client.create_project


@pytest.mark.parametrize("by_file", [False, True])
def test_journey(daemon: RunningDaemon, by_file: bool) -> None:  # noqa: FBT001 - a parameter
    """A project's life with nothing but the object, over REST and by file."""
    url = "" if by_file else f"http://127.0.0.1:{daemon.port}"
    gobbler = Gobbler(daemon.staging, daemon.registry, url)
    with open_directory() as base:
        source = os.path.join(base, "source")
        write_tree(source, {"f": b"1"})
        gobbler.create_project("p", ["root"], uploaders=[{"id": "bob"}])
        gobbler.upload_directory("p", "a", "1", source, probation=True)
        gobbler.approve_probation("p", "a", "1")
        assert gobbler.fetch_latest("p", "a") == "1"
        assert gobbler.fetch_permissions("p")["uploaders"] == [{"id": "bob"}]
        assert gobbler.set_permissions("p", owners=["x"], dry_run=True) == {"owners": ["root", "x"]}
        assert gobbler.list_files("p", "a", "1", include_dotdot=False) == ["f"]
        assert gobbler.version_path("p", "a", "1") == daemon.path("p/a/1")
        clone = gobbler.allocate_upload_directory(create=False)
        gobbler.clone_version("p", "a", "1", clone)
        gobbler.upload_directory("p", "a", "2", clone)
        assert gobbler.reroute_links([{"project": "p", "asset": "a", "version": "1"}], dry_run=True)[0][
            "copy"
        ]
        assert gobbler.submit("refresh_usage", project="p") == {"total": 1}
        assert gobbler.submit("set_quota", project="p", baseline=5) == {}
        assert gobbler.unpack_path("p/a/1")["version"] == "1"
        if not by_file:
            assert gobbler.service_info()["staging"] == daemon.staging
            far = gobbler.version_path("p", "a", "1", force_remote=True, cache=os.path.join(base, "cache"))
            assert far.startswith(base)
        gobbler.remove_project("p")


def test_arguments(daemon: RunningDaemon) -> None:
    """Arguments are taken by position and by name as the function has them, less the places; mistakes are TypeErrors."""
    gobbler = Gobbler(daemon.staging, daemon.registry, f"http://127.0.0.1:{daemon.port}")
    with pytest.raises(TypeError, match="several values for 'project'"):
        gobbler.create_project("p", project="q")
    with pytest.raises(TypeError, match="at most 2"):
        gobbler.fetch_usage("p", True, "more")
    with pytest.raises(TypeError, match="project"):
        gobbler.create_project()
    with pytest.raises(FileNotFoundError):
        gobbler.fetch_usage("p")
    assert gobbler.fetch_latest("p", "a", registry=None) is None, "a place may be given once more"


def test_timeout_is_the_object_s(tmp_path: Path) -> None:
    """The object's timeout holds for each of its requests, and one that is given by name instead of it."""
    (tmp_path / "responses").mkdir()
    gobbler = Gobbler(str(tmp_path), url="", timeout=0.01)
    for ask in (
        lambda: gobbler.submit("health_check"),
        lambda: gobbler.create_project("p"),
        lambda: Gobbler(str(tmp_path)).create_project("p", timeout=0.01),
    ):
        with pytest.raises(GobblerTimeout):
            ask()


def test_who_says_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument goes before the environment, that before the file; an empty text says that there is none."""
    assert Gobbler().staging is Gobbler().registry is Gobbler().url is None
    configure('staging = "/file/s"\nregistry = "/file/r"\nurl = "http://file"\ncolour = 1\n')
    monkeypatch.setenv("GOBBLER_REGISTRY", "/env/r")
    monkeypatch.setenv("GOBBLER_URL", "http://env")
    found = Gobbler(url="http://argument")
    assert (found.staging, found.registry, found.url) == ("/file/s", "/env/r", "http://argument")
    assert Gobbler(url="").url is None
    monkeypatch.setenv("GOBBLER_URL", "")
    assert Gobbler().url is None
    assert repr(Gobbler()) == "Gobbler(staging='/file/s', registry='/env/r', url=None)"


def test_where_the_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without XDG_CONFIG_HOME the file is in ~/.config."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert settings.config_file() == "/home/me/.config/gobbler/config.toml"


@pytest.mark.parametrize("text", ["staging = ", "staging = 1", 'staging = "a"\nstaging = "b"'])
def test_file_that_is_wrong(text: str) -> None:
    """A configuration that cannot be read is named, not passed over."""
    path = configure(text)
    with pytest.raises(ValueError, match=path):
        Gobbler()
