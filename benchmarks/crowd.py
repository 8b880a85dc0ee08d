"""Several clients at once, each asking its next question when it has its answer: one thread drives them all.

So that the measuring costs less than what is measured: Python's `http.client` in eight threads would be the
bottleneck. Every answer must have a Content-Length.
"""

import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.asking import PATIENCE, REST, Desk, WrongAnswer, require_success

CLIENTS = 8
_RECEIVE = 1 << 16
_Begin = Callable[[], bytes]  # does what precedes a question, and returns the HTTP request


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer: its body, and seconds from the client's first act to the answer's last byte."""

    seconds: float
    body: bytes


@dataclass(frozen=True, slots=True)
class CrowdResult:
    """Seconds for all, and the seconds of each, sorted."""

    seconds: float
    each: Sequence[float]

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.each) / self.seconds

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 had their answer."""
        return percentile(self.each, 99)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ask_all(desk: Desk, action: str, documents: Sequence[dict[str, Any]]) -> CrowdResult:
    """Ask for all of it, eight at a time; WrongAnswer unless each succeeds."""
    if desk.by != REST:
        return _drop_all(desk, action, documents)
    began = time.perf_counter()
    replies = exchange_all(desk.port, [_posting(desk, action, document) for document in documents])
    seconds = time.perf_counter() - began
    for reply in replies:
        if not reply.body.lstrip().startswith(b"{") or b'"SUCCESS"' not in reply.body:
            raise WrongAnswer(f"{action} was answered {reply.body[:500]!r}")
    return CrowdResult(seconds, sorted(reply.seconds for reply in replies))


def _posting(desk: Desk, action: str, document: dict[str, Any]) -> _Begin:
    return lambda: http_request("POST", f"/new/{desk.drop(action, document)}")


def http_request(method: str, path: str) -> bytes:
    """Return the bytes of a request without a body."""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()


def exchange_all(port: int, questions: Sequence[_Begin], clients: int = CLIENTS) -> list[Reply]:
    """Have all questions answered, `clients` at a time, each client on a connection of its own."""
    waiting, replies = deque(questions), []
    with selectors.DefaultSelector() as selector:
        for _ in range(min(clients, len(questions))):
            client = _Client(port)
            client.begin(waiting.popleft())
            selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            if not ready:
                raise WrongAnswer(f"no answer within {PATIENCE:g} s")
            for key, _ in ready:
                reply = key.data.receive()
                if reply is None:
                    continue
                replies.append(reply)
                if waiting:
                    key.data.begin(waiting.popleft())
                else:
                    selector.unregister(key.fileobj)
                    key.data.socket.close()
    return replies


class _Client:
    """One connection that stays open, and the answer that is arriving on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._began = 0.0
        self._received = b""
        self._end = 0  # of the answer in what was received; 0 while its head is not complete

    def begin(self, question: _Begin) -> None:
        """Do what precedes the question, and send it."""
        self._began, self._received, self._end = time.perf_counter(), b"", 0
        self.socket.sendall(question())

    def receive(self) -> Reply | None:
        """Take what has arrived; return the answer once it is whole."""
        part = self.socket.recv(_RECEIVE)
        if not part:
            raise WrongAnswer(f"the connection ended after {self._received[:200]!r}")
        self._received += part
        head = self._received.find(b"\r\n\r\n") + 4
        if not self._end and head > 3:  # found at all
            self._end = head + _content_length(self._received[:head])
        if not self._end or len(self._received) < self._end:
            return None
        return Reply(time.perf_counter() - self._began, self._received[head : self._end])


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise WrongAnswer(f"an answer without Content-Length: {head!r}")


def _drop_all(desk: Desk, action: str, documents: Sequence[dict[str, Any]]) -> CrowdResult:
    """The same without HTTP: eight requests are in staging at any time until all are answered."""
    waiting, each = deque(documents), []
    outstanding: dict[str, float] = {}
    began = time.perf_counter()
    names = []
    while waiting or outstanding:
        while waiting and len(outstanding) < CLIENTS:
            now = time.perf_counter()
            name = desk.drop(action, waiting.popleft())
            outstanding[name] = now
            names.append(name)
        now = time.perf_counter()
        if outstanding and now - max(outstanding.values()) > PATIENCE:
            raise WrongAnswer(f"no response within {PATIENCE:g} s")
        answered = [name for name in outstanding if os.path.exists(desk.response_path(name))]
        each += [now - outstanding.pop(name) for name in answered]
        if not answered:
            time.sleep(0.0002)
    seconds = time.perf_counter() - began
    for name in names:
        require_success(action, desk.response(name))
    return CrowdResult(seconds, sorted(each))
