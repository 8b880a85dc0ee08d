"""The `gobbler` command as users run it: a process of its own, against a daemon of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from examples.desk import Result, ended
from support.daemon import PROJECT_ROOT, RunningDaemon
from support.places import make_directory

GOBBLER = (sys.executable, "-m", "gobblerd.cli.gobbler")


@dataclass(frozen=True)
class Shell:
    """A user's shell: a home, what is exported in it, and the daemon that it is about."""

    home: str
    daemon: RunningDaemon
    exported: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What programs find in the environment."""
        return {
            "PATH": f"{self.home}/bin:/usr/bin:/bin",
            "HOME": self.home,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": PROJECT_ROOT,
            **self.exported,
        }

    def spawn(self, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
        """Start `gobbler`."""
        return self.start([*GOBBLER, *arguments], **variables)

    def start(self, command: list[str], **variables: str) -> "subprocess.Popen[str]":
        """Start a program."""
        return subprocess.Popen(
            command,
            cwd=self.home,
            env={**self.environment, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, given: str = "", **variables: str) -> Result:
        """Run `gobbler`; whatever goes wrong, no user sees a traceback."""
        with self.spawn(*arguments, **variables) as process:
            result = ended(process, given)
        assert "Traceback" not in result.errors, result.errors
        return result

    def say(self, *arguments: str, given: str = "", **variables: str) -> str:
        """Run what must succeed without a word on standard error; return its output."""
        result = self.run(*arguments, given=given, **variables)
        assert (result.code, result.errors) == (0, ""), f"{arguments}: {result}"
        return result.output

    def json(self, *arguments: str, given: str = "", **variables: str) -> Any:
        """Run what must succeed with --json; return the one document that it prints."""
        return json.loads(self.say(*arguments, "--json", given=given, **variables))

    def refused(self, *arguments: str, code: int = 1, given: str = "", **variables: str) -> str:
        """Run what must fail with an exit code, and one sentence on standard error; return that."""
        result = self.run(*arguments, given=given, **variables)
        assert result.code == code, f"{arguments}: {result}"
        assert not result.output, result.output
        return result.errors

    def left_in_staging(self) -> list[str]:
        """Return what was not cleared away."""
        return sorted(set(os.listdir(self.daemon.staging)) - {"responses"})


def make_home(base: str) -> str:
    """Make a home whose bin/ holds `gobbler`, as an installation does."""
    home = make_directory(os.path.join(base, f"home-{os.urandom(3).hex()}"), 0o755)
    place = make_directory(os.path.join(home, "bin"), 0o755)
    for name, command in (("gobbler", GOBBLER), ("python3", (sys.executable,))):
        path = os.path.join(place, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
        os.chmod(path, 0o755)
    return home
