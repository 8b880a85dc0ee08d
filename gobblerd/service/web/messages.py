"""What the daemon and its web process say to each other, over a Unix stream socket.

A message is its length (four bytes, big-endian) and a msgpack array. The web process makes calls, the daemon
replies in any order; what else the daemon says is not answered. Both ends are one release of one program:
there are no versions.
"""

import struct
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

JSON = "application/json"
ABSENT = 0  # the code of a reply that means: there is nothing of that name (yet)

_LENGTH = struct.Struct(">I")
HEADER_BYTES = _LENGTH.size

Kind = Literal["post", "recorded", "problems", "metrics", "status"]


class Call(msgspec.Struct, frozen=True, array_like=True):
    """A question: what is asked for, and about what (a request's name, an Accept header)."""

    number: int
    kind: Kind
    about: str = ""


class Reply(msgspec.Struct, frozen=True, array_like=True, tag="reply"):
    """The answer to the call of that number: an HTTP code or ABSENT, and a body of that type."""

    number: int
    code: int
    body: bytes = b""
    content_type: str = JSON


class Settings(msgspec.Struct, frozen=True, array_like=True, tag="settings"):
    """The part of the configuration that HTTP goes by and that may change while it serves."""

    whitelist: tuple[str, ...]
    log_level: str


class Setup(msgspec.Struct, frozen=True, array_like=True):
    """What a web process is told before it serves; listening sockets come along.

    `staging`, `registry` and `url` are what it says of the service; `prefix` comes before every path.
    """

    staging: str
    registry: str
    url: str
    prefix: str
    settings: Settings


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """Answer what is being answered, then end."""


Said = Reply | Settings | Close  # by the daemon

_SAID = msgspec.msgpack.Decoder(Said)
_CALL = msgspec.msgpack.Decoder(Call)
_SETUP = msgspec.msgpack.Decoder(Setup)

said_of = _SAID.decode
call_of = _CALL.decode
setup_of = _SETUP.decode


def message(content: msgspec.Struct) -> bytes:
    """Return the bytes of a message."""
    data = msgspec.msgpack.encode(content)
    return _LENGTH.pack(len(data)) + data


def length_of(header: bytes | bytearray) -> int:
    """Return how many bytes follow a header."""
    size: int = _LENGTH.unpack(header)[0]
    return size


class Messages:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def cut(self, data: bytes) -> Iterator[Any]:
        """Yield the content of each message that is whole now."""
        self._rest += data
        while len(self._rest) >= HEADER_BYTES:
            end = HEADER_BYTES + length_of(self._rest[:HEADER_BYTES])
            if len(self._rest) < end:
                return
            content = bytes(self._rest[HEADER_BYTES:end])
            del self._rest[:end]
            yield content
