"""Counting a project's bytes, reading again only the manifests that changed since the last count.

What a manifest adds up to is remembered with its stamp, and counts only while the file on disk has that
stamp. `Counted` keeps it from one request to the next, in memory: a cache on disk would have to be believed
after a restore from backup and by other versions of this program, to save one reading after each start.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

from gobblerd.domain.names import Address
from gobblerd.registry import documents
from gobblerd.registry.manifests import Found, ManifestStamp, Versions, read_stamped
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.sums import stamps_at, sums_at

KEPT_MOST = 50_000  # versions, some 300 bytes each
_SETTLED_NS = 1_000_000_000  # what changed less than so long ago may change again and keep its times

# By the manifest's path: its stamp, and the bytes.
_Known = Mapping[str, tuple[ManifestStamp | None, int]]
_NOTHING: _Known = {}


class Counted:
    """What was counted last in each project; the least recently counted ones go first. Thread-safe.

    `now` is the file server's time in nanoseconds.
    """

    def __init__(self, now: Callable[[], int], most: int = KEPT_MOST) -> None:
        self._now = now
        self._most = most
        self._lock = threading.Lock()
        self._projects: OrderedDict[str, _Known] = OrderedDict()
        self._versions = 0

    def of(self, project: str) -> _Known:
        """Return what is known of a project."""
        with self._lock:
            return self._projects.get(project, _NOTHING)

    def keep(self, project: str, known: _Known) -> None:
        """Remember what was counted now, but for manifests so new that a change could go unnoticed."""
        try:
            before = self._now() - _SETTLED_NS
        except OSError:  # no clock, no memory
            before = 0
        settled = {path: seen for path, seen in known.items() if seen[0] is not None and seen[0][-1] < before}
        with self._lock:
            self._versions -= len(self._projects.pop(project, _NOTHING))
            if len(settled) > self._most:
                return
            self._projects[project] = settled
            self._versions += len(settled)
            while self._versions > self._most:
                _, oldest = self._projects.popitem(last=False)
                self._versions -= len(oldest)


class UsageCount:
    """The usage of one project, by its manifests; `total` may be called again and again."""

    def __init__(self, metadata: Metadata, project: Address, counted: Counted | None = None) -> None:
        self._metadata = metadata
        self._project = project
        self._versions = Versions(metadata.root)
        self._counted = counted
        self._known = counted.of(project.project) if counted else _NOTHING

    def total(self) -> int:
        """Return the bytes of all versions; Fault names a manifest that cannot be read."""
        before = self._known
        known = self._counted_again(before) if before else self._counted_first()
        self._known = known
        if self._counted is not None and known != before:
            self._counted.keep(self._project.project, known)
        return sum([size for _, size in known.values()])

    def _counted_first(self) -> _Known:
        found: list[Found] = []
        sums = sums_at(self._paths(found))
        return {each[-1]: counted or self._read(each) for each, counted in zip(found, sums, strict=True)}

    def _counted_again(self, before: _Known) -> _Known:
        found: list[Found] = []
        stamps = stamps_at(self._paths(found))
        known: dict[str, tuple[ManifestStamp | None, int]] = {}
        unknown: dict[str, Found] = {}
        for each, stamp in zip(found, stamps, strict=True):
            path = each[-1]
            seen = before.get(path)
            if seen is not None and stamp is not None and seen[0] == stamp:
                known[path] = seen
            else:
                unknown[path] = each
        for path, counted in zip(unknown, sums_at(unknown), strict=True):
            known[path] = counted or self._read(unknown[path])
        return known

    def _paths(self, found: list[Found]) -> Iterator[str]:
        """Yield the paths of all manifests as they are found; `found` gets them with their versions."""
        for each in self._versions.below([self._project]):
            found.append(each)
            yield each[-1]

    def _read(self, found: Found) -> tuple[ManifestStamp | None, int]:
        *names, path = found
        try:
            stamp, data = read_stamped(path)
            return stamp, documents.read_stored_bytes(data)
        except (OSError, documents.Unreadable):
            return None, self._metadata.stored_bytes(Address(*names))  # says what is wrong
