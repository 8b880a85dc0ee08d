"""The real pygobbler, in a process of a real user's own.

The process is started by `setpriv` and calls pygobbler's functions as it is told, one JSON line each way.
The tests' environment may lie where other users cannot look (below /root, say), so pygobbler and what it
needs are copied to where they can, with an interpreter that they may run.
"""

import contextlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from support.places import as_user

DISTRIBUTIONS = ("pygobbler", "requests", "urllib3", "idna", "certifi", "charset-normalizer", "appdirs")
DRIVER = r"""
import json, os, sys, warnings
warnings.simplefilter("ignore")
os.umask(0o022)
import pygobbler
for line in sys.stdin:
    function, arguments = json.loads(line)
    try:
        value = getattr(pygobbler, function)(**arguments)
        answer = {"value": list(value) if isinstance(value, filter) else value}
    except Exception as error:
        kinds = [kind.__module__ + "." + kind.__qualname__ for kind in type(error).__mro__]
        answer = {"error": kinds, "arguments": [a if isinstance(a, (int, str)) else repr(a) for a in error.args]}
    print(json.dumps(answer), flush=True)
"""


class PygobblerError(Exception):
    """What pygobbler raised: the names of its class and bases, and its arguments."""

    def __init__(self, kinds: list[str], arguments: list[Any]) -> None:
        super().__init__(*arguments)
        self.kinds = kinds

    @property
    def code(self) -> int:
        """The HTTP status of a refusal: a requests.HTTPError's first argument."""
        assert "requests.exceptions.HTTPError" in self.kinds, self.kinds
        return int(self.args[0])

    @property
    def reason(self) -> str:
        """The reason of a refusal: its second argument."""
        assert len(self.args) == 2, f"pygobbler found no reason: {self.args}"
        return str(self.args[1])


Call = Callable[..., Any]  # a pygobbler function's name, then its arguments by keyword


def copy_packages(target: str) -> None:
    """Copy pygobbler and its dependencies from this environment to `target`."""
    for name in DISTRIBUTIONS:
        for file in importlib.metadata.files(name) or ():
            if ".." in file.parts:
                continue  # scripts
            destination = os.path.join(target, str(file))
            os.makedirs(os.path.dirname(destination), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # bytecode that was never written
                shutil.copyfile(str(file.locate()), destination)


def interpreter_for(user: str) -> str:
    """Return a Python that `user` can run."""
    for candidate in ("/usr/bin/python3", os.path.realpath(sys.executable)):
        if os.path.exists(candidate):
            probe = [*as_user(user), candidate, "-c", "import json, ssl"]
            if subprocess.run(probe, cwd="/", stdin=subprocess.DEVNULL, check=False).returncode == 0:
                return candidate
    raise AssertionError(f"no Python interpreter that {user} could run")


@contextlib.contextmanager
def pygobbler_of(user: str, packages: str) -> Iterator[Call]:
    """Yield a function that calls a pygobbler function as `user`; `packages` is where they were copied."""
    with subprocess.Popen(
        [*as_user(user), interpreter_for(user), "-c", DRIVER],
        cwd="/",
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": packages, "LANG": "C.UTF-8", "HOME": "/nonexistent"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin, process.stdout

        def call(function: str, /, **arguments: Any) -> Any:
            to.write(json.dumps([function, arguments]) + "\n")
            to.flush()
            answer = json.loads(back.readline())
            if "error" in answer:
                raise PygobblerError(answer["error"], answer["arguments"])
            return answer["value"]

        yield call
        to.close()
