"""Starting and ending the web process, and another one should it die.

It begins to import what it needs as soon as it is spawned, beside the daemon's own start; it serves once it
is told what. It is started by exec, never forked: no lock of a thread of ours can be held in it. The
listening sockets are the daemon's: while one web process takes another's place, nobody else gets the port.
"""

import contextlib
import errno
import socket
import subprocess
import sys
import time

_PORT_PATIENCE = 2.0  # seconds for which a web process that outlived its daemon may still hold the port
_PORT_PAUSE = 0.02
BACKLOG = 1024  # connections that may wait to be accepted
# What we import it imports from the same places, and from nowhere else.
_PROGRAM = """
import sys
sys.path[:] = {path!r}
from gobblerd.service.imports import for_http
with for_http():
    from gobblerd.service.web.main import main
main({channel})
"""


class WebProcess:
    """One web process. `channel` is our end of the socket between us."""

    def __init__(self) -> None:
        """Spawn it, in the main thread: when the thread that did it ends, so does the process."""
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        program = _PROGRAM.format(path=sys.path, channel=theirs.fileno())
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and text
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

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


def listening_sockets(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host; OSError."""
    deadline = time.monotonic() + _PORT_PATIENCE
    while True:
        try:
            return _bound(host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
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
