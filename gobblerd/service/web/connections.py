"""HTTP connections: how many are held, how long a request's line may be, and what is said to no HTTP.

Anyone can open a connection and say nothing, for which aiohttp waits for ever. Without a bound a few hundred
of them take every descriptor, and then neither files nor connections can be opened. So no more are held than
half of what the process may open: beyond that the oldest connection that is between requests is closed for
each new one; those that ask for something stay.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gobblerd.service.descriptors import open_as_many_as_allowed
from gobblerd.service.web.answers import not_understood
from gobblerd.service.web_process import BACKLOG

_LEAST = 16
_AT_ONCE = 64  # of them are accepted before one is counted: asyncio takes its backlog for that number too
_LINE_BYTES = 32_768  # the longest path in a registry (4095 bytes), each byte percent-encoded, and a query
_SHUTDOWN = 2.0  # seconds for answers under way


def make_runner(app: web.Application) -> web.AppRunner:
    """Return what runs the application on connections as we want them."""
    return web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=_SHUTDOWN,
        auto_decompress=False,
        max_line_size=_LINE_BYTES,
    )


async def listen(server: web.Server, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
    """Begin to accept connections on listening sockets, as many as are good for us. OSError."""
    loop, protocol = asyncio.get_running_loop(), bounded(server, most_connections())
    listeners = []
    for each in sockets:
        with socket.socket(fileno=os.dup(each.fileno())) as same:
            listeners.append(await loop.create_server(protocol, sock=each, backlog=_AT_ONCE))
            same.listen(BACKLOG)
    return listeners


def most_connections() -> int:
    """Return how many of the files that may be open may be connections."""
    return max(_LEAST, open_as_many_as_allowed() // 2)


def bounded(server: web.Server, most: int) -> Callable[[], asyncio.Protocol]:
    """Return what makes each connection's protocol, closing an idle old one where there are too many."""

    def make() -> asyncio.Protocol:
        connections = server.connections
        for old in _idle(connections)[: max(0, len(connections) + 1 - most)]:
            old.close()
            if old.transport is not None:
                old.transport.close()
        return _Connection(server, loop=asyncio.get_running_loop(), **server._kwargs)  # noqa: SLF001 - as Server does

    return make


class _Connection(RequestHandler):
    """A connection that answers what is no HTTP as everything else is answered: in JSON, to any origin."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Have the library log it (and refuse where an answer has begun), and answer in our own words."""
        super().handle_error(request, status, exc, message)
        return not_understood(status, message or "")


def _idle(connections: list[RequestHandler]) -> list[RequestHandler]:
    return [each for each in connections if each._current_request is None]  # noqa: SLF001 - aiohttp has no other way to ask
