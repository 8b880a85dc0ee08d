"""Making a version out of a source, unlocked, in a transaction's directory.

Each file is read once: its bytes are hashed and written from the same buffer, or found to equal a file of
the asset's latest version and linked to it. What was read of other versions is kept by `Neighbours`, to be
looked at again when the commit holds its locks.
"""

import contextlib
import itertools
import os
import posixpath
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from gobblerd.domain.errors import Absent, Exceeded, Fault, Wrong
from gobblerd.domain.manifest import Entry, FileAddress, link_to, links_by_directory, stored_bytes
from gobblerd.domain.names import Address
from gobblerd.registry import documents, layout
from gobblerd.registry.copying import (
    IN_MEMORY,
    Digest,
    copy_file,
    digest_file,
    digest_of_bytes,
    fast_checksum,
    read_file,
    write_new,
)
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.settling import Settling
from gobblerd.registry.source import Source, SourceFile, Stamp, Survey, changed
from gobblerd.registry.symlinks import LocalTarget, Surroundings, WhitelistedTarget, link_text
from gobblerd.storage.files import DIRECTORY_MODE, READ_DIRECTORY, Durability, opened, write_file
from gobblerd.storage.sync import TreeSync

Progress = Callable[[int, int], None]  # bytes done, bytes in all; raises to cancel

SYMLINK_MAX_BYTES = 4095  # what Linux keeps of a symbolic link's text


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
            return Stamp.of(os.stat(self._metadata.path(path)))
        except FileNotFoundError:
            raise Fault("{path} is missing", path=path) from None


@dataclass
class Staged:
    """A version in the making: its tree lies at `path` and is complete but for the summary."""

    path: str
    manifest: dict[str, Entry] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Stamp] = field(default_factory=dict)  # source files whose bytes were stored
    duplicates: set[str] = field(default_factory=set)  # source files that became links
    noted: set[str] = field(default_factory=set)  # directories that have a `..links`

    def linked_versions(self, here: Address) -> set[Address]:
        """Return every other version that a link goes to, parents and ancestors."""
        files = ((e.link.parent, e.link.target) for e in self.manifest.values() if e.link)
        return {file.place for file in itertools.chain.from_iterable(files)} - {here}

    def linked_to(self, versions: Collection[Address]) -> set[str]:
        """Return the duplicates that are links to one of the versions."""
        links = ((path, self.manifest[path].link) for path in self.duplicates)
        return {path for path, link in links if link and {link.parent.place, link.target.place} & {*versions}}


