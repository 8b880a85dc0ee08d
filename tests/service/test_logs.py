"""gobblerd.service.logs: one line per event, which nothing that is logged can forge."""

import contextlib
import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from gobblerd.service import logs
from gobblerd.service.logs import configure

NASTY = 'a\n<0>{"event": "forged"}\r\x1b[31m\u2028\x85\u202e\udc80\0'


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    hooks = sys.excepthook, threading.excepthook
    yield
    root.handlers[:], sys.excepthook, threading.excepthook = handlers, *hooks
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def lines(act: Callable[[], None], level: str = "info", *, terminal: bool = False) -> list[str]:
    """Return what `act` logs, line by line as any reader would split it."""
    stream = io.StringIO()
    configure(level, stream, terminal=terminal)
    act()
    return stream.getvalue().splitlines()


def fail(text: str) -> None:
    raise ValueError(text)


def parsed(line: str) -> tuple[int, dict[str, Any]]:
    found = re.fullmatch(r"<(\d)>(\{.*\})", line)
    assert found
    return int(found[1]), json.loads(found[2])


def test_a_line_is_json_behind_a_priority() -> None:
    """journald takes the priority off; the rest is one object with the fields as they were given."""
    (line,) = lines(lambda: structlog.get_logger().info("request done", user="alice", seconds=0.25))
    priority, event = parsed(line)
    assert priority == 6
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.pop("time"))
    assert event == {"level": "info", "event": "request done", "user": "alice", "seconds": 0.25}


def test_priorities() -> None:
    """The levels are journald's."""

    def act() -> None:
        for level in ("debug", "info", "warning", "error", "critical"):
            getattr(structlog.get_logger(), level)("x")

    assert [parsed(line)[0] for line in lines(act, "debug")] == [7, 6, 4, 3, 2]


def test_the_level_changes_with_a_reload() -> None:
    """Loggers that exist follow; what is below the level is left out."""
    log = structlog.get_logger()
    log.info("bound before")
    assert len(lines(lambda: log.info("x"), "info")) == 1
    assert not lines(lambda: log.info("x"), "warning")
    assert len(lines(lambda: log.debug("x"), "debug")) == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_a_value_cannot_forge_a_line_or_steer_the_terminal(*, terminal: bool) -> None:
    """Names, reasons and events with controls, line separators and broken text stay on their line, harmless."""

    def act() -> None:
        structlog.get_logger().warning(NASTY, user=NASTY, names=[NASTY], table={NASTY: NASTY})
        logging.getLogger("elsewhere").warning("%s", NASTY)

    found = lines(act, terminal=terminal)
    assert len(found) == 2
    for line in found:
        bare = re.sub(r"\x1b\[\d+m", "", line) if terminal else line  # our own colours
        assert bare.isprintable()
    if not terminal:
        assert parsed(found[0])[1]["user"] == NASTY
    elif terminal:
        assert "\x1b[31ma" not in found[0]
        assert "\\x1b[31m" in found[0]


def test_an_exception_is_a_field() -> None:
    """The traceback is in the line's `exception`."""

    def act() -> None:
        try:
            fail(NASTY)
        except ValueError:
            structlog.get_logger().exception("failed", request="request-x")

    (line,) = lines(act)
    priority, event = parsed(line)
    assert (priority, event["request"]) == (3, "request-x")
    assert event["exception"].startswith("Traceback (most recent call last):\n")
    assert "ValueError: a\n" in event["exception"]


def test_a_traceback_on_a_terminal_is_indented() -> None:
    """Each of its lines stands behind a bar, so that none looks like an event."""

    def act() -> None:
        try:
            fail("x\n2026-01-01T00:00:00Z [info] forged\x1b[2J")
        except ValueError:
            structlog.get_logger().exception("failed")

    first, *rest = lines(act, terminal=True)
    assert "failed" in first
    assert len(rest) > 3
    assert all(line.startswith("    | ") and line.isprintable() for line in rest)


def test_fields_that_are_bound_to_a_context() -> None:
    """request, user, action, project need be named only once."""

    def act() -> None:
        with structlog.contextvars.bound_contextvars(request="request-x", user="alice"):
            structlog.get_logger().info("done")
        structlog.get_logger().info("after")

    inside, after = (parsed(line)[1] for line in lines(act))
    assert (inside["request"], inside["user"]) == ("request-x", "alice")
    assert "request" not in after


def test_the_standard_library_goes_the_same_way() -> None:
    """Other packages' records, warnings and uncaught exceptions are events too; chatter is left out."""

    def act() -> None:
        logging.getLogger("aiohttp.server").error("broken %s", "pipe", exc_info=ValueError("x"))
        logging.getLogger("watchdog.observers").info("chatter")
        logging.getLogger("gobblerd.x").info("said")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=True)
            warnings.warn("careful", UserWarning, stacklevel=1)
        sys.excepthook(KeyError, KeyError("lost"), None)

    events = [parsed(line)[1] for line in lines(act)]
    assert [(e["level"], e.get("logger")) for e in events] == [
        ("error", "aiohttp.server"),
        ("info", "gobblerd.x"),
        ("warning", "py.warnings"),
        ("critical", None),
    ]
    assert events[0]["event"] == "broken pipe"
    assert "ValueError: x" in events[0]["exception"]
    assert "careful" in events[2]["event"]
    assert "KeyError: 'lost'" in events[3]["exception"]


def test_an_exception_that_ends_a_thread_is_logged() -> None:
    """With the thread's name."""

    def act() -> None:
        thread = threading.Thread(target=fail, args=["lost"], name="worker 1")
        thread.start()
        thread.join()

    (line,) = lines(act)
    assert parsed(line)[1]["thread"] == "worker 1"


def test_a_reader_that_went_away_hurts_nobody() -> None:
    """Logging to a closed pipe is lost, and does not raise into the work."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    configure("info", Gone(), terminal=False)
    structlog.get_logger().info("x")
    closed = io.StringIO()
    configure("info", closed, terminal=False)
    closed.close()
    structlog.get_logger().info("x")


def test_a_reader_that_stopped_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no room is left out, and told of once there is room again."""
    monkeypatch.setattr(logs, "_PATIENCE", 10)
    out, into = os.pipe()
    with open(out, "rb", buffering=0) as reader, open(into, "w", encoding="utf-8") as stream:
        configure("info", stream, terminal=False)
        for number in range(1000):
            structlog.get_logger().info("x" * 200, number=number)
        read = reader.read(1 << 20)
        structlog.get_logger().info("read again")
        last = reader.read(1 << 20).decode("ascii").splitlines()
    assert [parsed(line)[1]["event"] for line in last] == [
        "read again",
        "nobody read the log: lines before the last are missing",
    ]
    assert parsed(last[1])[1]["lines"] == 1000 - read.count(b"\n")


def test_threads_do_not_mix_their_lines() -> None:
    """A line is written in one piece."""

    def act() -> None:
        def log() -> None:
            for _ in range(50):
                structlog.get_logger().info("x", text="y" * 200)

        threads = [threading.Thread(target=log) for _ in range(4)]
        with contextlib.ExitStack() as stack:
            for thread in threads:
                thread.start()
                stack.callback(thread.join)

    found = lines(act)
    assert len(found) == 200
    assert all(parsed(line)[1]["event"] == "x" for line in found)
