"""A user at work with programs of their own: what `examples/` and the documentation are tried with."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest
from support.daemon import PATIENCE, PROJECT_ROOT, RunningDaemon
from support.places import as_user

EXAMPLES = os.path.join(PROJECT_ROOT, "examples")


def require_program(name: str) -> str:
    """Return the program's path; without it the test is skipped, visibly."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"NOT TESTED: {name} is not installed")
    return path


@dataclass(frozen=True)
class Result:
    """How a program ended."""

    code: int
    output: str
    errors: str


def ended(process: "subprocess.Popen[str]", given: str = "", patience: float = PATIENCE) -> Result:
    """Wait for a program to end; one that does not is killed, and fails the test."""
    try:
        output, errors = process.communicate(given, timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        pytest.fail(f"{process.args} did not end:\n{output}{errors}")
    return Result(process.returncode, output, errors)


@dataclass(frozen=True)
class Desk:
    """A user at work: a home of their own with a copy of the examples, and a daemon that serves no HTTP."""

    home: str
    examples: str
    user: str
    daemon: RunningDaemon

    def environment(self, **variables: str) -> dict[str, str]:
        """Return what the user's programs know."""
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": self.home,
            "LC_ALL": "C.UTF-8",
            "GOBBLER_STAGING": self.daemon.staging,
            "GOBBLER_REGISTRY": self.daemon.registry,
            "GOBBLER_TIMEOUT": str(int(PATIENCE / 2)),
            **variables,
        }

    def spawn(
        self, command: Sequence[str], variables: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[str]":
        """Start a program as the user."""
        return subprocess.Popen(
            [*as_user(self.user), *command],
            cwd=self.home,
            env=self.environment(**(variables or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o077,  # nobody else is meant to read what is not handed over
        )

    def run(
        self,
        command: Sequence[str],
        given: str = "",
        variables: Mapping[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> Result:
        """Run a program as the user, with `given` on standard input."""
        with self.spawn(command, variables) as process:
            return ended(process, given, patience)

    def left_in_staging(self) -> list[str]:
        """Return what the user's programs did not clear away."""
        return sorted(set(os.listdir(self.daemon.staging)) - {"responses"})
