"""Every link of the registry into places that are to be deleted, and the chains that those links are part of.

A scan needs no lock: it keeps each manifest's stamp, and `refresh` reads again only what changed since. Of
a manifest only the links that lose something are kept in memory.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

from gobblerd.domain.errors import Fault
from gobblerd.domain.links import Doomed, is_proper
from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.manifests import Found, ManifestStamp, Versions, read_stamped
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.sums import Links, Target, are_unchanged, links_at, stamps_at


class LinkEntry(msgspec.Struct, frozen=True, gc=False):
    """As much of a manifest entry as links need."""

    size: int | None = None
    link: Link | None = None


_Entries = Mapping[str, LinkEntry]
_DECODER = msgspec.json.Decoder(dict[str, LinkEntry])
_NONE: _Entries = {}


class _Seen(msgspec.Struct, gc=False):
    """One version: its manifest's stamp, and its entries whose links lose something."""

    found: Found
    stamp: ManifestStamp | None
    entries: _Entries = msgspec.field(default_factory=lambda: _NONE)
    flaw: str = ""  # why the manifest cannot be read

    @property
    def version(self) -> Address:
        """Its address."""
        return Address(*self.found[:3])


class LinkScan:
    """The links into doomed places; see `refresh`."""

    def __init__(self, metadata: Metadata, doomed: Doomed) -> None:
        self._metadata = metadata
        self._doomed = doomed
        self._seen: dict[str, _Seen] = {}  # by the manifest's path
        self._versions = Versions(metadata.root, tolerant=True)
        self._losing_links: dict[Target, Link | None] = {}  # each made once; None: it loses nothing
        # A manifest without any escape spells every name as it is.
        spelled = (f'"{project}"'.encode() for project in sorted(doomed.projects))
        self._mention = re.compile(b"|".join(map(re.escape, spelled)) or rb"(?!)")

    def refresh(self) -> bool:
        """Look at every version; tell whether any manifest came, went or changed since the last look."""
        before = self._seen
        if before and self._is_unchanged():
            return False
        self._seen = self._looked_again(before) if before else self._looked_first()
        if self._seen.keys() != before.keys():
            return True
        return any(seen is not before[path] for path, seen in self._seen.items())

    def _is_unchanged(self) -> bool:
        """Tell whether the same versions are there, each with the manifest that was read."""
        paths = [found[-1] for found in self._found()]
        if len(paths) != len(self._seen):
            return False
        seen = map(self._seen.get, paths)
        stamps = [each.stamp for each in seen if each is not None and each.stamp is not None]
        return len(stamps) == len(paths) and are_unchanged(paths, stamps)

    def _looked_first(self) -> dict[str, _Seen]:
        doomed: list[Found] = []  # change no more, but may be passed by chains

        def living() -> Iterator[Found]:
            projects = self._doomed.projects
            for each in self._found():
                if each[0] in projects and Address(*each[:3]) in self._doomed:
                    doomed.append(each)
                else:
                    yield each

        looked = links_at(living(), self._doomed.projects, self._looked)
        seen = {each.found[-1]: each for each in looked}
        stamps = stamps_at([each[-1] for each in doomed])
        seen.update({each[-1]: _Seen(each, at) for each, at in zip(doomed, stamps, strict=True)})
        return seen

    def _looked_again(self, before: Mapping[str, _Seen]) -> dict[str, _Seen]:
        found: list[Found] = []
        known: list[str] = []

        def paths() -> Iterator[str]:
            for each in self._found():
                found.append(each)
                if each[-1] in before or Address(*each[:3]) in self._doomed:
                    known.append(each[-1])
                    yield each[-1]

        stamps = dict(zip(known, stamps_at(paths()), strict=True))
        seen: dict[str, _Seen] = {}
        changed: list[Found] = []
        for each in found:
            path = each[-1]
            old, stamp = before.get(path), stamps.get(path)
            if old is not None and stamp is not None and old.stamp == stamp:
                seen[path] = old
            elif Address(*each[:3]) in self._doomed:
                seen[path] = _same(old, _Seen(each, stamp))
            else:
                changed.append(each)
        for now in links_at(changed, self._doomed.projects, self._looked):
            path = now.found[-1]
            seen[path] = _same(before.get(path), now)
        return seen

    def stamp(self, version: Address) -> ManifestStamp | None:
        """Return the stamp of a version's manifest as it was last looked at."""
        seen = self._seen.get(self.path(version))
        return seen.stamp if seen else None

    def path(self, version: Address | FileAddress) -> str:
        """Return the absolute path of a version's manifest."""
        return f"{self._metadata.root}/{version.project}/{version.asset}/{version.version}/{layout.MANIFEST}"

    def affected(self) -> Iterator[tuple[Found, str, Link, int]]:
        """Yield the links that lose their parent or ancestor: living version, path in it, link, size."""
        for seen in self._seen.values():
            for path, entry in seen.entries.items():
                if entry.link is not None:
                    yield seen.found, path, entry.link, entry.size or 0

    def require_readable(self) -> None:
        """Raise Fault for a manifest that cannot be read: nobody knows where its links go."""
        for seen in self._seen.values():
            if seen.flaw:
                path = layout.in_place(seen.version, layout.MANIFEST)
                raise Fault("{path} cannot be read: {error}", path=path, error=seen.flaw)

    def look_up(self, files: set[FileAddress]) -> dict[FileAddress, Link | None]:
        """Return the links of those files that exist; each manifest is read once, and not kept."""
        found: dict[FileAddress, Link | None] = {}
        elsewhere: dict[Address, list[FileAddress]] = {}
        for file in files:
            seen = self._seen.get(self.path(file))
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

    def _found(self) -> Iterator[Found]:
        return self._versions.below(self._versions.projects())

    def _looked(self, version: Found, links: Links | None) -> _Seen:
        """Return what the extension found in a manifest, or what the parser finds."""
        if links is None:
            return self._read(version)
        stamp, found = links
        if not found:
            return _Seen(version, stamp)
        entries: dict[str, LinkEntry] = {}
        for name, size, target in found:
            link = self._link(target)
            if link is not None:
                entries[name] = LinkEntry(size, link)
        return _Seen(version, stamp, entries)

    def _link(self, target: Target) -> Link | None:
        """Return the link to these places if it loses something; one object for nearly all that are equal."""
        known = self._losing_links
        if target in known:
            return known[target]
        project, asset, version, path, ancestor = target
        link = Link(project, asset, version, path, FileAddress(*ancestor) if ancestor else None)
        known[target] = link if self._doomed.takes(link) else None
        return known[target]

    def _read(self, version: Found) -> _Seen:
        try:
            stamp, data = read_stamped(version[-1])
        except FileNotFoundError:
            return _Seen(version, None, flaw="it is missing")
        except OSError as error:
            return _Seen(version, None, flaw=error.strerror or "unknown")
        try:
            return _Seen(version, stamp, self._losing(data))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _Seen(version, stamp, flaw=str(error))

    def _losing(self, data: bytes) -> _Entries:
        """Return the entries whose links lose something; most manifests are known not to have any unparsed.

        One that was cut short or never written is parsed, and so found out.
        """
        if not self._mention.search(data) and b"\\" not in data and data.endswith((b"}", b"}\n")):
            return _NONE
        takes = self._doomed.takes
        linked = [item for item in _DECODER.decode(data).items() if item[1].link is not None]
        return {path: entry for path, entry in linked if entry.link is not None and takes(entry.link)}


def _same(before: _Seen | None, now: _Seen) -> _Seen:
    return before if before == now and before is not None else now
