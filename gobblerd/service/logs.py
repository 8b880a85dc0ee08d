"""Logging: one line per event on standard error, for journald or for a reader at a terminal.

Off a terminal a line is a JSON object behind journald's priority prefix (`<6>` and so on); on one it is
coloured text. Usual fields: request, user, action, project, seconds; bind them with
`structlog.contextvars`. What is logged can never begin a line of its own: JSON escapes it, and the
readable form escapes every character that does not print. The standard library's logging, Python's
warnings and uncaught exceptions go the same way. Known limit: a fatal error of the interpreter itself
still writes as it likes.
"""

import contextlib
import json
import logging
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TextIO

import msgspec
import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from gobblerd.domain.times import format_time

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_ENCODER = json.JSONEncoder(default=repr)
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_FOREIGN = ("asyncio", "aiohttp", "apscheduler", "watchdog")  # told to be quiet below warnings
_INDENT = "    | "
_PATIENCE = 2000  # ms that a reader may take to make room for a line


def configure(level: str, stream: TextIO | None = None, *, terminal: bool | None = None) -> None:
    """Set up logging; call it again to change the level.

    `level` is one of LEVELS; `stream` defaults to standard error, `terminal` to whether that is one.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty() if terminal is None else terminal
    processors = [*_common(), *(_readable() if terminal else _machine())]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_Lines(stream),
        cache_logger_on_first_use=False,  # so that a reload changes the level of every logger
    )
    _take_over_standard_logging(LEVELS[level])
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class _Lines:
    """Writes each event's line in one piece; a reader that went away, or stopped, must not hurt who logs.

    What a stopped one (a terminal after Ctrl-S, journald that hangs) has no room for is left out, counted.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._left_out = 0  # lines since the last that was written
        self._room = _watched(stream)
        self.debug = self.info = self.warning = self.error = self.critical = self.exception = self.write

    def __call__(self, *_: object) -> "_Lines":
        """Serve as structlog's factory of loggers: one for all."""
        return self

    def write(self, line: str) -> None:
        """Write a line."""
        missing = 0
        with self._lock, contextlib.suppress(OSError, ValueError):  # ValueError: closed
            if self._room and not self._room.poll(0 if self._left_out else _PATIENCE):
                self._left_out += 1
                return
            missing, self._left_out = self._left_out, 0
            self._stream.write(line + "\n")
            self._stream.flush()
        if missing:
            structlog.get_logger().warning(
                "nobody read the log: lines before the last are missing", lines=missing
            )


def _watched(stream: TextIO) -> "select.poll | None":
    """Return what tells whether a line can be written without waiting; None for what is not the kernel's."""
    watching = select.poll()
    try:
        watching.register(stream, select.POLLOUT)
    except (OSError, ValueError, TypeError):
        return None
    return watching


def _common() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _add_time,
        structlog.processors.ExceptionRenderer(_traceback),
    ]


def _add_time(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["time"] = format_time(time.time_ns())
    return event


def _traceback(exc_info: ExcInfo) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n")


def _machine() -> list[Processor]:
    return [_json_line]


def _json_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Return the line; ASCII only, so that no line separator of any standard is left in it."""
    first = {key: event.pop(key) for key in ("time", "level", "event") if key in event}
    return f"<{_PRIORITIES.get(first['level'], 6)}>{_json({**first, **event})}"


def _shown(value: object) -> str:
    return str(value) if isinstance(value, str) else repr(value)  # a subclass of str is still a string


def _json(event: EventDict) -> str:
    try:
        text = msgspec.json.encode(event, enc_hook=_shown).decode()
    except (TypeError, ValueError):  # an unpaired surrogate among them
        return _ENCODER.encode(event)
    return text if text.isascii() and text.isprintable() else _ENCODER.encode(event)  # as nearly every one is


def _readable() -> list[Processor]:
    console = structlog.dev.ConsoleRenderer(
        colors=True, timestamp_key="time", sort_keys=False, exception_formatter=structlog.dev.plain_traceback
    )
    return [_escape_values, console]


def _escape_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Leave no character in any value that a terminal would act on, or that would forge a line."""
    trace = event.pop("exception", None)
    found: EventDict = {key: _printable(value) for key, value in event.items()}
    if trace is not None:
        found["exception"] = "\n".join(_INDENT + _printable(line) for line in str(trace).splitlines())
    return found


def _printable(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class _ToStructlog(logging.Handler):
    """Hands records of the standard library's logging over."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record; as every handler, never raise."""
        try:
            if _is_clients_fault(record):
                structlog.get_logger().debug("malformed HTTP", logger=record.name)
                return
            method: Callable[..., None] = getattr(structlog.get_logger(), _level_name(record.levelno))
            info = {"exc_info": record.exc_info} if record.exc_info else {}
            method(record.getMessage(), logger=record.name, **info)
        except Exception:  # noqa: BLE001 - the rule of logging handlers
            self.handleError(record)


def _is_clients_fault(record: logging.LogRecord) -> bool:
    """Tell whether aiohttp reports what is no HTTP: anyone can send that, and a traceback each, for ever."""
    error = record.exc_info[1] if record.exc_info else None
    return record.name == "aiohttp.server" and 400 <= getattr(error, "code", 0) < 500  # noqa: PLR2004 - 4xx


def _level_name(number: int) -> str:
    for name, least in (("error", logging.ERROR), ("warning", logging.WARNING), ("info", logging.INFO)):
        if number >= least:
            return name
    return "debug"


def _take_over_standard_logging(level: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    root.setLevel(level)
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger().critical("uncaught exception", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or issubclass(args.exc_type, SystemExit):
        return
    name = args.thread.name if args.thread else ""
    info = (args.exc_type, args.exc_value, args.exc_traceback)
    structlog.get_logger().critical("uncaught exception in a thread", thread=name, exc_info=info)
