"""Sending a version as one archive, made while it is sent (spec/http.md, `GET /archive`).

Each archive that is being sent holds some memory and a part of a processor, so only a few are made at once;
whoever comes then waits, and after a while is told to come again. A client that takes nothing for a minute
is given up, so that it does not keep others out. What turns out to be damaged in the middle ends the
connection: nobody must take a part for the whole.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog
from aiohttp import web

from gobblerd.domain.errors import Absent, Busy, GobblerdError, Plain
from gobblerd.domain.times import NANOSECONDS
from gobblerd.service.conditions import Validators, Verdict, judged
from gobblerd.service.web.fetch import abandon

if TYPE_CHECKING:
    from gobblerd.archive.stream import ArchiveStream

_TYPES = {"tar.zst": "application/zstd", "tar": "application/x-tar"}  # the formats that can be asked for
AT_ONCE = 2  # compressed ones: some 40 MiB each
PLAIN_AT_ONCE = 8  # others: some MiB each
_PATIENCE = 15.0  # seconds that a client waits for its turn
_SILENCE = 60.0  # seconds in which a client must take a slice
_SLICE = 1 << 20

_log = structlog.get_logger(__name__)


class Archives:
    """Makes archives of one registry's versions for the clients of one daemon."""

    def __init__(self, registry: str, whitelist: Callable[[], Sequence[str]], pool: Executor) -> None:
        self._registry = registry
        self._whitelist = whitelist
        self._pool = pool
        self._turns = {kind: asyncio.Semaphore(_at_once(kind)) for kind in _TYPES}

    async def send(self, request: web.Request, path: str) -> web.StreamResponse:
        """Answer with the archive at `project/asset/version.tar.zst` or `.tar`; Absent, Invalid, Busy..."""
        project, asset, version, kind = _parts(path)
        async with self._turn(kind):
            loop = asyncio.get_running_loop()
            stream = await loop.run_in_executor(self._pool, self._open, project, asset, version, kind)
            try:
                return await self._answer(request, stream, _TYPES[kind])
            finally:
                await asyncio.shield(loop.run_in_executor(self._pool, stream.close))

    @contextlib.asynccontextmanager
    async def _turn(self, kind: str) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._turns[kind].acquire(), _PATIENCE)
        except TimeoutError:
            raise Busy("{n} archives are being sent already: try again soon", n=_at_once(kind)) from None
        try:
            yield
        finally:
            self._turns[kind].release()

    def _open(self, project: str, asset: str, version: str, kind: str) -> "ArchiveStream":
        from gobblerd.archive.stream import ArchiveStream  # noqa: PLC0415 - not needed to start to serve
        from gobblerd.archive.version_plan import Version  # noqa: PLC0415 - as above

        place = Version(self._registry, project, asset, version, tuple(self._whitelist()))
        return ArchiveStream(place, kind)

    async def _answer(self, request: web.Request, stream: "ArchiveStream", media: str) -> web.StreamResponse:
        validators = Validators(stream.etag, stream.mtime * NANOSECONDS)
        headers = {
            "Content-Type": media,
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(stream.name, safe='')}",
            "ETag": f'"{stream.etag}"',
            "Last-Modified": formatdate(stream.mtime, usegmt=True),
            "Accept-Ranges": "none",
            "X-Content-Type-Options": "nosniff",
        }
        verdict = judged(request, validators)
        if verdict is not Verdict.SEND:
            return web.Response(status=verdict.value, headers=headers)
        if request.method == "HEAD":
            return web.Response(headers=headers)
        return await self._stream(request, stream, headers)

    async def _stream(
        self, request: web.Request, stream: "ArchiveStream", headers: dict[str, str]
    ) -> web.StreamResponse:
        """Send piece after piece, each read while the one before is on its way."""
        loop = asyncio.get_running_loop()
        response = web.StreamResponse(headers=headers)
        piece = await loop.run_in_executor(self._pool, stream.piece)  # what is wrong at once gets its code
        coming = None
        try:
            await response.prepare(request)
            while piece:
                coming = loop.run_in_executor(self._pool, stream.piece)
                for at in range(0, len(piece), _SLICE):
                    await asyncio.wait_for(response.write(piece[at : at + _SLICE]), _SILENCE)
                piece = await coming
            await response.write_eof()
        except (ConnectionError, TimeoutError):
            abandon(request)  # the client left, or takes nothing
        except (GobblerdError, OSError) as error:
            _log.warning("an archive broke off", path=request.path, reason=str(error))
            abandon(request)
        finally:
            if coming is not None:
                await asyncio.wait([coming])  # nobody closes the stream under a thread that reads it
        return response


def _at_once(kind: str) -> int:
    return PLAIN_AT_ONCE if kind == "tar" else AT_ONCE


def _parts(path: str) -> tuple[str, str, str, str]:
    """Return project, asset, version and format."""
    parts = path.split("/")
    for kind in _TYPES:
        version = parts[-1].removesuffix(f".{kind}")
        if len(parts) == 3 and version != parts[-1] and all((*parts, version)):  # noqa: PLR2004
            return parts[0], parts[1], version, kind
    form = Plain("PROJECT/ASSET/VERSION.tar.zst")
    raise Absent("there is no archive {path}: ask for {form}", path=path, form=form)
