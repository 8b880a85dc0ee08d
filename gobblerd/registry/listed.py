"""What manifests say of single files, remembered: for entity tags and for whitelisted links.

Reading a manifest for every fetched file would cost more than the file. Each version's is kept parsed while
its size, mtime and inode stay what they were; the least recently used go first.

Limits: a manifest of more than 4 MiB is never kept, and is read only where there is no other way to know.
"""

import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from gobblerd.registry.layout import MANIFEST
from gobblerd.storage.files import READ_FILE, opened, read_all

KEPT_MOST = 4 << 20  # bytes of one manifest that is kept
KEPT_IN_ALL = 8 << 20  # bytes of all manifests that are kept; parsed, they take about three times as much
QUICK_MOST = 128 << 10  # parsed within about a millisecond


class _Anything(msgspec.Struct):
    """An object whose keys do not matter."""


class Listed(msgspec.Struct, frozen=True, gc=False):
    """As much of a manifest entry as readers need."""

    size: int | None = None
    md5sum: str | None = None
    link: _Anything | None = None


_DECODER = msgspec.json.Decoder(dict[str, Listed])
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    stamp: _Stamp
    entries: Mapping[str, Listed]


class Slow(Exception):
    """The answer is not to be had at once."""


class ListedFiles:
    """Manifest entries by version and path; may be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes = 0

    def find(
        self, version: str, version_fd: int, path: str, *, read_most: int | None, at_once: bool
    ) -> Listed | None:
        """Return what the version's manifest says of `path`, None if nothing that can be read.

        A manifest of more than `read_most` bytes (None: no limit) says nothing. With `at_once`, Slow is
        raised where one that is not remembered would take more than about a millisecond to parse.
        """
        try:
            stamp = _stamp(os.stat(MANIFEST, dir_fd=version_fd, follow_symlinks=False))
        except FileNotFoundError:
            return None
        entries = self._remembered(version, stamp)
        if entries is None:
            size = stamp[1]
            if read_most is not None and size > read_most:
                return None
            if at_once and size > QUICK_MOST:
                raise Slow
            entries = self._read(version, version_fd)
        return entries.get(path)

    def _remembered(self, version: str, stamp: _Stamp) -> Mapping[str, Listed] | None:
        with self._lock:
            kept = self._kept.get(version)
            if kept is None or kept.stamp != stamp:
                return None
            self._kept.move_to_end(version)
            return kept.entries

    def _read(self, version: str, version_fd: int) -> Mapping[str, Listed]:
        with opened(MANIFEST, READ_FILE, dir_fd=version_fd) as fd:
            status = os.fstat(fd)
            data = read_all(fd, status.st_size) if stat.S_ISREG(status.st_mode) else b""
        try:
            entries = _DECODER.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            entries = {}  # an unreadable manifest lists nothing; validate_version reports it
        self._keep(version, _Kept(_stamp(status), entries))
        return entries

    def _keep(self, version: str, kept: _Kept) -> None:
        with self._lock:
            if (old := self._kept.pop(version, None)) is not None:
                self._bytes -= old.stamp[1]
            if kept.stamp[1] > KEPT_MOST:
                return
            self._kept[version] = kept
            self._bytes += kept.stamp[1]
            while self._bytes > KEPT_IN_ALL:
                _, oldest = self._kept.popitem(last=False)
                self._bytes -= oldest.stamp[1]


def _stamp(status: os.stat_result) -> _Stamp:
    return (status.st_mtime_ns, status.st_size, status.st_ino)
