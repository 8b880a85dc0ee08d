"""gobblerd.cli.running: `gobblerd` where its output cannot be printed, and where somebody interrupts it."""

import signal
import subprocess
import sys

import pytest

GOBBLERD = [sys.executable, "-m", "gobblerd"]
FULL = "No space left on device"


@pytest.mark.parametrize("args", [["--version"], ["serve", "--help"], ["demo", "--once"]])
def test_a_full_disk_is_told_in_a_sentence(args: list[str]) -> None:
    """With a code that no subcommand has for what it finds."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*GOBBLERD, *args], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120
        )
    assert (done.returncode, done.stderr) == (2, f"gobblerd: the output cannot be printed: {FULL}\n")


@pytest.mark.parametrize("args", ["gobblerd --version", "gobblerd.cli.gobbler ls --bogus"])
def test_a_full_disk_for_both_outputs(args: str) -> None:
    """The code is all that can be told."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", *args.split()], stdout=full, stderr=full, check=False, timeout=120
        )
    assert done.returncode == 2


def test_a_reader_that_goes_away_is_told_nothing() -> None:
    """As by `gobblerd ... | head`."""
    with subprocess.Popen(
        [*GOBBLERD, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
        assert (process.wait(120), errors) == (141, "")


def test_a_wrong_use_is_told_whatever_becomes_of_the_output() -> None:
    """Nothing was done, and nobody says so."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gobblerd.cli.gobbler", "ls", "--bogus", "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert FULL not in done.stderr


def test_an_encoding_that_does_not_know_a_name() -> None:
    """It is escaped, rather than nothing printed."""
    code = "import sys; from gobblerd.cli.running import run; run('x', lambda: print('ü λ'), '', 2)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stdout == b"\xfc \\u03bb\n"


def test_an_interruption_is_no_finding() -> None:
    """Ctrl-C has the code that shells expect."""
    code = (
        "import os, signal; from gobblerd.cli.running import run; "
        f"raise SystemExit(run('x', lambda: os.kill(os.getpid(), {int(signal.SIGINT)}) or input(), '', 2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (130, b"")
