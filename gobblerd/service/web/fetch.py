"""Sending a file: small ones in place, large ones by sendfile, never encoded, never more than was promised.

A file that turns out shorter than its descriptor said ends the connection: a client must not take a part,
or padding, for the whole.

Limits: opening and reading small files happens in the event loop, as does the kernel's reading ahead of
sendfile: on a file server that hangs, so do the answers. Without TLS only.
"""

import asyncio
import contextlib
import os
from concurrent.futures import Executor

import structlog
from aiohttp import web

from gobblerd.domain.errors import Fault
from gobblerd.registry.browse import Browser, OpenedFile
from gobblerd.service.conditions import Span, Validators, Verdict, judged, span_of
from gobblerd.service.web.answers import error_answer

SMALL_MOST = 64 << 10  # bytes: reading these in place costs less than handing them to another thread
_CHUNK = 256 << 10
_ACTIVE = ("text/html", "application/xhtml+xml", "image/svg+xml", "application/xml")  # may hold scripts

_log = structlog.get_logger(__name__)


async def fetch(request: web.Request, browser: Browser, pool: Executor, path: str) -> web.StreamResponse:
    """Answer with the file at `path`; Wrong or Absent where the browser raises them."""
    file = browser.open_at_once(path)
    if file is None:
        file = await asyncio.get_running_loop().run_in_executor(pool, browser.open, path)
    with file:
        return await _answer(request, file, pool)


async def _answer(request: web.Request, file: OpenedFile, pool: Executor) -> web.StreamResponse:
    validators = Validators(file.etag, file.mtime_ns)
    headers = _headers(file, validators)
    verdict = judged(request, validators)
    if verdict is Verdict.NOT_MODIFIED:
        return web.Response(status=verdict.value, headers=headers)
    if verdict is Verdict.FAILED:
        return error_answer("the file is not the one that If-Match names", verdict.value)
    span = span_of(request, validators, file.size)
    if span is None:
        reason = f"the file has {file.size} bytes, none of them in this range"
        return error_answer(reason, 416, {"Content-Range": f"bytes */{file.size}"})
    return await _send(request, file, span, headers, pool)


def _headers(file: OpenedFile, validators: Validators) -> dict[str, str]:
    headers = {
        "Content-Type": file.content_type,
        "ETag": f'"{validators.etag}"',
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",  # users' files must not become pages of this service
    }
    if (last_modified := validators.last_modified) is not None:
        headers["Last-Modified"] = last_modified
    if file.content_type.startswith(_ACTIVE):
        headers["Content-Security-Policy"] = "sandbox"
    return headers


async def _send(
    request: web.Request, file: OpenedFile, span: Span, headers: dict[str, str], pool: Executor
) -> web.StreamResponse:
    status = 206 if span.partial else 200
    headers["Content-Length"] = str(span.count)
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.count - 1}/{file.size}"
    if request.method == "HEAD":
        return web.Response(status=status, headers=headers)
    if span.count > SMALL_MOST:
        return await _stream(request, file, span, web.StreamResponse(status=status, headers=headers), pool)
    body = os.pread(file.fd, span.count, span.start)
    if len(body) < span.count:
        raise Fault("the file became shorter while it was read")
    return web.Response(body=body, status=status, headers=headers)


async def _stream(
    request: web.Request, file: OpenedFile, span: Span, response: web.StreamResponse, pool: Executor
) -> web.StreamResponse:
    sent = 0
    try:
        await response.prepare(request)
        sent = await _send_bytes(request, file, span, response, pool)
    except ConnectionError:
        return response  # the client left
    except OSError:
        _log.exception("cannot read the file that is being sent", path=request.path)
    if sent < span.count:
        abandon(request)
    return response


async def _send_bytes(
    request: web.Request, file: OpenedFile, span: Span, response: web.StreamResponse, pool: Executor
) -> int:
    """Send the span; return how many bytes of it there were."""
    loop = asyncio.get_running_loop()
    if request.transport is None:
        raise ConnectionResetError
    readable = os.fdopen(file.fd, "rb", buffering=0, closefd=False)
    with contextlib.suppress(NotImplementedError), readable:  # an event loop without sendfile
        return await loop.sendfile(request.transport, readable, span.start, span.count)
    sent = 0
    while sent < span.count:
        size = min(_CHUNK, span.count - sent)
        chunk = await loop.run_in_executor(pool, os.pread, file.fd, size, span.start + sent)
        if not chunk:
            break
        await response.write(chunk)
        sent += len(chunk)
    return sent


def abandon(request: web.Request) -> None:
    """End the connection in the middle of an answer, so that nobody takes the part for the whole."""
    if request.transport is not None:
        request.transport.abort()
