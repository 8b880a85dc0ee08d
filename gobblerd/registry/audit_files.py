"""The files of one version, or of a span of it, as an audit looks at them: bytes against what is noted.

The manifest is read window by window, so that a version of a million files takes no more memory than some
hundred thousand of them do. Each fault rests on evidence of its own: the manifest and the file that it is
about. What was right at the first look is not read again at the second, unless it changed.
"""

import contextlib
import itertools
import os
import stat
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from gobblerd.domain.errors import Wrong
from gobblerd.domain.links import is_proper_path
from gobblerd.domain.manifest import Entry
from gobblerd.domain.names import Address
from gobblerd.registry import documents, layout
from gobblerd.registry.audit_findings import Collector, Kind
from gobblerd.registry.audit_terms import Span, Terms
from gobblerd.registry.copying import Digest
from gobblerd.registry.flaws import Flaw, differences, read_entries
from gobblerd.registry.meter import Tick
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.registry.symlinks import Surroundings, WhitelistedTarget, aliases
from gobblerd.registry.tree import NOTHING, digest_at, digest_files, stamp_at

T = TypeVar("T")
WINDOW = 200_000  # files of which what is noted is held at once
_ENTRY_BYTES = 60  # of a manifest, at the least

Stamps = tuple[Stamp | None, Stamp | None]  # of manifest and fast checksums


