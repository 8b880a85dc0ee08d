"""Every link of the registry into places that are to be deleted, and the chains that those links are part of.

A scan needs no lock: it keeps each manifest's stamp, and `refresh` reads again only what changed since. Of
a manifest only the links that lose something are kept in memory.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from gobblerd.domain.errors import Fault
from gobblerd.domain.links import Doomed, is_proper
from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.domain.names import ROOT, Address
from gobblerd.registry import layout
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.source import Stamp
from gobblerd.registry.tree import stamp_at
from gobblerd.storage.files import opened, read_all

_READ = os.O_RDONLY | os.O_CLOEXEC


class LinkEntry(msgspec.Struct, frozen=True, gc=False):
    """As much of a manifest entry as links need."""

    size: int | None = None
    link: Link | None = None


_Entries = Mapping[str, LinkEntry]
_DECODER = msgspec.json.Decoder(dict[str, LinkEntry])
_NONE: _Entries = {}


@dataclass(frozen=True, slots=True)
class _Seen:
    """One version: its manifest's stamp, and its entries whose links lose something."""

    stamp: Stamp | None
    entries: _Entries = field(default_factory=dict)
    flaw: str = ""  # why the manifest cannot be read


class LinkScan:
    """The links into doomed places; see `refresh`."""

    def __init__(self, metadata: Metadata, doomed: Doomed) -> None:
        self._metadata = metadata
        self._doomed = doomed
        self._seen: dict[Address, _Seen] = {}
        # A manifest without any escape spells every name as it is.
        self._spelled = [f'"{project}"'.encode() for project in sorted(doomed.projects)]

    def refresh(self) -> bool:
        """Look at every version; tell whether any manifest came, went or changed since the last look."""
        before = self._seen
        self._seen = {version: self._look(version, before.get(version)) for version in self._versions()}
        if self._seen.keys() != before.keys():
            return True
        return any(seen is not before[version] for version, seen in self._seen.items())

    def stamp(self, version: Address) -> Stamp | None:
        """Return the stamp of a version's manifest as it was last looked at."""
        seen = self._seen.get(version)
        return seen.stamp if seen else None

    def affected(self) -> Iterator[tuple[FileAddress, Link, int]]:
        """Yield the links of living versions that lose their parent or ancestor, and their sizes."""
        for version, seen in self._seen.items():
            for path, entry in seen.entries.items():
                if entry.link is not None:
                    yield FileAddress.of(version, path), entry.link, entry.size or 0

    def require_readable(self) -> None:
        """Raise Fault for a manifest that cannot be read: nobody knows where its links go."""
        for version, seen in self._seen.items():
            if seen.flaw:
                path = layout.in_place(version, layout.MANIFEST)
                raise Fault("{path} cannot be read: {error}", path=path, error=seen.flaw)

    def look_up(self, files: set[FileAddress]) -> dict[FileAddress, Link | None]:
        """Return the links of those files that exist; each manifest is read once, and not kept."""
        found: dict[FileAddress, Link | None] = {}
        elsewhere: dict[Address, list[FileAddress]] = {}
        for file in files:
            seen = self._seen.get(file.place)
            if seen is not None and file.path in seen.entries:
                found[file] = seen.entries[file.path].link
            elif seen is not None and is_proper(file):
                elsewhere.setdefault(file.place, []).append(file)
        for version, wanted in elsewhere.items():
            entries = self._needed(version)
            found.update({file: entries[file.path].link for file in wanted if file.path in entries})
        return found

    def _needed(self, version: Address) -> _Entries:
        path = layout.in_place(version, layout.MANIFEST)
        try:
            data = self._metadata.read(path)
            return _DECODER.decode(data) if data is not None else _NONE
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
            raise Fault("{path} cannot be read: {error}", path=path, error=str(error)) from None

    # -- looking ---------------------------------------------------------------------------------------

    def _versions(self) -> Iterator[Address]:
        for project in self._children(ROOT):
            for asset in self._children(project):
                yield from self._children(asset)

    def _children(self, place: Address) -> list[Address]:
        try:
            return self._metadata.children(place)
        except (FileNotFoundError, NotADirectoryError):  # gone since it was listed
            return []

    def _look(self, version: Address, before: _Seen | None) -> _Seen:
        path = f"{self._metadata.root}/{version}/{layout.MANIFEST}"
        if version in self._doomed:  # changes no more, but may be passed by chains
            return _same(before, _Seen(stamp_at(path)))
        if before is not None and before.stamp is not None and before.stamp == stamp_at(path):
            return before
        return _same(before, self._read(path))

    def _read(self, path: str) -> _Seen:
        try:
            with opened(path, _READ) as fd:
                status = os.fstat(fd)
                data = read_all(fd, status.st_size)
        except FileNotFoundError:
            return _Seen(None, flaw="it is missing")
        except OSError as error:
            return _Seen(None, flaw=error.strerror or "unknown")
        stamp = Stamp.of(status)
        try:
            return _Seen(stamp, self._losing(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _Seen(stamp, flaw=str(error))

    def _losing(self, data: bytes) -> _Entries:
        """Return the entries whose links lose something; most manifests are known not to have any unparsed.

        One that was cut short or never written is parsed, and so found out.
        """
        is_plain = data.endswith((b"}", b"}\n")) and b"\\" not in data
        if is_plain and not any(name in data for name in self._spelled):
            return _NONE
        return {
            path: entry
            for path, entry in _DECODER.decode(data).items()
            if entry.link is not None and self._doomed.takes(entry.link)
        }


def _same(before: _Seen | None, now: _Seen) -> _Seen:
    return before if before == now and before is not None else now
