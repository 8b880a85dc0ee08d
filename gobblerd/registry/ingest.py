"""Making a version, unlocked, in a transaction's directory: its files, then links and metadata.

The seam: `Files` is whatever provides a version's regular files (`source_files.SourceFiles`: a directory in
staging; an archive may be another). It makes the directories and puts each file at its path in the staged
tree, or finds that it equals a file of the asset's latest version and leaves its place empty; it yields a
`Taken` for each. Everything after that is here, and the same for every provider: links are settled, symbolic
links made, and `..manifest`, `..checksums` and each `..links` written. A provider may be asked again for
some of its files, when the versions that they were found to equal are gone by the time of the commit
(`restage`).
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from gobblerd.domain.errors import Absent, Exceeded, Wrong
from gobblerd.domain.manifest import Entry, FileAddress, link_to, links_by_directory, stored_bytes
from gobblerd.domain.names import Address
from gobblerd.registry import documents, layout
from gobblerd.registry.copying import Digest
from gobblerd.registry.linking import Linking
from gobblerd.registry.neighbours import Candidates, Neighbours
from gobblerd.registry.settling import Settling
from gobblerd.registry.source import Reader, SourceFile, Stamp, Survey
from gobblerd.registry.symlinks import LocalTarget, Surroundings, WhitelistedTarget, link_text, text_to
from gobblerd.storage.files import Durability, write_file
from gobblerd.storage.sync import TreeSync

SYMLINK_MAX_BYTES = 4095  # what Linux keeps of a symbolic link's text


class Taken(msgspec.Struct, frozen=True, gc=False):
    """One file of a new version: it lies in the staged tree, unless it equals `duplicate`."""

    path: str
    digest: Digest
    duplicate: FileAddress | None = None  # of the latest version; nothing lies at `path` then


class Files(Protocol):
    """Where the regular files of a new version come from."""

    @property
    def survey(self) -> Survey:
        """What there is to be had, with sizes and the texts of symbolic links."""
        ...

    @property
    def reader(self) -> Reader:
        """On whose behalf files are read."""
        ...

    def make_directories(self, path: str) -> None:
        """Make the version's directory at the absolute `path`, and all below it, unless they are there."""
        ...

    def take(self, files: Collection[SourceFile], path: str, candidates: Candidates) -> Iterator[Taken]:
        """Put these files of the survey below the absolute `path`, or find what they equal.

        Raises Wrong where a file is not (any more) what the survey says; what `progress` raises to cancel.
        """
        ...


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
        links = [entry.link for entry in self.manifest.values() if entry.link]
        places = {(link.project, link.asset, link.version) for link in links}
        ancestors = [link.ancestor for link in links if link.ancestor]
        places |= {(file.project, file.asset, file.version) for file in ancestors}
        return {Address(*place) for place in places} - {here}

    def linked_to(self, versions: Collection[Address]) -> set[str]:
        """Return the duplicates that are links to one of the versions."""
        links = ((path, self.manifest[path].link) for path in self.duplicates)
        return {path for path, link in links if link and {link.parent.place, link.target.place} & {*versions}}


