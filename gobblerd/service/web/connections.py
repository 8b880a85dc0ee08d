"""How many HTTP connections are held: no more than half of what the process may open.

Anyone can open a connection and say nothing, for which aiohttp waits for ever. Without a bound a few hundred
of them take every descriptor, and then neither files nor connections can be opened. Beyond the bound the
oldest connection that is between requests is closed for each new one; those that ask for something stay.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from gobblerd.service.descriptors import open_as_many_as_allowed
from gobblerd.service.web_process import BACKLOG

_LEAST = 16
_AT_ONCE = 64  # of them are accepted before one is counted: asyncio takes its backlog for that number too


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
        return server()

    return make


def _idle(connections: list[RequestHandler]) -> list[RequestHandler]:
    return [each for each in connections if each._current_request is None]  # noqa: SLF001 - aiohttp has no other way to ask
