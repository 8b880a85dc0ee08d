"""Asking the daemon: the web process's end of their socket, in its event loop."""

import asyncio
from collections.abc import Callable
from itertools import count

from gobblerd.service.web.messages import Call, Close, Kind, Messages, Reply, Settings, message, said_of


class Asking(asyncio.Protocol):
    """Asks, and hears what the daemon says besides. For one event loop.

    `heard` is called with new settings, `closing` when the daemon wants HTTP to end, `lost` when it is gone.
    """

    def __init__(
        self, heard: Callable[[Settings], None], closing: Callable[[], None], lost: Callable[[], None]
    ) -> None:
        self._heard = heard
        self._closing = closing
        self._lost = lost
        self._messages = Messages()
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._transport: asyncio.WriteTransport | None = None

    async def ask(self, kind: Kind, about: str = "") -> Reply:
        """Return the daemon's reply; who stops waiting stops nothing."""
        assert self._transport is not None  # connected before it is used
        number = next(self._numbers)
        waiting: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        self._transport.write(message(Call(number, kind, about)))
        try:
            return await waiting
        finally:
            self._waiting.pop(number, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Hand each reply to who waits for it."""
        for content in self._messages.cut(data):
            said = said_of(content)
            if isinstance(said, Reply):
                waiting = self._waiting.get(said.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(said)
            elif isinstance(said, Settings):
                self._heard(said)
            else:
                assert isinstance(said, Close)
                self._closing()

    def connection_lost(self, _error: Exception | None) -> None:
        """Tell that nobody answers any more."""
        self._lost()
