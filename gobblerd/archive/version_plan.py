"""The plan of an archive of a version: what its manifest lists, its `..manifest` and `..summary`.

Every member has the time of the version's `upload_finish`, whatever times the files have on disk: otherwise
the same version would give other bytes after a copy of the registry.
"""

import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from gobblerd.archive.checked_files import File, RegistryOpener, Text
from gobblerd.archive.members import COMPONENT_MAX_BYTES, EXECUTABLE_MODE, FILE_MODE, NameOf, check_prefix
from gobblerd.archive.plan import Excluded, Extra, Plan, Planned, arranged, planned_extras
from gobblerd.archive.receipt import Links
from gobblerd.domain.errors import Absent, Fault, Invalid
from gobblerd.domain.links import is_proper, is_proper_path
from gobblerd.domain.manifest import Entry, FileAddress
from gobblerd.domain.names import Address, check_existing_name
from gobblerd.domain.times import NANOSECONDS
from gobblerd.registry import documents, layout
from gobblerd.registry.metadata import Metadata

LINKED = "linked"  # where `bundle_links` puts what links out of the version lead to


@dataclass(frozen=True, slots=True)
class Version:
    """A version in a registry on this machine's disks.

    `whitelist` are the directories whose files absolute symbolic links may lead to (their bytes are checked
    like all others); None: any, as far as whoever runs this may read.
    """

    registry: str
    project: str
    asset: str
    version: str
    whitelist: Sequence[str] | None = None

    @property
    def address(self) -> Address:
        """The version within its registry."""
        return Address(self.project, self.asset, self.version)


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller wants of an archive; the same for every source."""

    prefix: str | None = None
    name_of: NameOf | None = None
    links: Links = "files"
    excludes: tuple[str, ...] = ()
    extras: tuple[Extra, ...] = ()
    clamp_mtime: int | None = None


def default_prefix(place: Address) -> str:
    """Return what the top directory of a version's archive is called: `project_asset_version`.

    Where that is longer than a name may be, the version's name alone.
    """
    name = "_".join(place)
    return check_prefix(name if len(name.encode()) <= COMPONENT_MAX_BYTES else place.version)


def plan_version(version: Version, wish: Wish) -> Plan:
    """Read the version's documents and plan its archive.

    Absent if there is no such version, Fault where its documents cannot be read, Invalid where they say what
    cannot be, Wrong for what cannot be archived.
    """
    return _Planning(version, wish).plan()


@dataclass(slots=True)
class _Planning:
    version: Version
    wish: Wish
    metadata: Metadata = field(init=False)
    manifest: dict[str, Entry] = field(init=False)
    replaced: list[str] = field(default_factory=list)

    def plan(self) -> Plan:
        place, wish = self._place(), self.wish
        prefix = check_prefix(wish.prefix) if wish.prefix is not None else default_prefix(place)
        texts = {name: self._text(name) for name in (layout.MANIFEST, layout.SUMMARY)}
        try:
            self.manifest = documents.read_manifest(texts[layout.MANIFEST])
            finish = documents.read_summary(texts[layout.SUMMARY]).finish // NANOSECONDS
        except documents.Unreadable as error:
            raise Fault(
                "the documents of {place} cannot be read: {error}", place=str(place), error=str(error)
            ) from None
        mtime = max(0, finish if wish.clamp_mtime is None else min(finish, wish.clamp_mtime))
        listed = {path: entry for path, entry in self.manifest.items() if path not in Excluded(wish.excludes)}
        members = [
            *(
                Planned(f"{prefix}/{name}", "file", mtime, len(data), FILE_MODE, Text(data))
                for name, data in texts.items()
            ),
            *self._members(listed, prefix, mtime),
            *planned_extras(wish.extras, prefix, mtime),
        ]
        return Plan(
            members=arranged(members, prefix, {}, mtime),
            opener=RegistryOpener(self.version.registry, self.version.whitelist),
            prefix=prefix,
            links=wish.links,
            excludes=wish.excludes,
            added=tuple(extra.path for extra in wish.extras),
            replaced=tuple(self.replaced),
            clamp_mtime=mtime,
            place=place,
            left_out=tuple(sorted(self.manifest.keys() - listed.keys(), key=str.encode)),
        )

    def _place(self) -> Address:
        place = self.version.address
        for level, name in zip(
            ("project", "asset", "version"), (place.project, place.asset, place.version), strict=True
        ):
            check_existing_name(level, name)
        self.metadata = Metadata(self.version.registry)
        if not self.metadata.has(place):
            raise Absent("there is no version {place} in the registry", place=str(place))
        return place

    def _text(self, name: str) -> bytes:
        path = layout.in_place(self.version.address, name)
        data = self.metadata.read(path)
        if data is None:
            raise Fault("{path} is missing", path=path)
        return data

    def _members(self, listed: dict[str, Entry], prefix: str, mtime: int) -> Iterator[Planned]:
        names = {path: f"{prefix}/{self._name_of(path)}" for path in listed}
        checksums = self.metadata.checksums(self.version.address)
        bundled: dict[str, Planned] = {}
        for path, entry in listed.items():
            name = names[path]
            if entry.is_directory:
                yield Planned(name, "directory", mtime, mode=EXECUTABLE_MODE)
            elif (end := self._link_end(path, entry, names, bundled, prefix, mtime)) is not None:
                target = posixpath.relpath(end, posixpath.dirname(name))
                yield Planned(name, "link", mtime, mode=EXECUTABLE_MODE, target=target)
            else:
                self.replaced += [path] if entry.link is not None else []
                yield Planned(
                    name, "file", mtime, entry.size, content=self._file(path, entry, checksums.get(path))
                )
        yield from bundled.values()

    def _name_of(self, path: str) -> str:
        if not is_proper_path(path):
            raise Invalid("the manifest of {place} lists {path}", place=str(self.version.address), path=path)
        if self.wish.name_of is None:
            return path
        return self.wish.name_of(self.metadata.path(str(self.version.address), path))

    def _file(self, path: str, entry: Entry, xxh128: str | None) -> File:
        if entry.link is None:
            return File(f"{self.version.address}/{path}", entry.md5sum, xxh128 or "")
        target = entry.link.target
        if not is_proper(target):
            raise Invalid("{path} links to {target}, which cannot be", path=path, target=str(target))
        return File(str(target), entry.md5sum)

    def _link_end(
        self,
        path: str,
        entry: Entry,
        names: dict[str, str],
        bundled: dict[str, Planned],
        prefix: str,
        mtime: int,
    ) -> str | None:
        """Return the member that this one becomes a link to; None if it becomes a file."""
        if entry.link is None or self.wish.links == "files":
            return None
        within = self._within(path, entry, names)
        if within is not None:
            return names[within]
        if self.wish.links == "preserve":
            return None
        end = f"{prefix}/{LINKED}/{entry.link.target}"
        content = self._file(path, entry, None)
        bundled.setdefault(end, Planned(end, "file", mtime, entry.size, content=content))
        return end

    def _within(self, path: str, entry: Entry, names: dict[str, str]) -> str | None:
        """Return the path in this version that an entry links to, the nearest first; None if there is none.

        Invalid where the links of a damaged manifest go round.
        """
        seen = {path}
        first = at = self._nearest(entry, names)
        while at is not None:
            if at in seen:
                raise Invalid("the link {path} leads back to itself", path=path)
            seen.add(at)
            at = self._nearest(self.manifest[at], names)
        return first

    def _nearest(self, entry: Entry, names: dict[str, str]) -> str | None:
        if entry.link is None:
            return None
        files: Iterable[FileAddress] = (entry.link.parent, entry.link.target)
        here = (file.path for file in files if file.place == self.version.address and file.path in names)
        return next((found for found in here if not self.manifest[found].is_directory), None)
