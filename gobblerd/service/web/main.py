"""What the web process runs: it is told what to serve, serves it, and ends with the daemon.

It is started by the daemon with one end of a socket (service/web_process.py), reads the registry by itself,
and asks the daemon for everything else. It has no life of its own: signals are the daemon's business, and
when the socket ends, so does it.
"""

import asyncio
import ctypes
import functools
import os
import signal
import socket
from collections.abc import Mapping
from typing import Any

import msgspec

from gobblerd import __version__
from gobblerd.registry.browse import Browser
from gobblerd.service import logs
from gobblerd.service.memory import use_few_arenas
from gobblerd.service.web.asking import Asking
from gobblerd.service.web.connections import listen, make_runner
from gobblerd.service.web.messages import HEADER_BYTES, Settings, Setup, length_of, setup_of
from gobblerd.service.web.page.page import make_page
from gobblerd.service.web.rest import ServiceInfo, make_app

_SOCKETS_MOST = 64
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15  # prctl(2)
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_STATUS_PATIENCE = 10.0  # seconds


def main(channel: int) -> None:
    """Serve what the daemon at the other end of the channel (a descriptor) says, until it is gone."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _tie_to_parent()
    use_few_arenas()
    with socket.socket(fileno=channel) as daemon:
        told = told_of(daemon)
        if told is None:
            return
        setup, listeners = told
        logs.configure(setup.settings.log_level)
        asyncio.run(_serve(daemon, setup, listeners))


def _tie_to_parent() -> None:
    """Be killed when the daemon dies, also where a hanging storage keeps us from seeing it; have a name."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, b"gobblerd-web")


def told_of(daemon: socket.socket) -> tuple[Setup, list[socket.socket]] | None:
    """Wait for what to serve, and where; None if the daemon ends before it says so."""
    header, fds, _, _ = socket.recv_fds(daemon, HEADER_BYTES, _SOCKETS_MOST)
    listeners = [socket.socket(fileno=fd) for fd in fds]
    header += _exactly(daemon, HEADER_BYTES - len(header))
    content = _exactly(daemon, length_of(header)) if len(header) == HEADER_BYTES else b""
    return (setup_of(content), listeners) if content else None


def _exactly(daemon: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (part := daemon.recv(size - len(data))):
        data += part
    return data


async def _serve(daemon: socket.socket, setup: Setup, listeners: list[socket.socket]) -> None:
    loop, closing, settings = asyncio.get_running_loop(), asyncio.Event(), setup.settings

    def take(new: Settings) -> None:
        nonlocal settings
        settings = new
        logs.configure(new.log_level)

    _, asking = await loop.create_connection(lambda: Asking(take, closing.set, _end), sock=daemon)
    browser = Browser(setup.registry, lambda: settings.whitelist)
    status = functools.partial(_status, asking, loop)
    app = make_app(
        asking,
        browser,
        ServiceInfo("gobblerd", __version__, setup.url, setup.staging, setup.registry),
        setup.prefix,
        make_page(browser, setup.registry, status, setup.prefix),
    )
    runner = make_runner(app)
    await runner.setup()
    assert runner.server is not None
    servers = await listen(runner.server, listeners)
    await closing.wait()
    for server in servers:
        server.close()
    await runner.cleanup()
    _end()


def _status(asking: Asking, loop: asyncio.AbstractEventLoop) -> Mapping[str, Any]:
    """Ask for the daemon's status document; in a thread of the pool."""
    reply = asyncio.run_coroutine_threadsafe(asking.ask("status"), loop).result(_STATUS_PATIENCE)
    document: Mapping[str, Any] = msgspec.json.decode(reply.body)
    return document


def _end() -> None:
    """End the process now: a thread that hangs in the storage must not keep it."""
    os._exit(0)
