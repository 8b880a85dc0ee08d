"""An HTTP server between client and daemon: passes everything on, notes it, and misbehaves as it is told.

It speaks real HTTP on both sides; answers of several MiB are passed on in pieces, slowly if asked.
"""

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PIECE = 16 << 10
Answer = tuple[int, Mapping[str, str], bytes]


@dataclass
class Seen:
    """One request that passed: its path, its Range header, and how many bytes of a body went back."""

    method: str
    path: str
    range: str | None
    headers: Mapping[str, str]
    sent: int = 0


@dataclass
class Middleman:
    """What it has seen, and how it behaves."""

    port: int
    seen: list[Seen] = field(default_factory=list)
    pause: float = 0.0  # seconds between two pieces
    cut_after: int | None = None  # bytes of a body after which the connection is closed, once
    drop: str | None = None  # paths with this in them are passed on, and their answer is not
    without: frozenset[str] = frozenset()  # headers that are not passed back
    instead: dict[str, Answer] = field(default_factory=dict)  # answers of its own, by path
    url: str = ""

    def fetched(self, name: str) -> list[Seen]:
        """Return the requests for files of this name, in order."""
        return [one for one in self.seen if one.path.startswith("/fetch/") and one.path.endswith(f"/{name}")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    man: Middleman

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        seen = Seen(self.command, self.path, self.headers.get("Range"), dict(self.headers))
        self.man.seen.append(seen)
        with contextlib.suppress(ConnectionError):
            self._pass_on(seen)

    def do_POST(self) -> None:
        self.do_GET()

    def _pass_on(self, seen: Seen) -> None:
        if self.path in self.man.instead:
            code, headers, body = self.man.instead[self.path]
            self._head(code, {**headers, "Content-Length": str(len(body))})
            self.wfile.write(body)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.man.port, timeout=60)
        with contextlib.closing(connection), contextlib.ExitStack() as stack:
            connection.request(self.command, self.path, headers={**self.headers, "Connection": "close"})
            reply = stack.enter_context(connection.getresponse())
            if self.man.drop is not None and self.man.drop in self.path:
                reply.read()
                self.close_connection = True
                return
            kept = {k: v for k, v in reply.getheaders() if k not in self.man.without | {"Connection"}}
            body = b"" if "Content-Length" in kept or self.man.without else reply.read()
            self._head(reply.status, kept if not body else {**kept, "Content-Length": str(len(body))})
            self.wfile.write(body)
            while piece := reply.read(_PIECE):
                self.wfile.write(piece)
                seen.sent += len(piece)
                if self.man.cut_after is not None and seen.sent >= self.man.cut_after:
                    self.man.cut_after, self.close_connection = None, True
                    return
                time.sleep(self.man.pause)
        self.close_connection = self.close_connection or "Content-Length" in self.man.without

    def _head(self, code: int, headers: Mapping[str, str]) -> None:
        self.send_response_only(code)
        for key, value in headers.items():
            if key != "Transfer-Encoding":
                self.send_header(key, value)
        self.end_headers()


@contextlib.contextmanager
def middleman(port: int) -> Iterator[Middleman]:
    """Stand between whoever asks the yielded URL and the daemon on `port`."""
    man = Middleman(port)
    handler = type("Handler", (_Handler,), {"man": man})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        man.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield man
        finally:
            server.shutdown()
            thread.join()
