"""Making a version out of a source, unlocked, in a transaction's directory.

Each file is read once: its bytes are hashed and written from the same buffer, or found to equal a file of
the asset's latest version and linked to it. What was assumed of other versions is kept as `assumptions`, to
be looked at again when the commit holds its locks.
"""

import itertools
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.domain.manifest import Entry, FileAddress, link_to, links_by_directory
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
from gobblerd.registry.source import Source, SourceFile, Stamp, Survey, opened_for
from gobblerd.registry.symlinks import LocalTarget, Surroundings, Target, WhitelistedTarget, link_text
from gobblerd.storage.files import DIRECTORY_MODE, READ_DIRECTORY, opened
from gobblerd.storage.sync import TreeSync

Progress = Callable[[int, int], None]  # bytes done, bytes in all; raises to cancel


class GoneError(Exception):
    """A version that was linked to is not what it was; `version` says which."""

    def __init__(self, version: Address) -> None:
        super().__init__(str(version))
        self.version = version


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
            self._require_linkable(version)
            self._stamps[version] = self._stamp(version)
            self._manifests[version] = self._metadata.manifest(version)
        return self._manifests[version]

    def check(self, versions: Iterable[Address]) -> None:
        """Raise GoneError for the first of the versions that is gone, changed or on probation by now."""
        for version in versions:
            try:
                self._require_linkable(version)
                same = version not in self._stamps or self._stamp(version) == self._stamps[version]
            except (Absent, Wrong, Fault, OSError):
                same = False
            if not same:
                raise GoneError(version)

    def forget(self, version: Address) -> None:
        """Read the version afresh when it is next asked for."""
        self._manifests.pop(version, None)
        self._stamps.pop(version, None)

    def _require_linkable(self, version: Address) -> None:
        if not self._metadata.has(version):
            raise Absent("there is no version {version} in the registry", version=str(version))
        if self._metadata.summary(version).on_probation:
            raise Wrong("the version {version} is on probation", version=str(version))

    def _stamp(self, version: Address) -> Stamp:
        return Stamp.of(os.stat(self._metadata.path(str(version), layout.MANIFEST)))


@dataclass
class Staged:
    """A version in the making: its tree lies at `path` and is complete but for the summary."""

    path: str
    manifest: dict[str, Entry] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    stored: dict[str, Stamp] = field(default_factory=dict)  # source files whose bytes were stored
    duplicates: dict[str, FileAddress] = field(default_factory=dict)  # source files that became links

    def linked_versions(self, here: Address) -> set[Address]:
        """Return every other version that a link goes to, parents and ancestors."""
        files = ((e.link.parent, e.link.target) for e in self.manifest.values() if e.link)
        return {file.place for file in itertools.chain.from_iterable(files)} - {here}


