"""Messages are cut from a stream wherever it is broken, and come back as what they were."""

import pytest

from gobblerd.service.web.messages import (
    Call,
    Close,
    Messages,
    Reply,
    Settings,
    Setup,
    call_of,
    message,
    said_of,
    setup_of,
)

SAID = [
    Reply(7, 200, b"{}"),
    Settings(("/data",), "info"),
    Close(),
    Reply(8, 0),
    Reply(9, 200, b"x" * 70_000, "a/b"),
]


@pytest.mark.parametrize("size", [1, 3, 4, 5, 1000, 1 << 20])
def test_pieces_of_any_size(size: int) -> None:
    """Nothing is lost or joined, whatever the socket delivers at a time."""
    stream = b"".join(map(message, SAID))
    cutter = Messages()
    pieces = [stream[start : start + size] for start in range(0, len(stream), size)]
    assert [said_of(content) for piece in pieces for content in cutter.cut(piece)] == SAID


def test_calls_and_setup() -> None:
    """What only one side says."""
    call = Call(3, "post", "request-upload-é")
    setup = Setup("/s", "/r", "http://h:1", "/p", Settings((), "debug"))
    cutter = Messages()
    one, two = cutter.cut(message(call) + message(setup))
    assert call_of(one) == call
    assert setup_of(two) == setup
