"""Conditional and range requests: what part of a file, if any, a client is to be sent (RFC 9110, 13 and 14).

Knows headers and numbers; opens and sends nothing. Of ranges only a single one is served: a request for
several gets the whole file, as the RFC allows.
"""

import re
from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum

from aiohttp import ETag, web

from gobblerd.domain.times import NANOSECONDS

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII)


class Verdict(Enum):
    """What a request's conditions ask for."""

    SEND = 200
    NOT_MODIFIED = 304
    FAILED = 412


@dataclass(frozen=True, slots=True)
class Validators:
    """What a client may know a file by: the entity tag without quotes, the mtime in nanoseconds."""

    etag: str
    mtime_ns: int

    @property
    def last_modified(self) -> str | None:
        """The mtime as HTTP writes it; None for a year that HTTP cannot write (users' files may have any)."""
        try:
            return formatdate(self.mtime_ns // NANOSECONDS, usegmt=True)
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file, in bytes; `partial` if it was asked for as a range, even one of all bytes."""

    start: int
    count: int
    partial: bool = True


def judged(request: web.Request, file: Validators) -> Verdict:
    """Return what the request's preconditions come to, in the RFC's order (RFC 9110, 13.2.2)."""
    headers = request.headers
    if "If-Match" in headers:
        if not _matches(file.etag, request.if_match, weak=False):
            return Verdict.FAILED
    elif (since := request.if_unmodified_since) and file.mtime_ns // NANOSECONDS > since.timestamp():
        return Verdict.FAILED
    if "If-None-Match" in headers:
        if _matches(file.etag, request.if_none_match, weak=True):
            return Verdict.NOT_MODIFIED
    elif (since := request.if_modified_since) and file.mtime_ns // NANOSECONDS <= since.timestamp():
        return Verdict.NOT_MODIFIED
    return Verdict.SEND


def _matches(etag: str, given: tuple[ETag, ...] | None, *, weak: bool) -> bool:
    return any(tag.value in {etag, "*"} and (weak or not tag.is_weak) for tag in given or ())


def span_of(request: web.Request, file: Validators, size: int) -> Span | None:
    """Return the part that a GET asks for; the whole where it asks for none that makes sense.

    None if there is nothing at all within what is asked for (416).
    """
    whole = Span(0, size, partial=False)
    text = request.headers.get("Range")
    if text is None or request.method != "GET" or not _range_holds(request, file):
        return whole
    found = _RANGE.fullmatch(text)
    if found is None:
        return whole
    first, last = found.groups()
    if not first:
        return _tail(int(last), size) if last else whole
    if last and int(last) < int(first):
        return whole
    end = min(int(last), size - 1) if last else size - 1
    return Span(int(first), end - int(first) + 1) if int(first) < size else None


def _tail(count: int, size: int) -> Span | None:
    """Return the last `count` bytes; of an empty file all, which no range can say."""
    if count == 0:
        return None
    return Span(max(0, size - count), min(count, size), partial=size > 0)


def _range_holds(request: web.Request, file: Validators) -> bool:
    """Tell whether the file is still the one whose first part the client has (If-Range)."""
    given = request.headers.get("If-Range")
    return given is None or given in {f'"{file.etag}"', file.last_modified}
