"""What every HTTP answer has in common: JSON as clients expect it, errors as sentences, CORS."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from gobblerd.domain.errors import GobblerdError, Kind, Plain, quoted
from gobblerd.domain.messages import error_body
from gobblerd.registry.content_types import JSON
from gobblerd.service.codes import INTERNAL, STATUS, refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_EVERYONE = {"Access-Control-Allow-Origin": "*"}

_log = structlog.get_logger(__name__)


def json_answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return `document` as an answer; the content type has no parameters (spec/http.md)."""
    return web.Response(body=msgspec.json.encode(document), status=status, headers=headers, content_type=JSON)


def error_answer(reason: str, status: int, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a failure, with its reason."""
    return json_answer(error_body(reason), status, headers)


def not_understood(status: int, message: str) -> web.Response:
    """Return the answer to what the server library cannot take for HTTP, whose `message` begins with why.

    Its further lines quote what came. The connection ends, since nobody knows where the next request begins.
    """
    why = message.partition("\n")[0].rstrip(": ")
    if "url" in why.lower():  # the parser takes ASCII only, as the standard has it; the Go service took more
        why += "; in a URL, what is not ASCII must be percent-encoded"
    known = why and status < STATUS[Kind.FAULT]
    reason = f"this is no request that HTTP knows: {why}" if known else INTERNAL
    answer = error_answer(reason, status, _EVERYONE)
    answer.force_close()
    return answer


async def allow_everyone(_request: web.Request, response: web.StreamResponse) -> None:
    """Let pages of any origin read the answer; the registry is readable to everyone anyway."""
    response.headers.update(_EVERYONE)


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer, and answer OPTIONS on any path."""
    if request.method == "OPTIONS":
        return _options()
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _http_error(request, error)
    except GobblerdError as error:
        if error.kind is Kind.FAULT:
            _log.exception("cannot answer", method=request.method, path=request.path)
        code, document = refusal(error)
        return json_answer(document, code)
    except Exception:  # noqa: BLE001 - the edge: whatever it is, it is logged and answered
        _log.exception("cannot answer", method=request.method, path=request.path)
        return error_answer(INTERNAL, STATUS[Kind.FAULT])


def _options() -> web.Response:
    return web.Response(
        status=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": "*",
        },
    )


def _http_error(request: web.Request, error: web.HTTPException) -> web.Response:
    """Return the server library's own refusal (no such path, or not with this method) as JSON."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted({*error.allowed_methods, "OPTIONS"}))
        reason = f"{Plain(request.method)} is not possible on {quoted(request.path)}, only {allowed}"
        return error_answer(reason, error.status, {"Allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return error_answer(f"this service has nothing at {quoted(request.path)}", error.status)
    return error_answer(error.reason.lower(), error.status)
