"""gobblerd.cli.status: what people see of a daemon."""

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gobblerd.cli.main import command
from gobblerd.cli.status import duration
from gobblerd.service.schedule import JobStatus, Stamp
from gobblerd.service.status import Serving, Watching, status_document, write_status


@dataclass(frozen=True, slots=True)
class Done:
    """As the spool remembers a request."""

    name: str
    user: str
    seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Spooled:
    """As the spool's snapshot."""

    queued: int
    oldest_age: float
    recent: tuple[Done, ...]


@pytest.fixture
def responses(tmp_path: Path) -> Iterator[int]:
    os.mkdir(tmp_path / "responses")
    fd = os.open(tmp_path / "responses", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.fixture
def daemon(tmp_path: Path, responses: int) -> Iterator[None]:
    """A daemon's traces: its lock and its document."""
    last = Stamp("2026-11-20T02:30:00Z", "2026-11-20T02:30:09Z", "failed", "OSError: no space")
    document = status_document(
        Serving("serving", "2026-11-20T12:00:00Z", str(tmp_path), "/r", "http://0.0.0.0:8080"),
        Watching("events", "ext4 delivers them", alive=True),
        Spooled(3, 0.25, (Done("request-upload-\x1b[31m", "alice", 1.5, 'no "\\n" here'),)),
        [
            JobStatus("purge", "3600", "2026-11-20T13:00:00Z", running=True, last=last, runs=1, failures=1),
            JobStatus("refresh_usage", "off", None, running=False, last=None, runs=0, failures=0),
        ],
        ["staging is not reachable"],
    )
    write_status(responses, document)
    fd = os.open(tmp_path / "responses" / ".daemon", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield
    os.close(fd)


def run(*args: object) -> Result:
    return CliRunner().invoke(command, ["status", *map(str, args)])


def test_a_running_daemon(tmp_path: Path, daemon: None) -> None:
    """Queue, recent requests, schedules, what is wrong; exit code 0."""
    shown = run(tmp_path)
    assert shown.exit_code == 0
    for part in (
        "is serving (pid ",
        "http://0.0.0.0:8080",
        "events: ext4 delivers them",
        "PROBLEM         staging is not reachable",
        "queued          3",
        "oldest age      0.250",
        'request-upload-\\x1b[31m  alice  1.500  no "\\n" here',
        "purge: running, next 2026-11-20T13:00:00Z, last failed 2026-11-20T02:30:09Z (OSError: no space)",
        "refresh_usage: next never, never run",
    ):
        assert part in shown.output
    assert "\x1b" not in shown.output


def test_json(tmp_path: Path, daemon: None) -> None:
    """For programs: whether it lives, how old the document is, and the document."""
    found = json.loads(run(tmp_path, "--json").output)
    assert found["alive"] is True
    assert found["age"] >= 0
    assert found["status"]["spool"]["queued"] == 3


def test_what_the_projects_use(tmp_path: Path, responses: int) -> None:
    """The sum, and the fullest projects, with their quota and without; also for programs."""
    registry = tmp_path / "registry"
    used = {"small": 1, "large": 3_000_000, "limited": 500, "broken": "no number"}
    for project, total in used.items():
        (registry / project).mkdir(parents=True)
        (registry / project / "..usage").write_text(json.dumps({"total": total}))
    (registry / "limited" / "..quota").write_text('{"baseline": 1000, "growth_rate": 0, "year": 2020}')
    serving = Serving("serving", "2026-11-20T12:00:00Z", str(tmp_path), str(registry), None)
    watching = Watching("events", "ext4 delivers them", alive=True)
    write_status(responses, status_document(serving, watching, Spooled(0, 0.0, ()), [], []))
    shown = run(tmp_path).output
    *_, whole, first, second, third = shown.splitlines()
    assert whole == "usage           3.0 MB in 3 projects"  # one is damaged: the audit's business
    assert [first, second, third] == ["  limited  500 B of 1.0 kB (50%)", "  large  3.0 MB", "  small  1 B"]
    usage = json.loads(run(tmp_path, "--json").output)["usage"]
    assert (usage["projects"], usage["stored"]) == (3, 3_000_501)
    assert usage["shown"][0] == {"project": "limited", "used": 500, "limit": 1000}


def test_a_registry_that_is_not_on_this_machine(tmp_path: Path, daemon: None) -> None:
    """The rest is shown; the usage is told to be out of reach."""
    assert "usage           cannot be read from here: No such file or directory" in run(tmp_path).output
    assert json.loads(run(tmp_path, "--json").output)["usage"] is None


def test_the_configuration_names_the_directory(tmp_path: Path, daemon: None) -> None:
    """--config instead of the path."""
    file = tmp_path / "c.toml"
    file.write_text(f'staging = "{tmp_path}"\nregistry = "/r"\n')
    assert "is serving" in run("--config", file).output


def test_a_daemon_that_is_down(tmp_path: Path, responses: int) -> None:
    """Exit code 3, whatever it left."""
    shown = run(tmp_path)
    assert shown.exit_code == 3
    assert shown.output == f"no daemon serves {tmp_path}, and none has left a status\n"
    document = {"state": "serving", "version": "0", "schedules": [3], "spool": [], "watch": None}
    write_status(responses, document)
    shown = run(tmp_path)
    assert shown.exit_code == 3
    assert "is not running" in shown.output


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """A sentence, exit code 1."""
    shown = run(tmp_path / "none")
    assert (shown.exit_code, shown.output) == (1, f"Error: {tmp_path}/none: No such file or directory\n")


def test_nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A usage error."""
    monkeypatch.delenv("GOBBLERD_CONFIG", raising=False)
    assert run().exit_code == 2


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "?"), (0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (7200, "2.0 h"), (90000, "1.0 d")],
)
def test_durations(seconds: float | None, text: str) -> None:
    """In the unit that fits."""
    assert duration(seconds) == text
