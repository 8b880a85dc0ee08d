"""gobblerd.cli.main: the command as it is run."""

import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gobblerd import __version__
from gobblerd.cli.main import command

COMMANDS = ["serve", "init", "check-config", "doctor", "recover", "audit", "demo", "status"]


def test_help_names_every_subcommand() -> None:
    """And each has a help of its own."""
    shown = CliRunner().invoke(command, ["-h"])
    assert shown.exit_code == 0
    assert "..." not in shown.output.partition("Commands:")[2]  # no sentence is cut off
    for name in COMMANDS:
        assert f"  {name} " in shown.output
        assert CliRunner().invoke(command, [name, "--help"]).exit_code == 0


def test_version() -> None:
    """The package's."""
    assert CliRunner().invoke(command, ["--version"]).output == f"gobblerd, version {__version__}\n"


@pytest.mark.parametrize("args", [["no-such"], ["--no-such"], ["-s", "x"]])
def test_what_is_unknown_is_a_usage_error(args: list[str]) -> None:
    """Exit code 2, and no traceback."""
    shown = CliRunner().invoke(command, args)
    assert shown.exit_code == 2
    assert "Error: No such" in shown.output


@pytest.mark.parametrize("argument", ["serve", "-staging"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_daemon_may_be_told_to_stop_before_it_has_begun(argument: str, number: int) -> None:
    """It ends as one that serves, without a word."""
    code = f"""if 1:
        import importlib, os, sys
        from gobblerd.cli.main import main
        importlib.import_module = lambda name: os.kill(os.getpid(), {int(number)})
        sys.argv[1:] = [{argument!r}]
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_entry_imports_click_only() -> None:
    """A subcommand pays for what it needs, and for nothing else."""
    heavy = "pydantic rich apscheduler structlog aiohttp watchdog msgspec asyncio"
    code = f"import sys, gobblerd.cli.main; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_serve_imports_no_scheduler_and_no_server_before_it_needs_them() -> None:
    """What reads the configuration knows nothing of APScheduler, rich's demo or HTTP."""
    heavy = "apscheduler aiohttp watchdog structlog"
    code = f"import sys, gobblerd.cli.serve; print([m for m in {heavy.split()!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python_m_gobblerd_is_the_same_command() -> None:
    """Where no console script is installed."""
    done = subprocess.run(
        [sys.executable, "-m", "gobblerd", "--version"], capture_output=True, text=True, check=True
    )
    assert __version__ in done.stdout
