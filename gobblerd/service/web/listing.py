"""Sending the names of a directory as one JSON array, piece by piece as they are found.

Limit: an error in the middle can only end the connection; the client sees an unfinished answer.
"""

import asyncio
import contextlib
from collections.abc import Generator
from concurrent.futures import Executor, Future

import structlog
from aiohttp import web

from gobblerd.registry.browse import Browser, Pieces
from gobblerd.registry.content_types import JSON
from gobblerd.service.web.fetch import abandon

_PIECE = 256 << 10  # bytes: some 8,000 names, found within a few milliseconds

_log = structlog.get_logger(__name__)


def joined(pieces: Pieces) -> Generator[bytes, None, None]:
    """Yield the JSON array of all names of all pieces, in larger ones."""
    with contextlib.closing(pieces):
        opening, some, size = b"[", list[bytes](), 0
        for piece in pieces:
            some.append(piece)
            size += len(piece)
            if size >= _PIECE:
                yield opening + b",".join(some)
                opening, some, size = b",", [], 0
    yield (opening if some or opening == b"[" else b"") + b",".join(some) + b"]"


async def list_names(
    request: web.Request, browser: Browser, pool: Executor, path: str, *, recursive: bool
) -> web.StreamResponse:
    """Answer with the names in the directory at `path`; Wrong or Absent where the browser raises them."""
    found = await asyncio.get_running_loop().run_in_executor(
        pool, lambda: browser.pieces(path, recursive=recursive)
    )
    if request.method == "HEAD":
        return web.Response(content_type=JSON)
    pieces = _Pieces(joined(found), pool)
    try:
        first, second = await pieces.next(), await pieces.next()
        if second is None:
            return web.Response(body=first, content_type=JSON)
        return await _stream(request, pieces, first or b"", second)
    finally:
        pieces.close()


async def _stream(request: web.Request, pieces: "_Pieces", *known: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": JSON})
    try:
        await response.prepare(request)
        for piece in known:
            await response.write(piece)
        while (found := await pieces.next()) is not None:
            await response.write(found)
    except ConnectionError:
        pass  # the client left
    except Exception:  # noqa: BLE001 - the edge: it is logged, and the client must notice
        _log.exception("cannot list to the end", path=request.path_qs)
        abandon(request)
    return response


class _Pieces:
    """Pieces made in another thread, one ahead of the reader; never in two threads at once."""

    def __init__(self, pieces: Generator[bytes, None, None], pool: Executor) -> None:
        self._pieces = pieces
        self._pool = pool
        self._ahead: Future[bytes | None] = self._make()

    def _make(self) -> "Future[bytes | None]":
        return self._pool.submit(next, self._pieces, None)

    async def next(self) -> bytes | None:
        """Return the next piece; None after the last."""
        piece = await asyncio.wrap_future(self._ahead)
        if piece is not None:
            self._ahead = self._make()
        return piece

    def close(self) -> None:
        """Close what the pieces are made of, once no thread is making one; never waits."""
        self._ahead.add_done_callback(lambda _: self._pieces.close())
