"""A REST API on the loopback over a real registry and a spool of our own, and a client that asks verbatim.

`http.client` sends paths and headers as they are: no normalisation, no redirects, no decoding.
"""

import asyncio
import http.client
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from aiohttp import web

from gobblerd.domain.messages import Identity, Response
from gobblerd.registry.browse import Browser
from gobblerd.service.calls import Desk, settled
from gobblerd.service.web.connections import listen, make_runner
from gobblerd.service.web.messages import Call, Kind, Reply
from gobblerd.service.web.page.page import make_page
from gobblerd.service.web.rest import Patience, ServiceInfo, make_app

NOTHING: Mapping[str, str] = MappingProxyType({})
INFO = ServiceInfo("gobblerd", "0.1.0", "https://example.org/gobblerd", "/staging/", "/registry/./r")
IMPATIENT = Patience(total=0.5, first=0.01, most=0.02)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Progress(NamedTuple):
    state: str
    ahead: int = 0
    bytes_done: int = 0
    bytes_total: int = 0


def response_of(name: str, code: int = 200, **body: Any) -> Response:
    status = "SUCCESS" if code == 200 else "ERROR"
    times = ("2026-11-20T10:37:45Z", "2026-11-20T10:37:46Z")
    return Response(
        Identity(name, 1, 2, 3), "health_check", "alice", code, {"status": status, **body}, *times
    )


class FakeLine:
    """Nobody performs: all is answered at once."""

    serves = False

    def attend(self, fetch: Callable[[], None]) -> None:
        """Never fetch."""

    def rest(self) -> None:
        raise AssertionError("nobody fetches meanwhile")


@dataclass
class FakeSpool:
    """As much of a spool as REST sees; `posted` and `files` say what it was asked for, and what is there."""

    files: dict[str, Future[Response]] = field(default_factory=dict)
    recorded: dict[str, Response] = field(default_factory=dict)
    running: dict[str, Progress] = field(default_factory=dict)
    posted: list[str] = field(default_factory=list)
    unseen: int = 0  # how many times a file is not visible yet
    asked: threading.Event = field(default_factory=threading.Event)
    line: FakeLine = field(default_factory=FakeLine)

    def post(self, name: str) -> Future[Response]:
        self.posted.append(name)
        self.asked.set()
        there = None if len(self.posted) <= self.unseen else self.files.get(name)
        if there is not None:
            return there
        failed: Future[Response] = Future()
        failed.set_exception(FileNotFoundError(name))
        return failed

    def response(self, name: str) -> Response | None:
        return self.recorded.get(name)

    def progress(self, name: str) -> Progress | None:
        return self.running.get(name)

    def answered(self, response: Response) -> str:
        future: Future[Response] = Future()
        future.set_result(response)
        self.files[response.identity.name] = future
        return response.identity.name


class Beside:
    """A daemon in the same process: no socket lies between it and who asks."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def ask(self, kind: Kind, about: str = "") -> Reply:
        call = Call(0, kind, about)
        future: Future[Any] = getattr(self._desk, call.kind)(call.about)
        await asyncio.wait([asyncio.wrap_future(future)])
        return Reply(call.number, *settled(future))


@dataclass
class Server:
    """A running API; `problems` is what its health check finds."""

    port: int
    spool: FakeSpool
    problems: list[str]
    app: web.Application

    def ask(
        self, path: str, method: str = "GET", headers: Mapping[str, str] = NOTHING, body: bytes | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            return ask_on(connection, path, method, headers, body)
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def ask_on(
    connection: http.client.HTTPConnection,
    path: str,
    method: str = "GET",
    headers: Mapping[str, str] = NOTHING,
    body: bytes | None = None,
) -> Answer:
    connection.request(method, path, body=body, headers=dict(headers))
    answer = connection.getresponse()
    return Answer(answer.status, answer.headers, answer.read())


class _Running(NamedTuple):
    port: int
    stop: Callable[[], None]


async def _serve(app: web.Application, started: Future[_Running]) -> None:
    runner, servers = make_runner(app), list[asyncio.Server]()
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    try:
        await runner.setup()
        assert runner.server is not None
        listener = socket.create_server(("127.0.0.1", 0))
        servers = await listen(runner.server, [listener])
        port = listener.getsockname()[1]
        started.set_result(_Running(port, lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)  # for the thread that waits
    finally:
        for server in servers:
            server.close()
        await runner.cleanup()


def no_metrics(accept: str) -> tuple[bytes, str]:
    return b"", "text/plain"


@contextmanager
def serving(
    registry: str,
    *whitelist: str,
    prefix: str = "",
    browser: Browser | None = None,
    status: Callable[[], Mapping[str, Any]] = dict,
) -> Iterator[Server]:
    """Serve the registry until the block ends."""
    spool, problems = FakeSpool(), list[str]()
    daemon = Beside(Desk(spool, lambda: problems, no_metrics, status))
    browser = browser or Browser(registry, lambda: whitelist)
    page = make_page(browser, registry, status, prefix)
    app = make_app(daemon, browser, INFO, prefix, page, patience=IMPATIENT)
    started: Future[_Running] = Future()
    thread = threading.Thread(target=asyncio.run, args=(_serve(app, started),))
    thread.start()
    try:
        running = started.result(timeout=60)
        yield Server(running.port, spool, problems, app)
        running.stop()
    except BaseException:
        if started.done() and started.exception() is None:
            started.result().stop()
        raise
    finally:
        thread.join(timeout=60)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
