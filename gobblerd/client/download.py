"""Bringing one file of the registry into a cache: by range where it was left off, verified, then renamed.

What a file must be is known from the manifest, or from the entity tag, which is the manifest's checksum
where the service is gobblerd; failing both (the registry's own documents, an older service), only its
length is checked. A broken connection is tried again for as long as something arrives.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import quote

from gobblerd.client import transport
from gobblerd.client.cache import Cache, Part, md5_of
from gobblerd.client.errors import GobblerError, GobblerUnreachable, failure
from gobblerd.client.parallel import Meter, Stop
from gobblerd.client.reading import MANIFEST

_CHUNK = 1 << 20
_TRIES = 6  # in vain, one after the other
_PAUSE = 0.2  # seconds before the next try, doubling: 12 s in all
_MD5 = re.compile(r'"([0-9a-f]{32})"', re.ASCII)
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)", re.ASCII)
_PARTIAL, _NO_SUCH_RANGE, _ERRORS_FROM = 206, 416, 300
_VERSION_DEPTH = 3  # project/asset/version


class Expected(NamedTuple):
    """What the manifest says of a file."""

    size: int
    md5sum: str


class Changed(Exception):
    """What arrived is not what the manifest says: the version was uploaded anew, or the file is damaged."""


class Want(NamedTuple):
    """What to fetch from where; `accept` tells whether a file that is there already will do."""

    url: str
    path: str
    accept: Callable[[str], bool]
    expected: Expected | None = None


def fetch(cache: Cache, want: Want, meter: Meter, stop: Stop, *, wait: bool = True) -> bool:
    """Have the file in the cache; False, and nothing done, if another is at it and `wait` is not set.

    GobblerError if the service refuses or what arrives is not what was expected.
    """
    target = cache.target(want.path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with cache.part(want.path, stop, wait=wait) as part:
        if part is None:
            return False
        if want.accept(target):  # perhaps since a moment ago: another process had the part
            part.discard()
            meter.add(1, want.expected.size if want.expected else 0)
            return True
        try:
            _Download(part, want, meter, stop).run()
            part.publish(target)
        except BaseException:
            if not part.shared or not part.size:  # nobody can continue it
                part.discard()
            raise
        meter.add(1, 0)
        return True


class Manifests:
    """The manifests of a service's versions, each asked for once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._found: dict[str, dict[str, Any]] = {}
        self.raw: dict[str, bytes] = {}  # as they came

    def load(self, version: str) -> dict[str, Any]:
        """Return the manifest of `project/asset/version`; empty if there is none."""
        if version not in self._found:
            try:
                data = transport.get_bytes(self._url, _location(f"{version}/{MANIFEST}"))
                self._found[version] = dict(json.loads(data))
                self.raw[version] = data
            except GobblerError as error:
                if error.code is None:
                    raise
                self._found[version] = {}
        return self._found[version]

    def expected(self, path: str) -> Expected | None:
        """Return what the file's manifest says; None if it is in none."""
        version, rest = split_version(path)
        entry = self.load(version).get(rest) if rest else None
        return Expected(entry["size"], entry["md5sum"]) if entry and entry.get("md5sum") else None


def split_version(path: str) -> tuple[str, str]:
    """Return the version that a path lies in, and what follows; the latter is "" above and for a version."""
    parts = [part for part in path.split("/") if part not in {"", "."}]
    return "/".join(parts[:_VERSION_DEPTH]), "/".join(parts[_VERSION_DEPTH:])


def _location(path: str) -> str:
    return "/fetch/" + quote(path, errors="surrogateescape")