class Ingest:
    """One upload's staging: from a surveyed source to a `Staged` version."""

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
        self._surroundings = surroundings
        self._progress = progress
        self._done = 0

    def targets(self) -> dict[str, Target]:
        """Judge every symbolic link of the source, before anything is copied."""
        return {path: self._surroundings.target(path, text) for path, text in self._survey.symlinks}

    def stage(self, path: str, candidates: "Candidates", sync: TreeSync) -> Staged:
        """Make the version's tree at `path` (which must not exist), durable when this returns."""
        targets = self.targets()
        staged = Staged(path)
        os.mkdir(path, DIRECTORY_MODE)
        for directory in self._survey.directories:
            os.mkdir(f"{path}/{directory}", DIRECTORY_MODE)
        for directory in self._survey.empty:
            staged.manifest[directory] = Entry()
        self._take_files(self._survey.files, staged, candidates)
        self._take_symlinks(targets, staged)
        self._write_links(staged)
        write_metadata(staged)
        sync.sync(self._survey.count())
        return staged

    def restage(self, staged: Staged, gone: Address, sync: TreeSync) -> None:
        """Copy those files that were linked to a version that is gone by now, and mend the metadata."""
        self._neighbours.forget(gone)
        lost = {
            path
            for path, entry in staged.manifest.items()
            if path in staged.duplicates
            and entry.link
            and gone in {entry.link.parent.place, entry.link.target.place}
        }
        for path in lost:
            os.unlink(f"{staged.path}/{path}")
            del staged.manifest[path], staged.duplicates[path]
        files = [file for file in self._survey.files if file.path in lost]
        self._take_files(files, staged, Candidates("", None, self._neighbours))
        links = [path for path, _ in self._survey.symlinks]
        for path in links:
            staged.manifest.pop(path, None)
        self._take_symlinks(self.targets(), staged)
        for path in links:
            os.unlink(f"{staged.path}/{path}")
        self._write_links(staged, only=set(links))
        write_metadata(staged)
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
        name = posixpath.basename(file.path)
        with self._source.opened_file(name, file.path, dir_fd) as fd:
            size = os.fstat(fd).st_size
            if candidates.has(size):
                digest, duplicate = self._compare(fd, file.path, name, target_fd, candidates)
            else:
                digest, duplicate = self._store(fd, file.path, name, target_fd), None
        if duplicate is None:
            staged.manifest[file.path] = Entry(digest.size, digest.md5sum)
            staged.checksums[file.path] = digest.xxh128
            staged.stored[file.path] = digest.stamp
        else:
            link = link_to(duplicate, self._neighbours.manifest(duplicate.place)[duplicate.path])
            staged.manifest[file.path] = Entry(digest.size, digest.md5sum, link)
            staged.duplicates[file.path] = duplicate

    def _store(self, fd: int, path: str, name: str, target_fd: int) -> Digest:
        if os.fstat(fd).st_size > IN_MEMORY:
            return copy_file(fd, path, name, target_fd, self._tick)
        data, stamp = read_file(fd, path)
        write_new(name, data, target_fd)
        self._tick(len(data))
        return digest_of_bytes(data, stamp)

    def _compare(
        self, fd: int, path: str, name: str, target_fd: int, candidates: "Candidates"
    ) -> tuple[Digest, FileAddress | None]:
        """Store the file unless it equals a file of the latest version; return which."""
        if os.fstat(fd).st_size > IN_MEMORY:
            digest = digest_file(fd, path, self._tick)
            duplicate = candidates.equal(digest)
            if duplicate is None:
                digest = copy_file(fd, path, name, target_fd, lambda _: self._tick(0))
            return digest, duplicate
        data, stamp = read_file(fd, path)
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

    def _take_symlinks(self, targets: dict[str, Target], staged: Staged) -> None:
        for path in targets:
            for each in reversed(list(self._chain(path, targets, staged.manifest))):
                staged.manifest[each] = self._linked(each, targets[each], staged)

    def _chain(self, path: str, targets: dict[str, Target], manifest: dict[str, Entry]) -> Iterator[str]:
        """Yield the links to be settled for `path`, from it to the last; iterative: chains may be long."""
        seen: set[str] = set()
        while path in targets and path not in manifest:
            if path in seen:
                raise Wrong("the symbolic link {path} is part of a cycle", path=path)
            seen.add(path)
            yield path
            target = targets[path]
            if not isinstance(target, LocalTarget):
                return
            path = target.path

    def _linked(self, path: str, target: Target, staged: Staged) -> Entry:
        if isinstance(target, WhitelistedTarget):
            with opened_for(target.resolved, self._source.reader, path) as fd:
                digest = digest_file(fd, path, lambda _: self._tick(0))
            return Entry(digest.size, digest.md5sum)
        if isinstance(target, LocalTarget):
            parent = FileAddress.of(self._version, target.path)
            entry = staged.manifest.get(target.path)
            shown = target.path
        else:
            parent, shown = target, str(target)
            entry = self._registry_entry(path, target)
        if entry is None or entry.is_directory:
            raise Wrong(
                "the symbolic link {path} goes to {target}, which is no file of that version",
                path=path,
                target=shown,
            )
        return Entry(entry.size, entry.md5sum, link_to(parent, entry))

    def _registry_entry(self, path: str, target: FileAddress) -> Entry | None:
        try:
            return self._neighbours.manifest(target.place).get(target.path)
        except (Absent, Wrong) as error:
            raise Wrong(
                "the symbolic link {path} cannot be made a link to {target}: {error}",
                path=path,
                target=str(target),
                error=error.reason,
            ) from None

    def _write_links(self, staged: Staged, only: set[str] | None = None) -> None:
        whitelisted = {p: t.path for p, t in self.targets().items() if isinstance(t, WhitelistedTarget)}
        for path, entry in staged.manifest.items():
            if entry.link is not None and not os.path.lexists(f"{staged.path}/{path}"):
                text = link_text(FileAddress.of(self._version, path), entry.link)
                os.symlink(text, f"{staged.path}/{path}")
        for path, text in whitelisted.items():
            if only is None or path in only:
                os.symlink(text, f"{staged.path}/{path}")


def _place(file: SourceFile) -> tuple[str, str]:
    return posixpath.split(file.path)


def write_metadata(staged: Staged) -> None:
    """Write `..manifest`, `..checksums` and every `..links` of a staged tree, over older ones."""
    texts = {layout.MANIFEST: documents.manifest_bytes(staged.manifest)}
    texts[layout.CHECKSUMS] = documents.checksums_bytes(staged.checksums)
    for directory, links in links_by_directory(staged.manifest).items():
        texts[layout.links_file(directory)] = documents.links_bytes(links)
    for path, data in texts.items():
        with open(f"{staged.path}/{path}", "wb") as file:
            file.write(data)


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
