"""Starting and ending the web process, and another one should it die.

It begins to import what it needs as soon as it is spawned, beside the daemon's own start; it serves once it
is told what. It is started by exec, never forked: no lock of a thread of ours can be held in it. The
listening sockets are the daemon's: while one web process takes another's place, nobody else gets the port.
"""

import contextlib
import errno
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping

from gobblerd.domain.errors import Fault, Plain, escaped

_PORT_PATIENCE = 2.0  # seconds for which a web process that outlived its daemon may still hold the port
_PORT_PAUSE = 0.02
BACKLOG = 1024  # connections that may wait to be accepted
_PORT_MENDS: Mapping[int | None, str] = {
    errno.EADDRINUSE: "another process has it: end that, or set another port (0 for no HTTP)",
    errno.EACCES: "a port below 1024 needs CAP_NET_BIND_SERVICE: grant that, or set a higher port",
}
_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - only compared
_HOST_MEND = "set host to a name or an address of this machine"
_SPAWN_MENDS: Mapping[int | None, str] = {
    errno.EACCES: "the daemon's account must be allowed to execute it: make the virtual environment anew "
    "from an interpreter that every account may execute, such as /usr/bin/python3, none in another's home",
    errno.ENOENT: "gobblerd was moved or removed: install it again, and start it from there",
    errno.EAGAIN: "the account has too many processes: raise that limit (TasksMax, LimitNPROC)",
}
_LOOK_AT_LIMITS = "look at the limits and the memory of this machine"
# What we import it imports from the same places, and from nowhere else.
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from gobblerd.service.imports import for_http
try:
    with for_http():
        from gobblerd.service.web.main import main
except (ImportError, OSError) as error:  # before its log is set up
    from structlog import get_logger
    from gobblerd.service.logs import configure
    configure("error")
    get_logger().error("the web process cannot import what it needs", reason=str(error))
    sys.exit(1)
main({channel})
"""


class WebProcess:
    """One web process. `channel` is our end of the socket between us."""

    def __init__(self) -> None:
        """Spawn it, in the main thread: when the thread that did it ends, so does the process. Fault."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        program = _PROGRAM.format(path=sys.path, channel=theirs.fileno())
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and text
                    [sys.executable, "-P", "-c", program],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            except OSError as error:
                self.channel.close()
                raise _not_spawned(error) from error

    def tell(self, setup: bytes, listeners: list[socket.socket]) -> None:
        """Say what to serve, in one message, and where."""
        with contextlib.suppress(OSError):  # it died: whoever reads the channel learns it
            sent = socket.send_fds(self.channel, [setup], [each.fileno() for each in listeners])
            self.channel.sendall(setup[sent:])

    def join(self, seconds: float) -> int | None:
        """Wait for its end; return its exit code, None if it still runs."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


def url_of(host: str, port: int, prefix: str) -> str:
    """Return where clients elsewhere find what listens on a host; every address has this machine's name."""
    name = socket.gethostname() if host in _EVERY_ADDRESS else host
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{prefix}"


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host; Fault."""
    deadline = time.monotonic() + _PORT_PATIENCE
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise _not_listening(host, port, error) from error
            time.sleep(_PORT_PAUSE)


def _bound(host: str, port: int) -> list[socket.socket]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(address, family=family, backlog=BACKLOG))
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found)
        ]
        stack.pop_all()
        return sockets


def _not_spawned(error: OSError) -> Fault:
    python, real = sys.executable, os.path.realpath(sys.executable)
    return Fault(
        "the web process cannot be started with {python}: {why}; {mend}",
        python=Plain(escaped(python if real == python else f"{python} ({real})")),
        why=Plain(error.strerror or error),
        mend=Plain(_SPAWN_MENDS.get(error.errno, _LOOK_AT_LIMITS)),
    )


def _not_listening(host: str, port: int, error: OSError) -> Fault:
    # `create_server` adds the address to the text; a name that is unknown has a number of another kind.
    is_name = isinstance(error, socket.gaierror)
    return Fault(
        "cannot listen on port {port} of {host}: {why}; {mend}",
        port=port,
        host=Plain(escaped(host)),
        why=Plain(error.strerror if is_name or not error.errno else os.strerror(error.errno)),
        mend=Plain(_PORT_MENDS.get(error.errno, _HOST_MEND)),
    )
