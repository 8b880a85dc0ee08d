"""A real gobblerd in a process of its own, on directories of its own, spoken to from outside only.

`RunningDaemon` starts `python -m gobblerd serve` with the Go service's option spelling, waits until it
serves, and ends it; what it logged is kept, and `finish` fails the test if that holds a traceback, if
SIGTERM was not answered with exit code 0, or if a process is left. Limits: one machine, Linux, `/proc`.
"""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from support.places import ROOT, Tree, User, drop_request, make_directory, make_source, request_name

PROJECT_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60.0  # seconds until a test gives up; no test asserts that something is quicker
TRACEBACK = "Traceback (most recent call last)"
MARK = "DAEMON_UNDER_TEST"  # the environment variable by which our processes are known


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: its code, and the document of the response file or the body that POST returned."""

    code: int
    body: Mapping[str, Any]

    @property
    def reason(self) -> str:
        """The sentence of a refusal, "" for a success."""
        return str(self.body.get("reason", ""))


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What came back over HTTP."""

    code: int
    headers: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.data)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `condition` returns something true, and return that; fail the test after `patience`."""
    deadline = time.monotonic() + patience
    pause = 0.002
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class RunningDaemon:
    """One gobblerd and its two directories; `base` is made by the caller and holds everything."""

    def __init__(
        self,
        base: str,
        *,
        admins: Sequence[str] = (ROOT,),
        http: bool = True,
        options: Sequence[str] = (),
        settings: Mapping[str, Any] | None = None,
        staging: str | None = None,
        registry: str | None = None,
        umask: int = 0o022,
    ) -> None:
        """Make what directories are missing; nothing runs before `start`.

        `settings` are written to a TOML file, with everything else; without them the command line is the
        Go service's, followed by `options`.
        """
        self.mark = uuid.uuid4().hex
        self.staging = staging or make_directory(os.path.join(base, f"staging-{self.mark[:6]}"), 0o1777)
        self.registry = registry or make_directory(os.path.join(base, f"registry-{self.mark[:6]}"), 0o755)
        self.port = free_port() if http else 0
        self.log = os.path.join(base, f"stderr-{self.mark[:6]}")
        self.may_log_traceback = False
        self._admins = admins
        self._options = list(options)
        self._umask = umask
        self._process: subprocess.Popen[bytes] | None = None
        self._config = os.path.join(base, f"config-{self.mark[:6]}.toml")
        self._settings = settings
        self._greeting: str | None = None  # the request by which a start is known to be complete

    # ---- life

    def command(self) -> list[str]:
        """Return the command line: the Go service's spelling, or a configuration file."""
        serve = [sys.executable, "-m", "gobblerd", "serve"]
        if self._settings is not None:
            self.write_settings(self._settings)
            return [*serve, "--config", self._config, *self._options]
        own = ["-staging", self.staging, "-registry", self.registry, "-port", str(self.port)]
        admins = ["-admin", ",".join(self._admins)] if self._admins else []
        return [*serve, *own, *admins, *self._options]

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Write the configuration file: these settings over those that this object was made with."""
        own = {"staging": self.staging, "registry": self.registry, "port": self.port}
        every = {**own, "administrators": list(self._admins), **settings}
        scalars = [f"{k} = {json.dumps(v)}" for k, v in every.items() if not isinstance(v, Mapping)]
        tables = [
            line
            for key, table in every.items()
            if isinstance(table, Mapping)
            for line in (f"[{key}]", *(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in table.items()))
        ]
        with open(self._config, "w", encoding="utf-8") as file:
            file.write("\n".join((*scalars, *tables, "")))

    def spawn(self) -> "subprocess.Popen[bytes]":
        """Start the process without waiting for it to serve."""
        self._greeting = None
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GOBBLERD_", "NOTIFY_"))}
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=PROJECT_ROOT,
                env={**kept, MARK: self.mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=self._umask,
            )
        return self._process

    def start(self) -> "RunningDaemon":
        """Start, and wait until it serves."""
        self.spawn()
        eventually(self._serves_or_died, "gobblerd to serve")
        if not self.alive:
            raise AssertionError(f"gobblerd did not start (exit code {self._ended()}):\n{self.logged()}")
        return self

    def _serves_or_died(self) -> bool:
        if not self.alive:
            return True
        return self._answers_http() if self.port else self._answers_drops()

    def _answers_http(self) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.get("/").code == http.client.OK
        return False

    def _answers_drops(self) -> bool:
        if self._greeting is not None:
            return self.has_response(self._greeting)
        if os.path.exists(os.path.join(self.staging, "responses", ".daemon")):
            self._greeting = self.drop("health_check", {})
        return False

    @property
    def alive(self) -> bool:
        """Tell whether the main process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The main process."""
        assert self._process is not None
        return self._process.pid

    @property
    def web_pid(self) -> int:
        """The process that serves HTTP, its only child."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as file:
            (child,) = file.read().split()
        return int(child)

    def _ended(self) -> int | None:
        return None if self._process is None else self._process.wait(PATIENCE)

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        os.kill(self.pid, signal.SIGTERM)
        code = self._ended()
        assert code is not None
        return code

    def kill(self) -> None:
        """Send SIGKILL to the main process, as the kernel would for want of memory."""
        if self.alive:
            os.kill(self.pid, signal.SIGKILL)
        self._ended()

    def restart(self) -> "RunningDaemon":
        """Start again on the same directories."""
        assert not self.alive
        return self.start()

    def finish(self) -> None:
        """End the daemon and check how it ended."""
        code = self.stop() if self.alive else 0
        self.require_no_process()
        log = self.logged()
        assert code == 0, f"SIGTERM was answered with exit code {code}:\n{log}"
        assert self.may_log_traceback or TRACEBACK not in log, f"a traceback was logged:\n{log}"

    def require_no_process(self) -> None:
        """Fail if any process of this daemon is left; workers get a moment to see that it is gone."""
        try:
            eventually(lambda: not self._processes(), "gobblerd's processes to end")
        finally:
            for pid in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _processes(self) -> list[int]:
        mark = f"{MARK}={self.mark}".encode()
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{entry}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found.append(int(entry))
        return found

    def logged(self) -> str:
        """Return what the daemon wrote to standard output and error."""
        try:
            with open(self.log, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # ---- requests

    def source(self, tree: Tree, user: User = ROOT, name: str | None = None) -> str:
        """Put a directory to be uploaded into staging; return its name."""
        return make_source(self.staging, tree, user, name)

    def drop(self, action: str, document: Any, user: User = ROOT, name: str | None = None) -> str:
        """Drop a request file; return its name."""
        return drop_request(self.staging, name or request_name(action), document, user)

    def wait(self, name: str, timeout: float = PATIENCE) -> Answer:
        """Wait for the response file and return what it says."""
        path = os.path.join(self.staging, "responses", name)
        eventually(lambda: os.path.exists(path), f"the response to {name}", timeout)
        with open(path, encoding="utf-8") as file:
            body = json.load(file)
        return Answer(body["code"], body)

    def has_response(self, name: str) -> bool:
        """Tell whether the request has its response file."""
        return os.path.exists(os.path.join(self.staging, "responses", name))

    def post(self, name: str) -> Answer:
        """POST the name of a dropped request."""
        reply = self.http("POST", f"/new/{name}")
        return Answer(reply.code, reply.json())

    def ask(self, action: str, document: Any, user: User = ROOT) -> Answer:
        """Drop a request and return its answer: by POST if the daemon speaks HTTP, else by file."""
        name = self.drop(action, document, user)
        return self.post(name) if self.port else self.wait(name)

    def done(self, action: str, document: Any, user: User = ROOT) -> Mapping[str, Any]:
        """Ask for something that must succeed, and return the answer's document."""
        answer = self.ask(action, document, user)
        assert answer.code == 200, f"{action} {document} by {user}: {answer}"
        return answer.body

    def upload(self, place: str, tree: Tree, user: User = ROOT, **fields: Any) -> None:
        """Upload `tree` as the version `project/asset/version`, which must succeed."""
        self.done("upload", {**address(place), "source": self.source(tree, user), **fields}, user)

    # ---- reading

    def get(self, path: str) -> HttpReply:
        """GET a path."""
        return self.http("GET", path)

    def http(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> HttpReply:
        """Send one HTTP request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            reply = connection.getresponse()
            return HttpReply(reply.status, dict(reply.getheaders()), reply.read())
        finally:
            connection.close()

    def path(self, *parts: str) -> str:
        """Return the path of something in the registry."""
        return os.path.join(self.registry, *parts)

    def read(self, *parts: str) -> Any:
        """Parse a JSON document of the registry; None if it is not there."""
        try:
            with open(self.path(*parts), encoding="utf-8") as file:
                return json.load(file)
        except FileNotFoundError:
            return None


def address(place: str) -> dict[str, str]:
    """Return the fields of `project/asset/version`, as far as it goes."""
    return dict(zip(("project", "asset", "version"), place.split("/"), strict=False))


StartDaemon = Callable[..., RunningDaemon]  # the fixture start_daemon: takes RunningDaemon's settings
