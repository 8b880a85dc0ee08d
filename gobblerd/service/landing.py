"""Bringing results of other threads into the event loop, as many as there are at one wake-up.

`asyncio.wrap_future` wakes the loop for each, by a system call that hands it the interpreter's lock in the
middle of somebody's work.
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

from gobblerd.domain.errors import Stopped

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")


class Landing:
    """Where the results of one event loop arrive; `of` is for its tasks only."""

    def __init__(self) -> None:
        self._arrived: deque[tuple[asyncio.Future[Any], Future[Any]]] = deque()
        self._loop_is_coming = False

    async def of(self, future: "Future[T]") -> T:
        """Wait for a result; raises what it failed with, Stopped if it was given up.

        Who stops waiting stops nothing.
        """
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[T] = loop.create_future()

        def bring(done: "Future[T]") -> None:
            self._arrived.append((mine, done))
            if not self._loop_is_coming:
                self._loop_is_coming = True
                loop.call_soon_threadsafe(self._land)

        future.add_done_callback(bring)
        return await mine

    def _land(self) -> None:
        self._loop_is_coming = False  # before the look: what arrives after it calls again
        while self._arrived:
            mine, done = self._arrived.popleft()
            if not mine.done():
                _pass_on(done, mine)


def _pass_on(done: "Future[T]", mine: "asyncio.Future[T]") -> None:
    if done.cancelled():
        mine.set_exception(Stopped())
    elif (error := done.exception()) is not None:
        mine.set_exception(error)
    else:
        mine.set_result(done.result())
