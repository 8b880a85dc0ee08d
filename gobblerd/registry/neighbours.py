"""The other versions that a new version links to, as they were read unlocked, to be looked at again later."""

import functools
import os
from collections.abc import Collection, Iterable, Mapping, Sequence

import xxhash

from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.domain.manifest import Entry, FileAddress
from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.copying import READ_LINKED, Digest, fast_checksum
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.source import Stamp, Survey
from gobblerd.storage.batches import ANYBODY, places, read_files
from gobblerd.storage.files import HERE


class GoneError(Exception):
    """Versions that were linked to are not what they were; `versions` says which."""

    def __init__(self, versions: Collection[Address]) -> None:
        super().__init__(", ".join(map(str, sorted(versions))))
        self.versions = frozenset(versions)


class Neighbours:
    """The versions that a new version links to, as they were read, and whether they still are."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._manifests: dict[Address, dict[str, Entry]] = {}
        self._stamps: dict[Address, Stamp] = {}

    def manifest(self, version: Address) -> dict[str, Entry]:
        """Return the manifest of a living version that is not on probation.

        Raises Absent where there is no such version, Wrong where it is on probation.
        """
        if version not in self._manifests:
            try:
                self._read(version)
            except Fault:
                self._require_present(version)  # deleted while it was read: that is no fault
                raise
        return self._manifests[version]

    def _read(self, version: Address) -> None:
        self._require_linkable(version)
        stamp = self._stamp(version)
        self._manifests[version] = self._metadata.manifest(version)
        self._stamps[version] = stamp

    def check(self, versions: Iterable[Address]) -> None:
        """Raise GoneError with all of the versions that are gone, changed or on probation by now."""
        gone = {version for version in versions if not self._is_same(version)}
        if gone:
            raise GoneError(gone)

    def _is_same(self, version: Address) -> bool:
        try:
            self._require_linkable(version)
            return version not in self._stamps or self._stamp(version) == self._stamps[version]
        except (Absent, Wrong, Fault, OSError):
            return False

    def forget(self, version: Address) -> None:
        """Read the version afresh when it is next asked for."""
        self._manifests.pop(version, None)
        self._stamps.pop(version, None)

    def _require_present(self, version: Address) -> None:
        if not self._metadata.has(version):
            raise Absent("there is no version {version} in the registry", version=str(version))

    def _require_linkable(self, version: Address) -> None:
        self._require_present(version)
        if self._metadata.summary(version).on_probation:
            raise Wrong("the version {version} is on probation", version=str(version))

    def _stamp(self, version: Address) -> Stamp:
        path = layout.in_place(version, layout.MANIFEST)
        try:
            return Stamp.of(os.lstat(self._metadata.path(path)))
        except FileNotFoundError:
            raise Fault("{path} is missing", path=path) from None


class Candidates:
    """The files of the latest version that an uploaded file may equal, by size and MD5."""

    def __init__(self, root: str, latest: Address | None, neighbours: Neighbours) -> None:
        self._root = root
        self._latest = latest
        self._neighbours = neighbours

    @functools.cached_property
    def _by_size(self) -> dict[int, dict[str, str]]:
        """Paths by size and MD5; made when the first file is asked about, and a source may have none."""
        found: dict[int, dict[str, str]] = {}
        manifest = _manifest_or_none(self._latest, self._neighbours)
        for path in sorted(manifest):  # of several equal files, the first by path
            entry = manifest[path]
            if entry.md5sum:
                equal = found.setdefault(entry.size, {})
                equal.setdefault(entry.md5sum, path)
        return found

    def has(self, size: int) -> bool:
        """Tell whether any candidate has this size; where none has, nothing needs to be hashed first."""
        return size in self._by_size

    def equal(self, digest: Digest) -> FileAddress | None:
        """Return the file that has these bytes, if it really still has them: rot must not spread."""
        path = self._by_size.get(digest.size, {}).get(digest.md5sum)
        if path is None or self._latest is None:
            return None
        file = FileAddress.of(self._latest, path)
        try:
            sound = fast_checksum(f"{self._root}/{file}") == (digest.size, digest.xxh128)
        except OSError:
            sound = False
        return file if sound else None

    def equals(self, digests: Sequence[Digest], spare: memoryview | None = None) -> list[FileAddress | None]:
        """Return for each digest what `equal` does; a `spare` has room for all of these files together."""
        if self._latest is None or not any(digest.size in self._by_size for digest in digests):
            return [None] * len(digests)
        likely = [self._by_size.get(digest.size, {}).get(digest.md5sum) for digest in digests]
        wanted = {path: digest for path, digest in zip(likely, digests, strict=True) if path is not None}
        size = sum(digest.size for digest in wanted.values())
        there = self._fast_checksums(wanted, memoryview(bytearray(size)) if spare is None else spare)
        return [
            FileAddress.of(self._latest, path) if path and there.get(path) == digest.xxh128 else None
            for path, digest in zip(likely, digests, strict=True)
        ]

    def _fast_checksums(self, wanted: Mapping[str, Digest], spare: memoryview) -> Mapping[str, str]:
        """Return the fast checksums of those files of the latest version that still have their size."""
        top = f"{self._root}/{self._latest}"
        pieces = [(HERE, f"{top}/{path}", digest.size) for path, digest in wanted.items()]
        stamps = read_files(pieces, spare, READ_LINKED | os.O_NOATIME, ANYBODY)  # a look is no access
        return {
            path: xxhash.xxh3_128_hexdigest(place)
            for path, piece, place, stamp in zip(wanted, pieces, places(pieces, spare), stamps, strict=True)
            if stamp or read_files([piece], place, READ_LINKED, ANYBODY)[0]  # others' files note each reading
        }

    def surely_new(self, survey: Survey) -> int:
        """Return the bytes of a survey that no duplicate can save, known before anything is read."""
        return sum(file.size for file in survey.files if file.size not in self._by_size)


def _manifest_or_none(latest: Address | None, neighbours: Neighbours) -> dict[str, Entry]:
    """Return the latest version's manifest; a damaged one only costs the duplicates."""
    try:
        return neighbours.manifest(latest) if latest else {}
    except (Absent, Wrong, Fault):
        return {}
