"""The one tree of errors that a request can be answered with.

A refusal is raised with a message template and the facts that fill it:
`Wrong("version {version} already exists in {place}", version="1", place=Plain("p/a"))`.
Strings are quoted and escaped, so that nothing a user wrote can forge a line of a log. The class says
which kind of answer it is; the edge (`service/dispatch.py`) turns kinds into HTTP codes.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """What kind of answer an error is."""

    WRONG = "wrong"  # the request itself
    FORBIDDEN = "forbidden"
    ABSENT = "absent"
    EXCEEDED = "exceeded"  # quota or a configured limit
    INVALID = "invalid"  # what is on disk has problems
    BUSY = "busy"  # nothing was executed; try again
    FAULT = "fault"  # the daemon or its storage


_BIDI = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))  # they reorder a line
_ESCAPED = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160))} | {
    **{c: f"\\u{c:04x}" for c in _BIDI},
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}
_QUOTED_MAX = 300


def escaped(text: str) -> str:
    """Return `text` on one line: controls (of direction too), quotes and undecodable bytes as escapes."""
    return printable(text.translate(_ESCAPED))


def printable(text: object) -> str:
    """Return `text` with undecodable bytes as escapes, so that it can be written anywhere."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


def escaped_line(text: str) -> str:
    """Return `text` with what could break out of its line escaped, and quotes left alone."""
    return escaped(text).replace('\\"', '"').replace("\\\\", "\\")


def quoted(text: str) -> str:
    """Return `text` escaped, in double quotes, cut off after 300 characters."""
    shown = text if len(text) <= _QUOTED_MAX else text[:_QUOTED_MAX] + "..."
    return f'"{escaped(shown)}"'


class Plain(str):
    """Text of our own making, shown in a message without quotes."""

    __slots__ = ()


def _shown(fact: object) -> str:
    if isinstance(fact, Plain):
        return str(fact)
    return quoted(fact) if isinstance(fact, str) else escaped(str(fact))


class GobblerdError(Exception):
    """The root of the tree: a message template and the facts that fill it."""

    kind: ClassVar[Kind] = Kind.FAULT

    def __init__(self, template: str, /, **facts: object) -> None:
        self.facts = facts
        super().__init__(template.format_map({name: _shown(fact) for name, fact in facts.items()}))

    @property
    def reason(self) -> str:
        """The sentence that the requester reads."""
        return str(self)

    def details(self) -> Mapping[str, Any]:
        """Keys that the answer has besides `status` and `reason`; JSON values."""
        return {}


def told(error: GobblerdError | OSError) -> str:
    """Return what an error of ours or of the system's tells a person: what is wrong and, if known, where."""
    if isinstance(error, GobblerdError):
        return error.reason
    where = f"{error.filename}: " if error.filename else ""
    return escaped(f"{where}{error.strerror or error}")


class Refused(GobblerdError):
    """The request was refused, and nothing was changed."""


class Wrong(Refused):
    """The request is wrong: its document, its names, or what it asks for (400)."""

    kind = Kind.WRONG


class Forbidden(Refused):
    """The requester may not do this (403)."""

    kind = Kind.FORBIDDEN


class Absent(Refused):
    """The project, asset or version is not there (404)."""

    kind = Kind.ABSENT


class Exceeded(Refused):
    """A quota or a configured limit is exceeded (413)."""

    kind = Kind.EXCEEDED


class Invalid(Refused):
    """What is on disk has problems (422)."""

    kind = Kind.INVALID


class Busy(Refused):
    """Nothing was executed; a new request may succeed (503)."""

    kind = Kind.BUSY


class Stopped(Busy):
    """The daemon stops; what had not committed is given back and runs after the restart."""

    def __init__(self) -> None:
        super().__init__("the daemon is shutting down; nothing was done")


class Fault(GobblerdError):
    """The daemon or its storage failed (500)."""
