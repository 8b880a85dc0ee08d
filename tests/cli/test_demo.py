"""gobblerd.cli.demo: shows what happens, and leaves nothing behind."""

import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from rich.console import Console
from support.places import make_directory, open_directory

from gobblerd.cli import demo

FAKE = (sys.executable, os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_server.py"))
PROGRAM = f"""
import sys
from rich.console import Console
from gobblerd.cli.demo import run
run(Console(), (sys.executable, {FAKE[1]!r}), once=False)
"""
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Temporary directories of our own; nothing may be left in them, nor the signal's handler changed."""
    handler = signal.getsignal(signal.SIGTERM)
    with open_directory() as base:
        temporary = make_directory(os.path.join(base, "tmp"), 0o1777)
        monkeypatch.setattr(demo.tempfile, "tempdir", temporary)
        monkeypatch.setenv("TMPDIR", temporary)
        yield temporary
        signal.signal(signal.SIGTERM, handler)
        assert os.listdir(temporary) == []
        assert not running(temporary)


def running(mark: str) -> list[str]:
    """Processes whose command line names a path."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if mark.encode() in file.read():
                    found.append(pid)
        except OSError:
            pass
    return found


def shown(server: tuple[str, ...] = FAKE) -> str:
    out = io.StringIO()
    demo.run(Console(file=out, width=200), server, once=True)
    return out.getvalue()


def requires(text: str) -> None:
    exchanges = re.findall(r"^request-(\w+?)-\w+$", text, re.MULTILINE)
    assert exchanges == ["create_project", "upload", "upload", "set_permissions", "health_check"]
    assert text.count('"status": "SUCCESS"') == 4
    assert text.count('"status": "ERROR"') == 1
    assert re.search(r"weather/\n.*berlin/\n(.*\.\.latest\n)?.*2026-11/\n", text, re.DOTALL)
    assert "..manifest" in text
    assert "mv new-1 request-create_project-1" in text
    assert re.search(r"http://127\.0\.0\.1:\d+/", text)
    assert "\x1b" not in text, "plain, where there is no terminal"


def test_what_is_shown() -> None:
    """Every request with its response, the tree, the manifest, and the way in."""
    text = shown()
    requires(text)
    assert "l -> a" in text
    assert '"a": {' in text


def test_a_daemon_that_dies_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its exit code and its last words."""
    monkeypatch.setenv("FAKE_DIES", "1")
    with pytest.raises(
        click.ClickException, match=r"the daemon ended with 1; its last lines: \n  address already"
    ):
        shown()


def test_a_daemon_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while."""
    monkeypatch.setenv("FAKE_MUTE", "1")
    monkeypatch.setattr(demo, "_ANSWER_TIMEOUT", 0.2)
    with pytest.raises(click.ClickException, match=r"no response to request-create_project-"):
        shown()


def test_an_upload_that_fails_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is shown, and there is no manifest to show."""
    monkeypatch.setenv("FAKE_REFUSES", "1")
    with pytest.raises(click.ClickException, match="the upload did not succeed"):
        shown()


def test_no_free_port_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a daemon that cannot listen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setattr(demo, "_PORTS", [taken.getsockname()[1]])
        monkeypatch.setattr(demo, "_PORTS_TRIED", 1)
        with pytest.raises(
            click.ClickException, match=r"no free port on 127\.0\.0\.1: Address already in use"
        ):
            shown()


def test_settings_of_the_environment_do_not_reach_the_demonstration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real service's configuration must not be served by accident."""
    monkeypatch.setenv("GOBBLERD_CONFIG", "/etc/gobblerd/config.toml")
    seen = []
    popen = subprocess.Popen
    monkeypatch.setattr(demo.subprocess, "Popen", lambda *a, **k: (seen.append(k["env"]), popen(*a, **k))[1])
    shown()
    assert not [name for name in seen[0] if name.startswith("GOBBLERD_")]


def test_files_that_lie_about_are_not_run(tmp_path: Path) -> None:
    """Whoever tries it in a directory of programs of their own has none of them taken for a library."""
    (tmp_path / "click.py").write_text("raise RuntimeError")
    program = "from gobblerd.cli import demo; demo.run(demo.Console(), demo.SERVER, once=True)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Stopped; the directories are removed." in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_stops_the_daemon_and_cleans_up(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0, no process, no directory."""
    assert interrupted(tmp_path, number) == 0


def interrupted(
    tmp_path: Path, number: signal.Signals, python: tuple[str, ...] = (sys.executable,), path: str = ROOT
) -> int:
    environ = {**os.environ, "PYTHONPATH": path}
    with open(tmp_path / "out", "wb") as out:
        child = subprocess.Popen([*python, "-c", PROGRAM], stdout=out, stderr=out, cwd=ROOT, env=environ)
    wait_for(lambda: "Serving until interrupted" in (tmp_path / "out").read_text(), child)
    child.send_signal(number)
    return child.wait(PATIENCE)


def wait_for(condition: Callable[[], bool], child: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)


def others_python(path: str) -> tuple[str, ...]:
    """A command line of a Python that user 61001, who has no name, can run; else the test is skipped."""
    become = ("setpriv", "--reuid=61001", "--regid=61001", "--clear-groups")
    probe = (
        "import subprocess as s, sys; s.run([sys.executable, '-c', 'import rich, pydantic_core'], check=True)"
    )
    for python in (sys.executable, "/usr/bin/python3"):
        command = [*become, python, "-c", probe]
        done = subprocess.run(command, env={"PYTHONPATH": path}, check=False, capture_output=True, cwd="/")
        if done.returncode == 0:
            return (*become, python)
    pytest.skip("other users cannot run this Python (NOT TESTED on this run)")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user (NOT TESTED on this run)")
def test_it_needs_no_privilege(tmp_path: Path) -> None:
    """A user without a name in the password database can show it, too."""
    path = f"{ROOT}:{sysconfig.get_path('platlib')}"
    assert interrupted(tmp_path, signal.SIGTERM, others_python(path), path) == 0


@pytest.mark.skipif(
    importlib.util.find_spec("gobblerd.service.daemon") is None, reason="there is no daemon yet"
)
def test_with_the_real_daemon() -> None:
    """`gobblerd demo --once`: everything that is shown happens."""
    text = shown(demo.SERVER)
    requires(text)
    assert "newest.csv -> temperatures.csv" in text
    assert "README.txt" in text
