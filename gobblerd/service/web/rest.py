"""The REST API (spec/http.md): routes to handlers, each a few lines over the spool or the browser.

There is no write access but `POST /new`, and that needs a file in staging: its owner is who asks.
Everything that may block runs in a few threads of its own, but for what `fetch.py` says.

Limit: a client that sends a body where none is needed has it read and dropped after the answer, for ten
seconds at the most; then the connection is closed.
"""

import asyncio
import posixpath
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import unquote

import msgspec
from aiohttp import web

from gobblerd.domain.errors import Absent, Wrong
from gobblerd.domain.messages import check_request_name
from gobblerd.domain.version_spec import VersionSpec
from gobblerd.registry.browse import Browser
from gobblerd.registry.releases import resolve_versions
from gobblerd.service.web.answers import Handler, allow_everyone, answer_errors, error_answer, json_answer
from gobblerd.service.web.archives import Archives
from gobblerd.service.web.fetch import fetch
from gobblerd.service.web.listing import list_names
from gobblerd.service.web.messages import ABSENT, Kind, Reply
from gobblerd.service.web.openapi import OPERATIONS, description
from gobblerd.service.web.openapi import page as page_of
from gobblerd.service.web.page.page import Page, prefers_page

_THREADS = 8
_ANYTHING = r":[\s\S]*}"  # as the last parameter of a route: the whole rest, slashes and newlines included
_VARIES = {"Vary": "Accept"}  # for caches


class Daemon(Protocol):
    """Who is asked for everything that does not lie in the registry (web/asking.py)."""

    async def ask(self, kind: Kind, about: str = "") -> Reply:
        """Return the daemon's reply; ABSENT as its code means that there is nothing of that name (yet)."""
        ...


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
    """Seconds: how long to look again for a request file that is not visible yet, and how often.

    `silence` is how long the daemon may take to say how it is.
    """

    total: float = 5.0
    first: float = 0.05
    most: float = 0.25
    silence: float = 10.0


PATIENCE = Patience()


def make_app(
    daemon: Daemon,
    browser: Browser,
    info: ServiceInfo,
    prefix: str,
    page: Page,
    *,
    patience: Patience = PATIENCE,
) -> web.Application:
    """Compose the application; `prefix` ("" or like "/gobbler") comes before every path.

    `page` is for browsers.
    """
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="rest")
    prefix = "/" + prefix.strip("/") if prefix.strip("/") else ""
    api = _Api(
        daemon=daemon,
        browser=browser,
        info=info,
        prefix=prefix,
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

    daemon: Daemon
    browser: Browser
    info: ServiceInfo
    prefix: str
    pool: ThreadPoolExecutor
    archives: Archives
    patience: Patience
    description: Mapping[str, Any]
    page: Page

    async def post_request(self, request: web.Request) -> web.StreamResponse:
        """Answer as the request is answered; it goes on if the client goes away."""
        name = check_request_name(self._rest_of_path(request, "/new/"))
        return _passed_on(await self._response_of(name))

    async def _response_of(self, name: str) -> Reply:
        """Have the request performed; look again for a while where its file is not visible yet.

        Network filesystems cache that a file is not there (spec/http.md).
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.patience.total
        pause = self.patience.first
        while True:
            reply = await self.daemon.ask("post", name)
            if reply.code != ABSENT:
                return reply
            left = deadline - loop.time()
            if left <= 0:
                raise Wrong("there is no request file {name} in the staging directory", name=name)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, self.patience.most)

    async def get_response(self, request: web.Request) -> web.StreamResponse:
        """Answer with the recorded response, or with how far the request is."""
        name = check_request_name(self._rest_of_path(request, "/response/"))
        reply = await self.daemon.ask("recorded", name)
        if reply.code == ABSENT:
            raise Absent("there is no response to {name}", name=name)
        return _passed_on(reply)

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
        said = {"name": self.info.name, "url": self.info.url, "version": self.info.version}
        return json_answer(said, headers=_VARIES)

    async def get_health(self, _request: web.Request) -> web.StreamResponse:
        """Answer with whether the service can serve."""
        if problems := await self._problems():
            return error_answer("; ".join(problems), 503)
        return json_answer({"status": "SUCCESS", "name": self.info.name, "version": self.info.version})

    async def _problems(self) -> list[str]:
        try:
            reply = await asyncio.wait_for(self.daemon.ask("problems"), self.patience.silence)
        except TimeoutError:
            return [f"the daemon has not answered for {self.patience.silence:g} s"]
        return msgspec.json.decode(reply.body, type=list[str])

    async def get_metrics(self, request: web.Request) -> web.StreamResponse:
        """Answer with the metrics, in the format that the Accept header asks for."""
        reply = await self.daemon.ask("metrics", request.headers.get("Accept", ""))
        headers = {"Content-Type": reply.content_type, **_VARIES}
        return web.Response(body=reply.body, status=reply.code, headers=headers)

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


def _passed_on(reply: Reply) -> web.Response:
    """Return what the daemon answered, as it is."""
    return web.Response(body=reply.body, status=reply.code, content_type=reply.content_type)
