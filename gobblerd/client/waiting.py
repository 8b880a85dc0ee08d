"""What the daemon says of a request while its answer is waited for: how far it is.

It is read from the status document in staging, which the daemon renews every other second while it works: no
network is needed. Limit: it names fifty requests, those that run first: one far back in a queue is not there.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

Waiting = Callable[[int, int], None]  # called with bytes done, and in all (0: not known)

_PAUSE = 1.0  # seconds between two looks


@contextlib.contextmanager
def told(status: str, name: str, waiting: Waiting | None) -> Iterator[None]:
    """Have `waiting` called, from another thread, about once a second while the request `name` is at hand.

    `status` is the path of the status document. Never called once the block is left, nor in its first second.
    """
    if waiting is None:
        yield
        return
    import threading  # noqa: PLC0415 - for those who watch only

    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(status, name, waiting, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _follow(status: str, name: str, waiting: Waiting, over: "Event") -> None:
    while not over.wait(_PAUSE):
        found = _found(status, name)
        if found is not None and not over.is_set():
            waiting(*found)


def _found(status: str, name: str) -> tuple[int, int] | None:
    """Return bytes done and in all of a request; None where the document does not name it."""
    with (
        contextlib.suppress(OSError, ValueError, KeyError),  # just replaced, or of an older daemon
        open(os.open(status, os.O_RDONLY | os.O_CLOEXEC), encoding="utf-8") as file,
    ):
        for each in json.load(file)["spool"]["at_hand"]:
            if each["name"] == name:
                return each["bytes_done"], each["bytes_total"]
    return None
