"""A server under measurement: any command that takes the Go service's options, started and stopped here."""

import contextlib
import http.client
import os
import re
import shlex
import signal
import socket
import subprocess
import time
from dataclasses import dataclass

_PATIENCE = 60.0  # seconds until a server that does not serve, or does not end, is given up


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """What `--server` says: a name for the report, and the command before the Go service's options."""

    name: str
    command: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "ServerCommand":
        """Parse `NAME=COMMAND` or `COMMAND`, whose name is then that of its program."""
        named = re.fullmatch(r"([\w.+-]+)=(.+)", text, re.DOTALL)
        command = tuple(shlex.split(named[2] if named else text))
        if not command:
            raise ValueError(f"no command in {text!r}")
        return cls(named[1] if named else os.path.basename(command[0]), command)

    @property
    def is_process_durable(self) -> bool:
        """Tell whether it syncs nothing, as the Go service: told by gobblerd's own option."""
        return "--durability=process" in " ".join(self.command).replace(" process", "=process")


class Server:
    """One server on one registry and staging directory; `start` and `stop` may be repeated."""

    def __init__(self, command: ServerCommand, staging: str, registry: str, log: str) -> None:
        self.staging = staging
        self.registry = registry
        self.port = 0
        self._command = command.command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The main process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> float:
        """Start, and return the seconds from exec until `GET /` was answered."""
        self.port = _free_port()
        where = ("-staging", self.staging, "-registry", self.registry, "-port", str(self.port))
        with open(self._log, "ab") as log:
            began = time.perf_counter()
            self._process = subprocess.Popen(
                [*self._command, *where, "-admin", _own_name()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while not self._answers():
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended with {self._process.returncode}: {self.logged()}")
            if time.perf_counter() - began > _PATIENCE:
                raise RuntimeError(f"the server does not serve: {self.logged()}")
            time.sleep(0.001)
        return time.perf_counter() - began

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
            connection.request("GET", "/")
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        return False

    def stop(self) -> None:
        """End it; killed if it does not."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def logged(self) -> str:
        """Return the end of what it wrote to its standard output and error."""
        with open(self._log, encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _own_name() -> str:
    import pwd  # noqa: PLC0415 - not there on every system that can at least list the workloads

    return pwd.getpwuid(os.geteuid()).pw_name
