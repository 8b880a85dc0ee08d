"""gobblerd.cli.serve: from the command line to the daemon."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from click.testing import CliRunner, Result

from gobblerd.cli import serve
from gobblerd.cli.main import command
from gobblerd.cli.serve import UMASK
from gobblerd.service import logs
from gobblerd.service.config import Config
from gobblerd.service.settings import ConfigError
from gobblerd.service.web_process import WebProcess


class FakeDaemon:
    """Stands where the daemon does; keeps what it was made with."""

    made: ClassVar[list["FakeDaemon"]] = []

    def __init__(self, config: Config, reload: Callable[[], Config], web: object) -> None:
        self.web = web
        self.config = config
        self.reload = reload
        self.umask = os.umask(0)
        os.umask(self.umask)
        self.made.append(self)

    def run(self) -> int:
        return 7


@pytest.fixture(autouse=True)
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two directories in the current one, and a daemon that does nothing."""
    module = ModuleType("gobblerd.service.daemon")
    module.Daemon = FakeDaemon  # type: ignore[attr-defined]  # a module made on the spot
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(logs, "configure", lambda level: None)
    monkeypatch.setattr(serve, "WebProcess", object)
    monkeypatch.setattr(FakeDaemon, "made", [])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    (tmp_path / "r").mkdir()
    umask, blocked = os.umask(0o077), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    yield
    os.umask(umask)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def run(*args: str) -> Result:
    return CliRunner().invoke(command, args)


def served(*args: str) -> FakeDaemon:
    found = run(*args)
    assert found.exit_code == 7, found.output
    return FakeDaemon.made[-1]


@pytest.mark.parametrize(
    "args",
    [
        "-staging s -registry r -port 8081 -admin a,b",
        "serve -staging s -registry r -port 8081 -admin a,b",
        "serve --staging=s --registry=r --port=8081 --admin=a,b",
        "-registry=r -admin=a,b -port=8081 -staging=s",
        "serve --staging s --registry r --port 8081 --administrators a,b",
    ],
)
def test_the_go_services_command_line_serves(tmp_path: Path, args: str) -> None:
    """As pygobbler starts the Go binary: without a subcommand, and with relative paths."""
    config = served(*args.split()).config
    assert (config.staging, config.registry) == (str(tmp_path / "s"), str(tmp_path / "r"))
    assert (config.port, config.administrators) == (8081, ("a", "b"))


def test_go_defaults() -> None:
    """What the Go service does without options: port 8080, no prefix, no administrators, no expiry."""
    config = served("-staging", "s", "-registry", "r").config
    assert (config.port, config.prefix, config.administrators, config.probation_days) == (8080, "", (), 0)
    assert not config.require_marker


def test_go_files_relative_to_the_current_directory(tmp_path: Path) -> None:
    """-whitelist and -spoof name files; the empty text is none."""
    (tmp_path / "w").write_text("/data\n")
    (tmp_path / "p").write_text("a:b\n")
    config = served("-staging=s", "-registry=r", "-whitelist", "w", "-spoof=p").config
    assert config.whitelist == ("/data",)
    assert config.spoofing_rules["a"].allows("b")
    assert served("-staging=s", "-registry=r", "-whitelist", "").config.whitelist == ()


def test_an_option_for_every_setting() -> None:
    """A new setting appears by itself."""
    shown = run("serve", "--help").output
    for key in Config.model_fields:
        assert f"--{key.replace('_', '-')}" in shown


def test_booleans_are_switches() -> None:
    """On, off, and not given."""
    places = ("-staging=s", "-registry=r")
    assert served(*places, "--require-marker").config.require_marker
    assert not served(*places, "--no-require-marker").config.require_marker


def test_file_environment_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All three sources reach the daemon; the file may be named by the environment."""
    file = tmp_path / "c.toml"
    file.write_text(f'staging = "{tmp_path}/s"\nregistry = "{tmp_path}/r"\nport = 1\nlock_timeout = 1\n')
    monkeypatch.setenv("GOBBLERD_LOCK_TIMEOUT", "2")
    config = served("serve", "--config", "c.toml", "--drain-timeout", "3").config
    assert (config.port, config.lock_timeout, config.drain_timeout) == (1, 2, 3)
    monkeypatch.setenv("GOBBLERD_CONFIG", str(file))
    assert served("serve").config.port == 1


def test_a_reload_reads_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file as it is then, the same options; and what is wrong is an error, not an exit."""
    file = tmp_path / "c.toml"
    file.write_text(f'staging = "{tmp_path}/s"\nregistry = "{tmp_path}/r"\n')
    daemon = served("serve", "--config", "c.toml", "--port", "1")
    file.write_text(f"{file.read_text()}lock_timeout = 5\n")
    monkeypatch.chdir("/")
    again = daemon.reload()
    assert (again.port, again.lock_timeout) == (1, 5)
    file.write_text("nonsense")
    with pytest.raises(ConfigError):
        daemon.reload()


def test_the_umask_is_the_registrys() -> None:
    """Whatever the daemon was started with."""
    assert served("-staging=s", "-registry=r").umask == UMASK


@pytest.mark.parametrize(("missing", "what"), [("s", "staging"), ("r", "registry")])
def test_a_missing_directory_is_never_made(tmp_path: Path, missing: str, what: str) -> None:
    """One clear sentence, a non-zero exit."""
    (tmp_path / missing).rmdir()
    found = run("-staging", "s", "-registry", "r")
    assert found.exit_code == 1
    assert found.output.startswith(f"gobblerd: the {what} directory {tmp_path}/{missing} is not there; ")
    assert found.output.count("\n") == 1
    assert not (tmp_path / missing).exists()


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    """Nor is it taken for one."""
    (tmp_path / "r").rmdir()
    (tmp_path / "r").touch()
    assert f"{tmp_path}/r is not a directory" in run("-staging", "s", "-registry", "r").output


def test_every_problem_is_a_line() -> None:
    """Exit code 2, which the systemd unit does not answer with a restart."""
    found = run("serve", "-staging=s", "--port=x", "--drain-timeout=-1")
    assert found.exit_code == 2
    assert [line.partition(": ")[2].partition(": ")[0] for line in found.output.splitlines()] == [
        "configuration",
        "option --port",
        "option --drain-timeout",
    ]
    assert not FakeDaemon.made


@pytest.mark.parametrize("where", ["the web process", "no thread"])
def test_an_account_that_may_have_no_more_processes(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Which limit to raise, in a sentence."""

    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    def fail_to_spawn(*_: object, **_options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    if where == "no thread":
        monkeypatch.setattr(FakeDaemon, "run", fail)
    else:
        monkeypatch.setattr(serve, "WebProcess", WebProcess)
        monkeypatch.setattr(subprocess, "Popen", fail_to_spawn)
    found = run("-staging", "s", "-registry", "r")
    assert found.exit_code == 1
    assert where in found.output
    assert "TasksMax" in found.output
    assert found.output.count("\n") == 1


def test_a_fault_of_its_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(FakeDaemon, "run", fail)
    assert isinstance(run("-staging", "s", "-registry", "r").exception, RuntimeError)


def test_an_option_without_its_value() -> None:
    """A usage error."""
    found = run("-staging")
    assert found.exit_code == 2
    assert "requires an argument" in found.output


def test_http_has_a_process_where_there_is_a_port() -> None:
    """Without one nothing is started for it."""
    assert served("-staging", "s", "-registry", "r", "-port", "8081").web is not None
    assert served("-staging", "s", "-registry", "r", "-port", "0").web is None
