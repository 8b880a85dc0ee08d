"""HTTP with the standard library: one kept-alive connection per thread and server, errors as ours.

Understands http and https (the system's certificates), user and password in the URL, redirections of GET,
and the proxy variables of the environment (loopback addresses are always asked directly).
Limits: no cookies, no netrc, no proxy passwords in digests. Imported only where HTTP is spoken.
"""

import base64
import contextlib
import http.client
import json
import os
import socket
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gobblerd.client.errors import GobblerError, GobblerTimeout, GobblerUnreachable, failure

CONNECT_TIMEOUT = 60.0  # seconds
IDLE_TIMEOUT = 300.0  # without a byte of an answer to GET
_ERRORS_FROM = 300
_REDIRECTIONS = frozenset({301, 302, 303, 307, 308})
_REDIRECTIONS_MOST = 5
_NOT_FOUND = 404
_GATEWAY = frozenset({502, 504})
_KEPT_MOST = 4
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 8))
_BROKEN = (OSError, http.client.HTTPException)


class Lost(Exception):
    """A request was sent, and the connection broke before its answer was complete; `error` says so."""

    def __init__(self, error: GobblerError) -> None:
        super().__init__(error.reason)
        self.error = error


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int

    @property
    def shown(self) -> str:
        """The server for messages: without a password."""
        return f"{self.scheme}://{self.host}:{self.port}"


class _Address(NamedTuple):
    """Where to connect to, and what to ask there."""

    url: str
    origin: _Origin
    target: str
    authorization: str | None


class _Kept:
    """A thread's connections; closed with the thread, and never shared with a forked process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._connections: dict[_Origin, http.client.HTTPConnection] = {}

    def is_ours(self) -> bool:
        return self._pid == os.getpid()

    def take(self, origin: _Origin) -> http.client.HTTPConnection | None:
        return self._connections.pop(origin, None)

    def put(self, origin: _Origin, connection: http.client.HTTPConnection) -> None:
        if (other := self._connections.pop(origin, None)) is not None:
            other.close()  # asked for something while an answer was being read
        while len(self._connections) >= _KEPT_MOST:
            self._connections.pop(next(iter(self._connections))).close()
        self._connections[origin] = connection

    def __del__(self) -> None:
        for connection in self._connections.values():
            connection.close()


_LOCAL = threading.local()  # the one thing kept between calls: `kept`, this thread's connections


def _kept() -> _Kept:
    kept: _Kept | None = getattr(_LOCAL, "kept", None)
    if kept is None or not kept.is_ours():
        kept = _LOCAL.kept = _Kept()
    return kept


def post(url: str, path: str, timeout: float | None) -> tuple[int, Mapping[str, Any]]:
    """POST without a body; return the status and the JSON document of the answer.

    The answer comes when the work is done, which may take hours: `timeout` bounds it (seconds; None: not).
    GobblerUnreachable if nothing was sent; Lost if it was, and no answer of the service's came back.
    """
    address = _address(url, path)
    connection = _connected(address)  # a new one: whether an old one still works shows only too late
    try:
        _set_timeout(connection, timeout)
        connection.request("POST", address.target, headers={**_headers(address), "Content-Length": "0"})
        reply = connection.getresponse()
        data = reply.read()
    except TimeoutError:
        silent = f"{address.origin.shown} has not answered within {timeout:g} s"
        reason = f"{silent}; the request is withdrawn if it had not begun"
        raise failure(GobblerTimeout, None, reason) from None
    except _BROKEN as error:
        raise Lost(_unreachable(address, error)) from error
    finally:
        connection.close()
    if reply.status in _GATEWAY and _document(reply, data) is None:
        raise Lost(failure(GobblerError, reply.status, _reason(reply, data)))
    if reply.status >= _ERRORS_FROM and _document(reply, data) is None:
        raise failure(GobblerError, reply.status, _reason(reply, data))
    return reply.status, _document(reply, data) or {}


def get_json(url: str, path: str) -> Any:
    """GET a JSON document; GobblerError if the service refuses."""
    return json.loads(get_bytes(url, path))


def get_json_or_none(url: str, path: str) -> Any:
    """GET a JSON document; None where there is none (404)."""
    try:
        return get_json(url, path)
    except GobblerError as error:
        if error.code == _NOT_FOUND:
            return None
        raise


def get_bytes(url: str, path: str) -> bytes:
    """GET a whole answer; GobblerError if the service refuses, GobblerUnreachable if it does not answer."""
    try:
        with get(url, path) as reply:
            if reply.status >= _ERRORS_FROM:
                raise refused(reply)
            return receive(reply)
    except Lost as lost:
        raise lost.error from None


def refused(reply: http.client.HTTPResponse) -> GobblerError:
    """Make the error of an answer of 300 or more; reads the rest of it."""
    data = receive(reply)
    document = _document(reply, data)
    return failure(GobblerError, reply.status, _reason(reply, data), _details(document))


def receive(reply: http.client.HTTPResponse, most: int = -1) -> bytes:
    """Read from an answer, to its end or `most` bytes; Lost if the connection breaks.

    Limit of the standard library: a body that ends too soon looks like its end if read in pieces.
    """
    try:
        return reply.read() if most < 0 else reply.read(most)
    except _BROKEN as error:
        raise Lost(failure(GobblerUnreachable, None, f"the connection broke: {_why(error)}")) from error


@contextlib.contextmanager
def get(url: str, path: str, headers: Mapping[str, str] | None = None) -> Iterator[http.client.HTTPResponse]:
    """GET, and yield the answer, whatever its status; Lost if it does not come.

    `path` begins with a slash and is percent-encoded. The connection is kept if the answer is read whole.
    """
    address = _address(url, path)
    for _ in range(_REDIRECTIONS_MOST):
        connection, reply = _asked(address, headers or {})
        location = reply.getheader("Location") if reply.status in _REDIRECTIONS else None
        if location is None:
            break
        reply.close()
        connection.close()
        address = _address(urllib.parse.urljoin(address.url, location), "")
    try:
        yield reply
    finally:
        is_reusable = reply.isclosed() and not reply.will_close  # it closes itself at its end
        reply.close()
        if is_reusable:
            _kept().put(address.origin, connection)
        else:
            connection.close()


def _asked(
    address: _Address, headers: Mapping[str, str]
) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Send a GET, on the kept connection if that still works; Lost if no answer begins to come."""
    kept = _kept().take(address.origin)
    if kept is not None:
        with contextlib.suppress(Lost):  # the server had closed it
            return kept, _ask(kept, address, headers)
    connection = _connected(address)
    return connection, _ask(connection, address, headers)