@dataclass(slots=True)
class _Seen:
    """What a look at one window gave: a sum over the files that were right, and what the others hold."""

    right: int = 0
    wrong: dict[str, tuple[int, Digest | str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Window:
    """What is noted of the files of a window, and what is to be read of them."""

    entries: Mapping[str, Entry]
    fast: Mapping[str, str]
    evidence: Stamps
    sums: dict[str, int] = field(default_factory=dict)  # by path, of whatever a file's being right rests on
    plain: list[SourceFile] = field(default_factory=list)
    targets: dict[str, str] = field(default_factory=dict)  # links to whitelisted files: where they are


class FilesCheck:
    """Looks at the files of a span, again and again if need be."""

    def __init__(self, terms: Terms, version: Address, tick: Tick, span: Span) -> None:
        self._terms = terms
        self._version = version
        self._root = terms.metadata.path(str(version))
        self._tick = tick
        self._span = span
        metadata = terms.metadata
        self._surroundings = Surroundings(aliases(self._root), aliases(metadata.root), terms.whitelist)
        self._seen: dict[str, _Seen] = {}
        self.newest = 0  # when any of the files last changed, in nanoseconds

    def look(self, collector: Collector) -> None:
        """Add every file whose bytes are not those that are noted."""
        for span in self._windows():
            self._look_at(span, collector)  # a window is gone before the next one is read

    def _look_at(self, span: Span, collector: Collector) -> None:
        window = self._window(span, collector)
        self._find(window)
        if self._terms.fast:
            self._check_sizes(window, collector)
        else:
            self._check_bytes(span, window, collector)

    # -- what is noted ---------------------------------------------------------------------------------

    def _windows(self) -> Iterator[Span]:
        """Cut the span where more files are listed than are held at once."""
        manifest = self._stamp(layout.MANIFEST)
        if manifest is None or manifest.size <= WINDOW * _ENTRY_BYTES:
            yield self._span
            return
        none: list[str] = []
        paths = sorted(self._read(layout.MANIFEST, documents.read_paths, none))
        paths = [path for path in paths if self._span.holds(path)]
        begins = [self._span.begin, *paths[WINDOW::WINDOW]]
        del paths
        for begin, end in zip(begins, [*begins[1:], self._span.end], strict=True):
            yield Span(begin, end)

    def _window(self, span: Span, collector: Collector) -> _Window:
        evidence = self._stamp(layout.MANIFEST), self._stamp(layout.CHECKSUMS)
        none: Mapping[str, Entry] = {}
        entries = self._read(layout.MANIFEST, lambda data: _entries(data, span), none)
        window = _Window(entries, self._fast_checksums(span, collector), evidence)
        for path in window.fast:
            entry = window.entries.get(path)
            if entry is None or entry.is_directory:
                found = NOTHING if entry is None else "an empty directory"
                collector.fault(self._full(path), Kind.CHECKSUMS, "a file in the manifest", found, evidence)
        return window

    def _fast_checksums(self, span: Span, collector: Collector) -> Mapping[str, str]:
        """Return the fast checksums; those that cannot be read are a fault of the span that has the rest."""
        path = self._full(layout.CHECKSUMS)
        try:
            data = self._terms.metadata.read(path)
            noted = {} if data is None else documents.read_checksums(data)
        except (OSError, documents.Unreadable) as error:
            if span.has_rest:
                evidence = (self._stamp(layout.CHECKSUMS),)
                collector.fault(path, Flaw.UNREADABLE, "fast checksums", error, evidence)
            return {}
        return noted if span.is_whole else {path: noted[path] for path in noted if span.holds(path)}

    def _read(self, name: str, parse: Callable[[bytes], T], otherwise: T) -> T:
        """Parse a document; what is wrong with it is reported with the rest of the version."""
        try:
            data = self._terms.metadata.read(self._full(name))
            return otherwise if data is None else parse(data)
        except (OSError, documents.Unreadable):
            return otherwise

    def _stamp(self, name: str) -> Stamp | None:
        return stamp_at(f"{self._root}/{name}")

    def _full(self, path: str) -> str:
        return layout.join(str(self._version), path)

    # -- what is there ---------------------------------------------------------------------------------

    def _find(self, window: _Window) -> None:
        """Find the files whose bytes count; what is missing or something else is reported with the rest."""
        for path, entry in window.entries.items():
            if entry.link is not None or entry.is_directory or not is_proper_path(path):
                continue
            try:
                self._find_one(path, window)
            except OSError:
                continue

    def _find_one(self, path: str, window: _Window) -> None:
        full = f"{self._root}/{path}"
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            resolved = self._resolved(path, os.readlink(full))
            if resolved is None:
                return
            status = os.stat(resolved)
            window.targets[path] = resolved
        elif stat.S_ISREG(status.st_mode):
            window.plain.append(SourceFile(path, status.st_size))
        else:
            return
        self.newest = max(self.newest, status.st_ctime_ns)
        entry, fast = window.entries[path], window.fast.get(path)
        stamp = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        window.sums[path] = hash((path, stamp, entry.size, entry.md5sum, fast))

    def _resolved(self, path: str, text: str) -> str | None:
        try:
            target = self._surroundings.target(path, text) if text.startswith("/") else None
        except Wrong:
            return None
        return target.resolved if isinstance(target, WhitelistedTarget) else None

    def _check_sizes(self, window: _Window, collector: Collector) -> None:
        sizes = {file.path: file.size for file in window.plain}
        for path, resolved in window.targets.items():
            with contextlib.suppress(OSError):
                sizes[path] = os.stat(resolved).st_size
        for path, size in sizes.items():
            expected = window.entries[path].size
            if size != expected:
                evidence = (*window.evidence, window.sums[path])
                collector.fault(self._full(path), Flaw.SIZE, expected, size, evidence)

    def _check_bytes(self, span: Span, window: _Window, collector: Collector) -> None:
        """Read what was not read before, or was not right, or is not as it was."""
        before = self._seen.get(span.begin, _Seen())
        is_as_before = span.begin in self._seen and before.right == _sum(window, before.wrong)
        chosen = before.wrong.keys() if is_as_before else window.sums.keys()
        known = {p: digest for p, (rests, digest) in before.wrong.items() if window.sums.get(p) == rests}
        seen = _Seen()
        for path, digest in itertools.chain(known.items(), self._digests(window, chosen - known.keys())):
            if self._report(path, digest, window, collector):
                seen.wrong[path] = window.sums[path], digest
        seen.right = _sum(window, seen.wrong)
        self._seen[span.begin] = seen

    def _report(self, path: str, digest: Digest | str, window: _Window, collector: Collector) -> bool:
        """Add what is wrong with a file; tell whether anything is."""
        fast = None if path in window.targets else window.fast.get(path)
        of_file = digest.stamp if isinstance(digest, Digest) else (digest, window.sums[path])
        wrong = list(differences(digest, window.entries[path], fast))
        for flaw, expected, found in wrong:
            collector.fault(self._full(path), flaw, expected, found, (*window.evidence, of_file))
        return bool(wrong)

    def _digests(self, window: _Window, chosen: Container[str]) -> Iterator[tuple[str, Digest | str]]:
        yield from digest_files(
            self._root, [file.path for file in window.plain if file.path in chosen], self._tick
        )
        for path, resolved in window.targets.items():
            if path in chosen:
                yield path, digest_at(resolved, path, self._tick)


def _sum(window: _Window, wrong: Container[str]) -> int:
    return sum(each for path, each in window.sums.items() if path not in wrong)


def _entries(data: bytes, span: Span) -> Mapping[str, Entry]:
    """Return the entries of a span, those that can be read."""
    try:
        return documents.read_manifest_where(data, span.holds)
    except documents.Unreadable:
        return {path: entry for path, entry in read_entries(data)[0].items() if span.holds(path)}