class Ingest:
    """One upload's staging: from surveyed files to a `Staged` version.

    Making one judges every symbolic link, before anything is copied: Wrong names one that is no good.
    """

    def __init__(
        self,
        version: Address,
        files: Files,
        neighbours: Neighbours,
        surroundings: Surroundings,
    ) -> None:
        self._version = version
        self._files = files
        self._survey = survey = files.survey
        self._neighbours = neighbours
        self._settling = Settling(version, neighbours.manifest, files.reader)
        self._targets = surroundings.targets(survey.symlinks)
        self._parents: dict[str, tuple[FileAddress, Entry]] = {}  # of links to other versions
        self._whitelisted: dict[str, Entry] = {}
        self._judge_links_out()
        self._check_local_links()

    def surely_stored(self, candidates: Candidates) -> int:
        """Return the bytes that will count for usage whatever the files hold."""
        return candidates.surely_new(self._survey) + stored_bytes(self._whitelisted)

    def stage(self, path: str, candidates: Candidates, sync: TreeSync) -> Staged:
        """Make the version's tree at `path`, durable when this returns; Wrong, Exceeded: refused."""
        staged = Staged(path)
        self._files.make_directories(path)
        staged.manifest.update(dict.fromkeys(self._survey.empty, Entry()))
        self._fill(self._survey.files, staged, candidates, sync)
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
        self._judge_links_out()
        self._remove_metadata(staged)
        files = [file for file in self._survey.files if file.path in lost]
        self._fill(files, staged, Candidates("", None, self._neighbours), sync)
        sync.sync(self._survey.count())

    def _fill(
        self, files: Collection[SourceFile], staged: Staged, candidates: Candidates, sync: TreeSync
    ) -> None:
        """Put files, all symbolic links and the metadata into a tree that has none of them."""
        with Linking(staged.path) as linking:
            linking.add(self._texts(self._whitelisted))
            linking.add(self._texts_elsewhere())
            for taken in self._files.take(files, staged.path, candidates):
                self._take(taken, staged, linking)
                if taken.duplicate is None:
                    sync.wrote(taken.digest.size)
            self._settle(staged, linking)
            self._write_metadata(staged)

    def _take(self, taken: Taken, staged: Staged, linking: Linking) -> None:
        path, digest, duplicate = taken.path, taken.digest, taken.duplicate
        link = None
        if duplicate is None:
            staged.checksums[path] = digest.xxh128
            staged.stored[path] = digest.stamp
        else:
            link = link_to(duplicate, self._neighbours.manifest(duplicate.place)[duplicate.path])
            staged.duplicates.add(path)
        staged.manifest[path] = entry = Entry(digest.size, digest.md5sum, link)
        if link is not None:
            linking.add([(path, self._text(path, entry))])

    # -- links -----------------------------------------------------------------------------------------

    def _judge_links_out(self) -> None:
        """Find what the links out of the source go to; Wrong unless it is there, ancestors too."""
        elsewhere = {path: to for path, to in self._targets.items() if isinstance(to, FileAddress)}
        self._parents = self._settling.parents(elsewhere)
        for path, (_, entry) in self._parents.items():
            if entry.link is not None and not self._is_alive(entry.link.target):
                raise Wrong(
                    "the symbolic link {path} goes to a link to {ancestor}, which is no more",
                    path=path,
                    ancestor=str(entry.link.target),
                )
        self._whitelisted = {}
        outside = {path: to for path, to in self._targets.items() if isinstance(to, WhitelistedTarget)}
        self._settling.settle(outside, self._whitelisted)

    def _is_alive(self, file: FileAddress) -> bool:
        try:
            return file.path in self._neighbours.manifest(file.place)
        except (Absent, Wrong):
            return False

    def _check_local_links(self) -> None:
        """Raise Wrong for a link that goes to nothing in the source, or round in a circle."""
        local = {path: to for path, to in self._targets.items() if isinstance(to, LocalTarget)}
        if not local:
            return
        there = [*(file.path for file in self._survey.files), *self._parents, *self._whitelisted]
        self._settling.settle(local, dict.fromkeys(there, Entry(1, "not known yet")))

    def _settle(self, staged: Staged, linking: Linking) -> None:
        """Add the entries of all symbolic links, and have those within the version made too."""
        staged.manifest.update(self._whitelisted)
        for path, (parent, entry) in self._parents.items():
            staged.manifest[path] = Entry(entry.size, entry.md5sum, link_to(parent, entry))
        local = {path: to for path, to in self._targets.items() if isinstance(to, LocalTarget)}
        self._settling.settle(local, staged.manifest)
        linking.add(self._texts({path: staged.manifest[path] for path in local}))

    def _texts_elsewhere(self) -> Iterator[tuple[str, str]]:
        """Yield the texts of links to other versions, whose entries are made while the links are."""
        for path, (parent, entry) in self._parents.items():
            end = entry.link.target if entry.link else parent
            yield path, self._fitting(path, text_to(self._version, path, end))

    def _texts(self, entries: Mapping[str, Entry]) -> Iterator[tuple[str, str]]:
        return ((path, self._text(path, entry)) for path, entry in entries.items())

    def _text(self, path: str, entry: Entry) -> str:
        """Return what the symbolic link on disk is to say."""
        if entry.link is None:
            target = self._targets[path]
            assert isinstance(target, WhitelistedTarget)
            return target.path
        return self._fitting(path, link_text(self._version, path, entry.link))

    def _fitting(self, path: str, text: str) -> str:
        """Return the text, which the system must be able to keep; Exceeded."""
        if len(text) > SYMLINK_MAX_BYTES // 4 and len(text.encode()) > SYMLINK_MAX_BYTES:
            raise Exceeded(
                "the symbolic link {path} would be longer than {most} bytes",
                path=path,
                most=SYMLINK_MAX_BYTES,
            )
        return text

    # -- metadata --------------------------------------------------------------------------------------

    def _write_metadata(self, staged: Staged) -> None:
        """Write `..manifest`, `..checksums` and every `..links` of a staged tree that has none of them."""
        links = links_by_directory(staged.manifest)
        texts = {layout.links_file(directory): documents.links_bytes(links[directory]) for directory in links}
        texts[layout.MANIFEST] = documents.manifest_bytes(staged.manifest)
        texts[layout.CHECKSUMS] = documents.checksums_bytes(staged.checksums)
        for path, data in texts.items():
            write_file(f"{staged.path}/{path}", data, Durability.PROCESS)  # durable with the tree
        staged.noted = set(links)

    def _remove_metadata(self, staged: Staged) -> None:
        """Take away what `_write_metadata` wrote, to write it afresh."""
        for path in (layout.MANIFEST, layout.CHECKSUMS, *map(layout.links_file, staged.noted)):
            os.unlink(f"{staged.path}/{path}")