class Ingest:
    """One upload's staging: from a surveyed source to a `Staged` version.

    Making one judges every symbolic link, before anything is copied: Wrong names one that is no good.
    """

    def __init__(
        self,
        version: Address,
        source: Source,
        survey: Survey,
        neighbours: Neighbours,
        surroundings: Surroundings,
        progress: Progress,
    ) -> None:
        self._version = version
        self._source = source
        self._survey = survey
        self._neighbours = neighbours
        self._progress = progress
        self._done = 0
        self._settling = Settling(version, neighbours.manifest, source.reader)
        self._targets = {path: surroundings.target(path, text) for path, text in survey.symlinks}
        self._elsewhere = self._settled_elsewhere()
        self._check_local_links()

    def surely_stored(self, candidates: "Candidates") -> int:
        """Return the bytes that will count for usage whatever the files hold."""
        return candidates.surely_new(self._survey) + stored_bytes(self._elsewhere)

    def stage(self, path: str, candidates: "Candidates", sync: TreeSync) -> Staged:
        """Make the version's tree at `path` (which must not exist), durable when this returns."""
        staged = Staged(path)
        os.mkdir(path, DIRECTORY_MODE)
        for directory in self._survey.directories:
            os.mkdir(f"{path}/{directory}", DIRECTORY_MODE)
        staged.manifest.update(dict.fromkeys(self._survey.empty, Entry()))
        self._take_files(self._survey.files, staged, candidates)
        self._settle(staged)
        self._write_symlinks(staged, sorted(staged.duplicates))
        self._write_metadata(staged)
        sync.sync(self._survey.count())
        return staged

    def restage(self, staged: Staged, gone: Collection[Address], sync: TreeSync) -> None:
        """Copy the duplicates that were links to versions that are gone by now, and settle links afresh.

        Wrong where a symbolic link of the source goes to such a version.
        """
        for version in gone:
            self._neighbours.forget(version)
        lost = staged.linked_to(gone)
        for path in (*lost, *self._targets):
            os.unlink(f"{staged.path}/{path}")
            del staged.manifest[path]
        staged.duplicates -= lost
        self._elsewhere = self._settled_elsewhere()
        files = [file for file in self._survey.files if file.path in lost]
        self._take_files(files, staged, Candidates("", None, self._neighbours))
        self._settle(staged)
        self._write_metadata(staged)
        sync.sync(self._survey.count())

    # -- files -----------------------------------------------------------------------------------------

    def _take_files(self, files: list[SourceFile], staged: Staged, candidates: "Candidates") -> None:
        by_directory = itertools.groupby(sorted(files, key=_place), key=lambda f: posixpath.dirname(f.path))
        for directory, group in by_directory:
            target = f"{staged.path}/{directory}" if directory else staged.path
            with (
                self._source.opened_directory(directory) as dir_fd,
                opened(target, READ_DIRECTORY) as target_fd,
            ):
                for file in group:
                    self._take_file(file, dir_fd, target_fd, staged, candidates)

    def _take_file(
        self, file: SourceFile, dir_fd: int, target_fd: int, staged: Staged, candidates: "Candidates"
    ) -> None:
        path, name = file.path, posixpath.basename(file.path)
        with self._source.opened_file(name, path, dir_fd) as fd:
            if os.fstat(fd).st_size != file.size:  # limits and quota were checked with that size
                raise changed(path)
            take = self._compare if candidates.has(file.size) else self._store
            digest, duplicate = take(fd, file, target_fd, candidates)
        entry = Entry(digest.size, digest.md5sum)
        if duplicate is None:
            staged.checksums[path] = digest.xxh128
            staged.stored[path] = digest.stamp
        else:
            original = self._neighbours.manifest(duplicate.place)[duplicate.path]
            entry = Entry(digest.size, digest.md5sum, link_to(duplicate, original))
            staged.duplicates.add(path)
        staged.manifest[path] = entry

    def _store(
        self, fd: int, file: SourceFile, target_fd: int, _: "Candidates"
    ) -> tuple[Digest, FileAddress | None]:
        name = posixpath.basename(file.path)
        if file.size > IN_MEMORY:
            return copy_file(fd, file.path, name, target_fd, self._tick), None
        data, stamp = read_file(fd, file.path)
        write_new(name, data, target_fd)
        self._tick(len(data))
        return digest_of_bytes(data, stamp), None

    def _compare(
        self, fd: int, file: SourceFile, target_fd: int, candidates: "Candidates"
    ) -> tuple[Digest, FileAddress | None]:
        """Store the file unless it equals a file of the latest version; return which."""
        name = posixpath.basename(file.path)
        if file.size > IN_MEMORY:
            digest = digest_file(fd, file.path, self._tick)
            duplicate = candidates.equal(digest)
            if duplicate is None:
                digest = copy_file(fd, file.path, name, target_fd, lambda _: self._tick(0))
            return digest, duplicate
        data, stamp = read_file(fd, file.path)
        digest = digest_of_bytes(data, stamp)
        duplicate = candidates.equal(digest)
        if duplicate is None:
            write_new(name, data, target_fd)
        self._tick(len(data))
        return digest, duplicate

    def _tick(self, size: int) -> None:
        self._done += size
        self._progress(self._done, self._survey.size)

    # -- links -----------------------------------------------------------------------------------------

    def _settled_elsewhere(self) -> dict[str, Entry]:
        """Return the entries of links out of the source; their parents and ancestors are alive."""
        elsewhere = {p: t for p, t in self._targets.items() if not isinstance(t, LocalTarget)}
        entries: dict[str, Entry] = {}
        self._settling.settle(elsewhere, entries)
        for path, entry in entries.items():
            ancestor = entry.link.ancestor if entry.link else None
            if ancestor is not None and not self._is_alive(ancestor):
                raise Wrong(
                    "the symbolic link {path} goes to a link to {ancestor}, which is no more",
                    path=path,
                    ancestor=str(ancestor),
                )
        return entries

    def _is_alive(self, file: FileAddress) -> bool:
        try:
            return file.path in self._neighbours.manifest(file.place)
        except (Absent, Wrong):
            return False

    def _check_local_links(self) -> None:
        """Raise Wrong for a link that goes to nothing in the source, or round in a circle."""
        some = Entry(1, "not known yet")
        manifest = dict.fromkeys([*(file.path for file in self._survey.files), *self._elsewhere], some)
        self._settling.settle(self._targets, manifest)

    def _settle(self, staged: Staged) -> None:
        """Add the entries of all symbolic links, and make them."""
        staged.manifest.update(self._elsewhere)
        self._settling.settle(self._targets, staged.manifest)
        self._write_symlinks(staged, self._targets)

    def _write_symlinks(self, staged: Staged, paths: Iterable[str]) -> None:
        for path in paths:
            os.symlink(self._text(path, staged.manifest[path]), f"{staged.path}/{path}")

    def _text(self, path: str, entry: Entry) -> str:
        """Return what the symbolic link on disk is to say."""
        if entry.link is None:
            target = self._targets[path]
            assert isinstance(target, WhitelistedTarget)
            return target.path
        text = link_text(FileAddress.of(self._version, path), entry.link)
        if len(text.encode()) > SYMLINK_MAX_BYTES:
            raise Exceeded(
                "the symbolic link {path} would be longer than {most} bytes",
                path=path,
                most=SYMLINK_MAX_BYTES,
            )
        return text

    # -- metadata --------------------------------------------------------------------------------------

    def _write_metadata(self, staged: Staged) -> None:
        """Write `..manifest`, `..checksums` and every `..links` of a staged tree, over older ones."""
        links = links_by_directory(staged.manifest)
        texts = {layout.links_file(directory): documents.links_bytes(links[directory]) for directory in links}
        texts[layout.MANIFEST] = documents.manifest_bytes(staged.manifest)
        texts[layout.CHECKSUMS] = documents.checksums_bytes(staged.checksums)
        for path in {*texts, *map(layout.links_file, staged.noted)}:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{staged.path}/{path}")
        for path, data in texts.items():
            write_file(f"{staged.path}/{path}", data, Durability.PROCESS)  # durable with the tree
        staged.noted = set(links)


def _place(file: SourceFile) -> tuple[str, str]:
    return posixpath.split(file.path)


class Candidates:
    """The files of the latest version that an uploaded file may equal, by size and MD5."""

    def __init__(self, root: str, latest: Address | None, neighbours: Neighbours) -> None:
        self._root = root
        self._latest = latest
        self._by_size: dict[int, dict[str, str]] = {}
        manifest = _manifest_or_none(latest, neighbours)
        for path in sorted(manifest):  # of several equal files, the first by path
            entry = manifest[path]
            if entry.md5sum:
                equal = self._by_size.setdefault(entry.size, {})
                equal.setdefault(entry.md5sum, path)

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

    def surely_new(self, survey: Survey) -> int:
        """Return the bytes of a survey that no duplicate can save, known before anything is read."""
        return sum(file.size for file in survey.files if file.size not in self._by_size)


def _manifest_or_none(latest: Address | None, neighbours: Neighbours) -> dict[str, Entry]:
    """Return the latest version's manifest; a damaged one only costs the duplicates."""
    try:
        return neighbours.manifest(latest) if latest else {}
    except (Absent, Wrong, Fault):
        return {}
