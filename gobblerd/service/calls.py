"""Answering the web process: the daemon's end of their socket.

One thread waits for calls and hands each to whoever answers that kind, which must not block it; who performs
POSTs reads the next ones by itself. Answers come from any thread. They are sent at once where the socket
takes them; a web process that does not read (a file server hangs under it) holds up nobody else.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from gobblerd.domain.errors import GobblerdError, Kind, Stopped
from gobblerd.domain.messages import Response, error_body
from gobblerd.service.codes import INTERNAL, STATUS, refusal
from gobblerd.service.web.messages import ABSENT, JSON, Call, Messages, Reply, call_of, message

log = structlog.get_logger(__name__)

_RECEIVE = 1 << 16
_THREADS = 8
_PIECE = 1 << 16


class Answer(NamedTuple):
    """What a call is answered: an HTTP code or ABSENT, and a body."""

    code: int
    body: bytes = b""
    content_type: str = JSON


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


class Performing(Protocol):
    """Where POSTs are performed: whoever does it may fetch the next by itself (service/line.py)."""

    @property
    def serves(self) -> bool:
        """Tell whether somebody is at it."""

    def attend(self, fetch: Callable[[], None]) -> None:
        """From now on call `fetch` when there is nothing else to do."""

    def rest(self) -> None:
        """Wait while somebody is at it."""


class Requests(Protocol):
    """As much of the spool as HTTP needs."""

    @property
    def line(self) -> Performing: ...  # noqa: D102

    def post(self, name: str) -> "Future[Response]":
        """Take up the request file, or join or repeat; never blocks.

        The future fails with FileNotFoundError while no such file is visible.
        """

    def response(self, name: str) -> Response | None:
        """Return the recorded response."""

    def progress(self, name: str) -> Progress | None:
        """Return how far a queued or running request is."""


class Desk:
    """What can be asked for: a method for each kind of call. None of them blocks."""

    def __init__(
        self,
        requests: Requests,
        problems: Callable[[], list[str]],
        metrics: Callable[[str], tuple[bytes, str]],
        status: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._requests = requests
        self.line = requests.line
        self._problems = problems
        self._metrics = metrics
        self._status = status
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="calls")

    def post(self, name: str) -> "Future[Response]":
        """Have a request performed; FileNotFoundError while its file is not visible."""
        return self._requests.post(name)

    def recorded(self, name: str) -> "Future[Answer]":
        """Look for a request's recorded response, or for how far it is."""
        return self._pool.submit(self._recorded, name)

    def problems(self, _about: str) -> "Future[Answer]":
        """Say what is wrong, from memory."""
        done: Future[Answer] = Future()
        done.set_result(_json(200, self._problems()))
        return done

    def metrics(self, accept: str) -> "Future[Answer]":
        """Write the metrics; in a thread, since thousands of series take a while."""
        return self._pool.submit(lambda: Answer(200, *self._metrics(accept)))

    def status(self, _about: str) -> "Future[Answer]":
        """Make the status document."""
        return self._pool.submit(lambda: _json(200, self._status()))

    def _recorded(self, name: str) -> Answer:
        # Progress first: a request that ends in between is then found answered.
        if (progress := self._requests.progress(name)) is not None:
            keys = ("state", "ahead", "bytes_done", "bytes_total")
            return _json(202, {key: getattr(progress, key) for key in keys})
        response = self._requests.response(name)
        return Answer(ABSENT) if response is None else _json(200, response.document())


class CallServer:
    """Answers one web process. `lost` is called when that has ended."""

    def __init__(self, channel: socket.socket, desk: Desk, lost: Callable[[], object]) -> None:
        self._channel = channel
        self._outbox = Outbox(channel)
        self._desk = desk
        self._line = desk.line
        self._lost = lost
        self._receiving = threading.Lock()  # whoever has it takes messages in their order
        self._messages = Messages()
        self._makes_sense = True

    def start(self) -> None:
        """Begin to answer; returns at once."""
        self._line.attend(self._fetch)
        threading.Thread(target=self._serve, name="calls", daemon=True).start()

    def say(self, content: msgspec.Struct) -> None:
        """Say something that was not asked for."""
        self._outbox.send(message(content))

    def _serve(self) -> None:
        arrival = select.poll()
        arrival.register(self._channel, select.POLLIN)
        with contextlib.suppress(OSError):
            while True:
                arrival.poll()
                others_fetch = self._line.serves
                if not self._receive():
                    break
                if others_fetch:
                    self._line.rest()
        self._outbox.close()
        self._lost()

    def _fetch(self) -> None:
        """Take what is there."""
        with contextlib.suppress(OSError):  # the thread that waits for calls sees that too
            self._receive()

    def _receive(self) -> bool:
        """Take what is there, in order; False at the end. Never waits. OSError if the other end is gone."""
        with self._receiving:
            if not self._makes_sense:
                return False
            try:
                data = self._channel.recv(_RECEIVE, socket.MSG_DONTWAIT)
            except BlockingIOError:  # another thread was faster
                return True
            try:
                for content in self._messages.cut(data):
                    self._take(call_of(content))
            except msgspec.DecodeError:
                # Nor is what follows to be taken for a call: another web process comes.
                log.exception("the web process said what is no call")
                self._makes_sense = False
                self._channel.shutdown(socket.SHUT_RDWR)
            return bool(data)

    def _take(self, call: Call) -> None:
        try:
            answering = getattr(self._desk, call.kind)(call.about)
        except Exception as error:  # noqa: BLE001  # whoever asked is told, and the next call is taken
            answering = Future()
            answering.set_exception(error)
        answering.add_done_callback(partial(self._reply, call.number))

    def _reply(self, number: int, done: "Future[Any]") -> None:
        self.say(Reply(number, *settled(done)))


class Outbox:
    """Sends messages in order; never waits for who reads them: that is a thread's, when it comes to it."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._changed = threading.Condition()
        self._rest = bytearray()  # what the socket did not take at once
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self, data: bytes) -> None:
        """Send a message, at once if that is possible; to nobody if the other end is gone."""
        with self._changed:
            if self._closed:
                return
            if not self._rest:
                data = data[self._sent(data) :]
            if data:
                self._rest += data
                self._begin_to_wait()

    def close(self) -> None:
        """Send no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _sent(self, data: bytes) -> int:
        """Return how many bytes the socket took."""
        try:
            return self._channel.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:  # who reads is gone: the reading end sees that too
            return len(data)

    def _begin_to_wait(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_rest, name="outbox", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _send_rest(self) -> None:
        while True:
            with self._changed:
                while not self._rest and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                piece = bytes(self._rest[:_PIECE])
            try:
                sent = self._channel.send(piece)
            except OSError:
                return
            with self._changed:
                del self._rest[:sent]


def settled(done: "Future[Any]") -> Answer:
    """Return the answer that a future has come to."""
    if done.cancelled():
        return _json(*refusal(Stopped()))
    error = done.exception()
    if error is None:
        result = done.result()
        return _json(result.code, dict(result.body)) if isinstance(result, Response) else result
    if isinstance(error, FileNotFoundError):
        return Answer(ABSENT)
    if isinstance(error, GobblerdError):
        if error.kind is Kind.FAULT:
            log.error("cannot answer", exc_info=error)
        return _json(*refusal(error))
    log.error("cannot answer", exc_info=error)
    return _json(STATUS[Kind.FAULT], error_body(INTERNAL))


def _json(code: int, document: Any) -> Answer:
    return Answer(code, msgspec.json.encode(document))
