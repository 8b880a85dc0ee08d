"""The REST API (spec/http.md): routes to handlers, each a few lines over the spool or the browser.

There is no write access but `POST /new`, and that needs a file in staging: its owner is who asks.
Everything that may block runs in a few threads of its own, but for what `fetch.py` says.

Limit: a client that sends a body where none is needed has it read and dropped after the answer, for ten
seconds at the most; then the connection is closed.
"""

import asyncio
import contextlib
import posixpath
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote

from aiohttp import web

from gobblerd.domain.errors import Absent, Wrong
from gobblerd.domain.messages import REQUEST_PREFIX, Response
from gobblerd.domain.version_spec import VersionSpec
from gobblerd.registry.browse import Browser
from gobblerd.registry.releases import resolve_versions
from gobblerd.service.answers import Handler, allow_everyone, answer_errors, error_answer, json_answer
from gobblerd.service.archives import Archives
from gobblerd.service.fetch import fetch
from gobblerd.service.landing import Landing
from gobblerd.service.listing import list_names
from gobblerd.service.openapi import OPERATIONS, description
from gobblerd.service.openapi import page as page_of
from gobblerd.service.page.page import Page, prefers_page

_THREADS = 8
_ANYTHING = r":[\s\S]*}"  # as the last parameter of a route: the whole rest, slashes and newlines included
_NAME_MAX_BYTES = 255


class Progress(Protocol):
    """How far a queued or running request is."""

    @property
    def state(self) -> str: ...  # noqa: D102 - the fields of GET /response
    @property
    def ahead(self) -> int: ...  # noqa: D102
    @property
    def bytes_done(self) -> int: ...  # noqa: D102
    @property
    def bytes_total(self) -> int: ...  # noqa: D102


class Requests(Protocol):
    """As much of the spool as the REST API needs."""

    def post(self, name: str) -> "Future[Response]":
        """Take up the request file, or join or repeat; never blocks.

        The future fails with FileNotFoundError while no such file is visible.
        """

    def response(self, name: str) -> Response | None:
        """Return the recorded response."""

    def progress(self, name: str) -> Progress | None:
        """Return how far a queued or running request is."""


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What the service says of itself; `staging` and `registry` are absolute paths."""

    name: str
    version: str
    url: str
    staging: str
    registry: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, to look again for a request file that is not visible yet, and how often."""

    total: float = 5.0
    first: float = 0.05
    most: float = 0.25


PATIENCE = Patience()
MetricsSource = Callable[[str], tuple[bytes, str]]  # Accept header -> metrics and their content type


def make_app(
    spool: Requests,
    browser: Browser,
    info: ServiceInfo,
    prefix: str,
    health: Callable[[], list[str]],
    page: Page,
    metrics: MetricsSource,
    *,
    patience: Patience = PATIENCE,
) -> web.Application:
    """Compose the application; `prefix` ("" or like "/gobbler") comes before every path.

    `health` returns what is wrong, nothing if all is well; `page` is for browsers. `metrics` returns the
    metrics in the format that an Accept header asks for, and their content type.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rest")
    prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
    api = _Api(
        spool=spool,
        browser=browser,
        info=info,
        prefix=prefix,
        health=health,
        metrics=metrics,
        pool=pool,
        archives=Archives(browser.root, browser.whitelist, pool),
        patience=patience,
        description=description(info.name, info.version, prefix, OPERATIONS),
        page=page,
    )
    app = web.Application(middlewares=[answer_errors])
    app.on_response_prepare.append(allow_everyone)
    app.cleanup_ctx.append(lambda _: _closing(pool))
    for operation in OPERATIONS:
        path = prefix + operation.path.replace("}", _ANYTHING)
        handler: Handler = getattr(api, operation.name)
        _route(app, operation.method, path, handler)
    if prefix:
        _route(app, "GET", prefix, api.get_root)
    _route(app, "*", "/{path" + _ANYTHING, _nothing_here)
    return app


def _route(app: web.Application, method: str, path: str, handler: Handler) -> None:
    if method == "GET":
        app.router.add_get(path, handler, expect_handler=_expect_nothing)
    else:
        app.router.add_route(method, path, handler, expect_handler=_expect_nothing)


async def _expect_nothing(_request: web.Request) -> None:
    """Ignore `Expect: 100-continue`: no body is wanted, and the answer itself tells the client so."""


async def _nothing_here(request: web.Request) -> web.StreamResponse:
    """Refuse a path or method that no other route takes; as a route, so that it ignores Expect too."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        _, methods = await resource.resolve(request)
        allowed |= methods
    allowed.discard("*")  # this very route
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    raise web.HTTPNotFound