class _Download:
    """One file on its way into its part."""

    def __init__(self, part: Part, want: Want, meter: Meter, stop: Stop) -> None:
        self._part, self._want, self._meter, self._stop = part, want, meter, stop
        self._expected = want.expected
        self._counted = 0  # bytes that the digest holds and the meter was told
        self._size = 0  # what the answer says that the file will have
        self._reached = False  # whether the service has answered at all
        self._whole = False  # whether every byte of it came just now, and none from an older part
        self._digest = hashlib.md5(usedforsecurity=False)

    def run(self) -> None:
        """Fill the part, and check it; once more from the beginning if an older part does not fit."""
        self._fill()
        if self._is_wrong() and not self._whole:
            self._part.restart(None)
            self._fill()
        if self._is_wrong():
            self._part.discard()
            raise Changed(
                f"{self._want.path} arrived with {self._part.size} bytes and MD5 {self._digest.hexdigest()}, "
                f"but its manifest says {self._wanted()}"
            )

    def _wanted(self) -> str:
        wanted = self._expected
        return f"{wanted.size} bytes and {wanted.md5sum}" if wanted else f"{self._size} bytes"

    def _is_wrong(self) -> bool:
        wanted = self._expected
        if wanted is None:
            return self._part.size != self._size
        return self._part.size != wanted.size or self._digest.hexdigest() != wanted.md5sum

    def _fill(self) -> None:
        vain = 0
        while True:
            before = self._part.size
            try:
                return self._ask()
            except transport.Lost as lost:
                error = lost.error
            except GobblerUnreachable as unreachable:
                if not self._reached:
                    raise
                error = unreachable  # it was there: it may be starting again
            vain = 0 if self._part.size > before else vain + 1
            if vain >= _TRIES:
                raise error
            self._stop.pause(_PAUSE * 2**vain)

    def _ask(self) -> None:
        """Ask for what is missing, and take it."""
        there, headers = self._part.size, {}
        validator = self._part.validator() if there else None
        if there and validator:
            headers = {"Range": f"bytes={there}-", "If-Range": validator}
        with transport.get(self._want.url, _location(self._want.path), headers) as reply:
            self._reached = True
            if reply.status == _NO_SUCH_RANGE and headers:
                transport.receive(reply)
                self._take_as_whole(reply, there)
            elif reply.status >= _ERRORS_FROM:
                raise transport.refused(reply)
            else:
                self._take(reply, there)

    def _take_as_whole(self, reply: HTTPResponse, there: int) -> None:
        """Take the part for the file: there is nothing beyond it. If it is too long, begin again."""
        self._size = int((reply.getheader("Content-Range") or "*/-1").rpartition("/")[2])
        if self._size != there:
            self._part.restart(None)
            raise transport.Lost(failure(GobblerUnreachable, None, "the file has become shorter"))
        self._resume(there)

    def _take(self, reply: HTTPResponse, there: int) -> None:
        validator = _validator(reply)
        at = self._begin_at(reply, there)
        if at:
            self._resume(at)
        else:
            self._part.restart(validator)
            self._digest, self._whole = hashlib.md5(usedforsecurity=False), True
            self._expected = self._want.expected  # whatever was learned was of another content
            self._count(0)
        self._learn(validator)
        self._receive(reply, at)

    def _begin_at(self, reply: HTTPResponse, there: int) -> int:
        """Return at which byte the answer begins, and note the file's size."""
        found = _RANGE.fullmatch(reply.getheader("Content-Range") or "")
        if reply.status == _PARTIAL and found and int(found[1]) == there:
            self._size = int(found[2])
            return there
        if reply.status == _PARTIAL:
            self._part.restart(None)
            raise transport.Lost(failure(GobblerUnreachable, None, "the service sent the wrong range"))
        length = reply.getheader("Content-Length")
        self._size = int(length) if length is not None else -1
        return 0

    def _resume(self, at: int) -> None:
        """Go on behind what is there, whoever wrote it."""
        if self._counted != at:
            self._digest = md5_of(self._part.fd)
        os.lseek(self._part.fd, at, os.SEEK_SET)
        self._count(at)

    def _learn(self, validator: str | None) -> None:
        """Find out what the file must be, if that is not known yet."""
        if self._expected is not None or not split_version(self._want.path)[1]:
            return
        if self._want.path.rpartition("/")[2].startswith(".."):
            return
        found = _MD5.fullmatch(validator or "")
        if found and self._size >= 0:
            self._expected = Expected(self._size, found[1])
        else:
            self._expected = Manifests(self._want.url).expected(self._want.path)

    def _receive(self, reply: HTTPResponse, at: int) -> None:
        while chunk := transport.receive(reply, _CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[os.write(self._part.fd, view) :]
            self._digest.update(chunk)
            at += len(chunk)
            self._count(at)
            self._stop.check()
        if self._size < 0:  # the service did not say; the end of the answer is the end of the file
            self._size = at
        if at != self._size:
            reason = f"the connection broke after {at} of {self._size} bytes of {self._want.path}"
            raise transport.Lost(failure(GobblerUnreachable, None, reason))

    def _count(self, at: int) -> None:
        self._meter.add(0, at - self._counted)
        self._meter.tell(self._want.path, at, self._expected.size if self._expected else self._size)
        self._counted = at


def _validator(reply: HTTPResponse) -> str | None:
    """Return what to make a later range conditional on: a strong entity tag, else the date of change."""
    tag = reply.getheader("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return reply.getheader("Last-Modified")
