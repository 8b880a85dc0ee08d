"""HTTP as the daemon sees it: listening sockets, and the web process that serves them.

A web process that dies is replaced; requests that were POSTed go on, and files that are dropped never needed
it. Everything here runs in the daemon's event loop, but for `close`.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial

import structlog

from gobblerd.domain.errors import Fault
from gobblerd.service.calls import CallServer, Desk
from gobblerd.service.web.messages import Close, Setup, message
from gobblerd.service.web_process import WebProcess

log = structlog.get_logger(__name__)

_PAUSE_FIRST = 0.1  # seconds until a web process that died is replaced; twice that the next time
_PAUSE_MOST = 30.0
_ENDING_MOST = 5.0  # seconds: it cuts off by itself, after two, what it is still sending
_LIVED_LONG = 60.0  # seconds after which its death is not one of a series


class Front:
    """Keeps a web process running, and answers it. `setup` says what it is to serve."""

    def __init__(
        self, web: WebProcess, listeners: list[socket.socket], desk: Desk, setup: Callable[[], Setup]
    ) -> None:
        self._web = web
        self._listeners = listeners
        self._desk = desk
        self._setup = setup
        self._pause = _PAUSE_FIRST
        self._closing = False
        self.alive = True

    def start(self) -> None:
        """Begin to serve."""
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        lost = partial(self._loop.call_soon_threadsafe, self._replace)
        self._server = CallServer(self._web.channel, self._desk, lost)
        self._web.tell(message(self._setup()), self._listeners)
        self._server.start()
        self.alive = True

    def settings_changed(self) -> None:
        """Tell of new settings; from any thread."""
        self._server.say(self._setup().settings)

    def _replace(self) -> None:
        if self._closing:
            return
        self.alive = False
        if time.monotonic() - self._began > _LIVED_LONG:
            self._pause = _PAUSE_FIRST
        code = self._web.join(1.0)
        log.error("the web process has ended, another one follows", exit_code=code, after=self._pause)
        self._loop.call_later(self._pause, self._start_another)
        self._pause = min(2 * self._pause, _PAUSE_MOST)

    def _start_another(self) -> None:
        if self._closing:
            return
        try:
            self._web = WebProcess()
        except Fault as error:
            log.error("no web process can be started", reason=error.reason)  # noqa: TRY400  # it says all
            self._loop.call_later(self._pause, self._start_another)
        else:
            self.start()

    def close(self, seconds: float) -> None:
        """Let what is being answered be answered, for so long at the most; nothing listens any more."""
        self._closing = True
        for each in self._listeners:
            each.close()
        self._server.say(Close())
        if self._web.join(min(seconds, _ENDING_MOST)) is None:
            self._web.kill()