def _ask(
    connection: http.client.HTTPConnection, address: _Address, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    try:
        _set_timeout(connection, IDLE_TIMEOUT)
        connection.request("GET", address.target, headers={**_headers(address), **headers})
        return connection.getresponse()
    except _BROKEN as error:
        connection.close()
        raise Lost(_unreachable(address, error)) from error
    except BaseException:
        connection.close()
        raise


def _connected(address: _Address) -> http.client.HTTPConnection:
    connection = _connection(address.origin)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:  # so that a dead host is noticed while an answer is waited for
            connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
    except _BROKEN as error:
        connection.close()
        raise _unreachable(address, error) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connection(origin: _Origin) -> http.client.HTTPConnection:
    proxy = _proxy(origin)
    if origin.scheme == "https":
        if proxy is None:
            return http.client.HTTPSConnection(origin.host, origin.port, timeout=CONNECT_TIMEOUT)
        tunnel = http.client.HTTPSConnection(proxy[0], proxy[1], timeout=CONNECT_TIMEOUT)
        tunnel.set_tunnel(origin.host, origin.port)
        return tunnel
    host, port = proxy or (origin.host, origin.port)
    return http.client.HTTPConnection(host, port, timeout=CONNECT_TIMEOUT)


def _set_timeout(connection: http.client.HTTPConnection, timeout: float | None) -> None:
    if connection.sock is not None:
        connection.sock.settimeout(None if timeout is None or timeout > threading.TIMEOUT_MAX else timeout)


def _address(url: str, path: str) -> _Address:
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (KeyError, ValueError):
        raise ValueError(
            f"{url!r} is not the URL of a service: it begins with neither http nor https"
        ) from None
    origin = _Origin(parts.scheme, parts.hostname or "", port)
    target = (parts.path.rstrip("/") + path if path else parts.path) or "/"
    target += f"?{parts.query}" if parts.query and not path else ""
    if parts.scheme == "http" and _proxy(origin):
        target = f"http://{origin.host}:{origin.port}{target}"
    return _Address(url, origin, target, _authorization(parts))


def _authorization(parts: urllib.parse.SplitResult) -> str | None:
    if parts.username is None:
        return None
    plain = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(plain.encode()).decode("ascii")


def _headers(address: _Address) -> dict[str, str]:
    headers = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "gobblerd-client"}
    if address.authorization is not None:
        headers["Authorization"] = address.authorization
    return headers


def _proxy(origin: _Origin) -> tuple[str, int] | None:
    """Return host and port of the proxy that the environment asks for."""
    if not any(f"{origin.scheme}_proxy" == name.lower() for name in os.environ):
        return None
    import urllib.request  # noqa: PLC0415 - 15 ms that are needed only behind a proxy

    if origin.host in {"localhost", "0.0.0.0", "::1"} or origin.host.startswith("127."):  # noqa: S104 - compared
        return None
    if urllib.request.proxy_bypass_environment(origin.host):  # type: ignore[attr-defined]  # not in typeshed
        return None
    proxy = urllib.request.getproxies_environment().get(origin.scheme)
    if not proxy:
        return None
    parts = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return parts.hostname or "", parts.port or 80


def _document(reply: http.client.HTTPResponse, data: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object of an answer; None if it is none of the service's."""
    if (reply.getheader("Content-Type") or "").partition(";")[0].strip() != "application/json":
        return None
    with contextlib.suppress(ValueError):
        found = json.loads(data)
        if isinstance(found, dict):
            return found
    return None


def _details(document: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (document or {}).items() if key not in {"status", "reason"}}


def _reason(reply: http.client.HTTPResponse, data: bytes) -> str:
    document = _document(reply, data)
    if document is not None and document.get("reason"):
        return str(document["reason"])
    if (reply.getheader("Content-Type") or "").startswith("text/plain") and data:
        return data.decode("utf-8", "replace").strip()
    return f"the service answered {reply.status} {reply.reason}, without a reason"


def _unreachable(address: _Address, error: Exception) -> GobblerError:
    reason = f"cannot reach the service at {address.origin.shown}: {_why(error)}"
    return failure(GobblerUnreachable, None, reason)


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
