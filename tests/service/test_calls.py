"""The daemon's end: each call has its reply, and a web process that reads nothing holds up nobody."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
from support.rest import FakeSpool, Progress, response_of

from gobblerd.domain.errors import Fault, Wrong
from gobblerd.domain.messages import Response
from gobblerd.service.calls import CallServer, Desk, Outbox
from gobblerd.service.web.messages import ABSENT, Call, Close, Messages, Reply, message, said_of

SECONDS = 60.0
NAME = "request-health_check-1"


class Caller:
    """The other end of the socket."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._cutter = Messages()
        self._replies: list[Reply] = []

    def ask(self, *calls: Call) -> list[Reply]:
        """Make calls in one go, and return as many replies, by number."""
        self.channel.sendall(b"".join(map(message, calls)))
        return sorted(self.read(len(calls)), key=lambda reply: reply.number)

    def read(self, count: int) -> list[Reply]:
        while len(self._replies) < count:
            data = self.channel.recv(1 << 16)
            assert data, "the daemon's end was closed"
            said = map(said_of, self._cutter.cut(data))
            self._replies += [each for each in said if isinstance(each, Reply)]
        taken, self._replies = self._replies[:count], self._replies[count:]
        return taken


def status() -> dict[str, Any]:
    return {"state": "serving"}


def metrics(accept: str) -> tuple[bytes, str]:
    return f"for {accept}".encode(), "text/metrics"


@contextmanager
def served(spool: FakeSpool, lost: Callable[[], object] = lambda: None) -> Iterator[Caller]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(SECONDS)
    with ours, theirs:
        CallServer(ours, Desk(spool, lambda: ["no space"], metrics, status), lost).start()
        yield Caller(theirs)


def failed(error: Exception) -> "Future[Response]":
    future: Future[Response] = Future()
    future.set_exception(error)
    return future


def test_every_kind_of_call() -> None:
    """Each is answered with what HTTP is to say."""
    spool = FakeSpool(running={"request-b": Progress("queued", 3)})
    spool.answered(response_of(NAME, 403, reason="no"))
    spool.recorded[NAME] = response_of(NAME)
    kinds = [
        Call(0, "post", NAME),
        Call(1, "post", "request-absent"),
        Call(2, "recorded", NAME),
        Call(3, "recorded", "request-b"),
        Call(4, "recorded", "request-absent"),
        Call(5, "problems"),
        Call(6, "metrics", "text/plain"),
        Call(7, "status"),
    ]
    with served(spool) as caller:
        replies = caller.ask(*kinds)
    assert [reply.number for reply in replies] == list(range(8))
    assert [reply.code for reply in replies] == [403, ABSENT, 200, 202, ABSENT, 200, 200, 200]
    assert json.loads(replies[0].body) == {"status": "ERROR", "reason": "no"}
    assert json.loads(replies[2].body)["request"] == NAME
    assert json.loads(replies[3].body) == {"state": "queued", "ahead": 3, "bytes_done": 0, "bytes_total": 0}
    assert json.loads(replies[5].body) == ["no space"]
    assert (replies[6].body, replies[6].content_type) == (b"for text/plain", "text/metrics")
    assert json.loads(replies[7].body) == {"state": "serving"}


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (Wrong("odd"), 400, "odd"),
        (Fault("broken"), 500, "broken"),
        (RuntimeError("secret"), 500, "an internal error of the service; its log has more"),
    ],
)
def test_what_fails_is_answered(error: Exception, code: int, reason: str) -> None:
    """A refusal says why; anything else is logged, and says nothing of the inside."""
    spool = FakeSpool(files={NAME: failed(error)})
    with served(spool) as caller:
        (reply,) = caller.ask(Call(1, "post", NAME))
    assert (reply.code, json.loads(reply.body)["reason"]) == (code, reason)


def test_what_waits_holds_up_no_other() -> None:
    """Replies come in any order."""
    spool = FakeSpool(files={NAME: Future()})
    with served(spool) as caller:
        caller.channel.sendall(message(Call(1, "post", NAME)))
        assert [reply.number for reply in caller.ask(Call(2, "problems"))] == [2]
        spool.files[NAME].set_result(response_of(NAME))
        assert [reply.number for reply in caller.read(1)] == [1]


def test_the_end_of_the_other_end() -> None:
    """It is told once, and who answers later does so in vain, without harm."""
    lost, waits = threading.Event(), Future[Response]()
    with served(FakeSpool(files={NAME: waits}), lost.set) as caller:
        caller.channel.sendall(message(Call(1, "post", NAME)))
        caller.channel.close()
        assert lost.wait(SECONDS)
        waits.set_result(response_of(NAME))


@pytest.mark.parametrize("nonsense", [message(Close()), b"\0\0\0\1\xc1"], ids=["no call", "no msgpack"])
def test_what_is_no_call_ends_the_connection(nonsense: bytes) -> None:
    """What came before it is answered; what follows it is not taken for anything."""
    lost, spool = threading.Event(), FakeSpool(files={NAME: Future()})
    with served(spool, lost.set) as caller:
        assert [reply.number for reply in caller.ask(Call(1, "problems"))] == [1]
        caller.channel.sendall(nonsense + message(Call(2, "post", NAME)))
        assert lost.wait(SECONDS)
        assert caller.channel.recv(1) == b""
    assert spool.posted == []


def test_what_is_no_call_does_not_hurt_a_performer_who_fetches_it() -> None:
    """The connection ends all the same."""
    ours, theirs = socket.socketpair()
    lost = threading.Event()
    with ours, theirs:
        server = CallServer(ours, Desk(FakeSpool(), list, metrics, status), lost.set)
        theirs.sendall(message(Close()))
        server._fetch()
        server.start()
        assert lost.wait(SECONDS)


def test_an_outbox_never_waits() -> None:
    """Who reads nothing gets all of it later, in order."""
    ours, theirs = socket.socketpair()
    theirs.settimeout(SECONDS)
    with ours, theirs:
        outbox = Outbox(ours)
        sent = b"".join(
            bytes([number % 251]) * 10_007 for number in range(400)
        )  # 4 MB: more than a socket holds
        for start in range(0, len(sent), 10_007):
            outbox.send(sent[start : start + 10_007])
        received = bytearray()
        while len(received) < len(sent):
            received += theirs.recv(1 << 16)
        assert received == sent
        outbox.close()