async def _closing(pool: ThreadPoolExecutor) -> AsyncIterator[None]:
    yield
    pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Api:
    """One method per operation of `openapi.OPERATIONS`, by its name."""

    spool: Requests
    browser: Browser
    info: ServiceInfo
    prefix: str
    health: Callable[[], list[str]]
    metrics: MetricsSource
    pool: ThreadPoolExecutor
    archives: Archives
    patience: Patience
    description: Mapping[str, Any]
    page: Page
    landing: Landing = field(default_factory=Landing)

    async def post_request(self, request: web.Request) -> web.StreamResponse:
        """Answer as the request is answered; it goes on if the client goes away."""
        name = _request_name(self._rest_of_path(request, "/new/"))
        response = await self._response_of(name)
        return json_answer(dict(response.body), response.code)

    async def _response_of(self, name: str) -> Response:
        """Have the request performed; look again for a while where its file is not visible yet.

        Network filesystems cache that a file is not there (spec/http.md).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience.total
        pause = self.patience.first
        while True:
            with contextlib.suppress(FileNotFoundError):
                return await self.landing.of(self.spool.post(name))
            left = deadline - loop.time()
            if left <= 0:
                raise Wrong("there is no request file {name} in the staging directory", name=name)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, self.patience.most)

    async def get_response(self, request: web.Request) -> web.StreamResponse:
        """Answer with the recorded response, or with how far the request is."""
        name = _request_name(self._rest_of_path(request, "/response/"))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, self._recorded, name)

    def _recorded(self, name: str) -> web.Response:
        # Progress first: a request that ends in between is then found answered.
        if (progress := self.spool.progress(name)) is not None:
            keys = ("state", "ahead", "bytes_done", "bytes_total")
            return json_answer({key: getattr(progress, key) for key in keys}, 202)
        if (response := self.spool.response(name)) is not None:
            return json_answer(response.document())
        raise Absent("there is no response to {name}", name=name)

    async def list_names(self, request: web.Request) -> web.StreamResponse:
        """Answer with the names in a directory of the registry."""
        path = request.query.get("path", "")
        recursive = request.query.get("recursive") == "true"
        return await list_names(request, self.browser, self.pool, path, recursive=recursive)

    async def fetch_file(self, request: web.Request) -> web.StreamResponse:
        """Answer with a file of the registry."""
        return await fetch(request, self.browser, self.pool, self._rest_of_path(request, "/fetch/"))

    async def send_archive(self, request: web.Request) -> web.StreamResponse:
        """Answer with a version as one archive."""
        return await self.archives.send(request, self._rest_of_path(request, "/archive/"))

    async def resolve_versions(self, request: web.Request) -> web.StreamResponse:
        """Answer with the versions of an asset that an expression means."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, self._resolved, request.query)

    def _resolved(self, query: Mapping[str, str]) -> web.Response:
        project, asset, spec = query.get("project", ""), query.get("asset", ""), query.get("spec")
        try:
            wanted = VersionSpec.parse(spec)
        except ValueError as error:
            raise Wrong("{why}", why=error) from None
        found = resolve_versions(self.browser, project, asset, wanted)
        return json_answer({"project": project, "asset": asset, "spec": spec or "", "versions": found})

    async def get_info(self, _request: web.Request) -> web.StreamResponse:
        """Answer with where staging and registry are."""
        info = self.info
        return json_answer(
            {"staging": posixpath.normpath(info.staging), "registry": posixpath.normpath(info.registry)}
        )

    async def get_root(self, request: web.Request) -> web.StreamResponse:
        """Answer with what this is, or with the page where a browser asks."""
        if prefers_page(request.headers.get("Accept", "")):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.pool, self.page.answer, dict(request.query))
        return json_answer({"name": self.info.name, "url": self.info.url, "version": self.info.version})

    async def get_health(self, _request: web.Request) -> web.StreamResponse:
        """Answer with whether the service can serve."""
        if problems := self.health():
            return error_answer("; ".join(problems), 503)
        return json_answer({"status": "SUCCESS", "name": self.info.name, "version": self.info.version})

    async def get_metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer with the metrics; in the pool, since thousands of series take a while to write."""
        accept = request.headers.get("Accept", "")
        loop = asyncio.get_running_loop()
        body, content_type = await loop.run_in_executor(self.pool, self.metrics, accept)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def get_description(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the API's description."""
        return json_answer(self.description)

    async def get_page(self, _request: web.Request) -> web.StreamResponse:
        """Answer with the API's description as a page."""
        return web.Response(
            text=page_of(self.description, self.prefix),
            content_type="text/html",
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    def _rest_of_path(self, request: web.Request, before: str) -> str:
        """Return what follows `before`, percent-decoded exactly once: `%2F` is a slash (spec/http.md)."""
        raw = request.rel_url.raw_path[len(self.prefix) + len(before) :]
        try:
            return unquote(raw, errors="strict")
        except UnicodeDecodeError:
            raise Wrong("the path {path} is not valid UTF-8", path=raw) from None


def _request_name(name: str) -> str:
    """Return the name if a request file can have it; else raise Wrong."""
    size = len(name.encode("utf-8", "surrogateescape"))
    if not name.startswith(REQUEST_PREFIX) or "/" in name or "\0" in name or size > _NAME_MAX_BYTES:
        raise Wrong(
            "{name} is not the name of a request file: a plain file name that begins with {prefix}",
            name=name,
            prefix=REQUEST_PREFIX,
        )
    return name
