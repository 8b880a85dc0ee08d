"""Rebuilding a version's metadata from its files: `..manifest`, `..links`, `..checksums`, link symlinks.

The bytes are read unlocked; `is_current` tells, under the lock, whether everything is still as it was read.
Existing `..links` say what the parents of links are (the symbolic link itself goes to the ancestor); links
that they do not know follow the rules of uploads. What may not be in a version is refused, naming it.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from gobblerd.domain.errors import Absent, Fault, GobblerdError, Invalid, Plain, Wrong
from gobblerd.domain.links import is_proper
from gobblerd.domain.manifest import Entry, FileAddress, Link, links_by_directory
from gobblerd.domain.names import Address
from gobblerd.registry import documents, layout
from gobblerd.registry.copying import Digest
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.meter import Meter, Progress
from gobblerd.registry.neighbours import GoneError, Neighbours
from gobblerd.registry.settling import Settling
from gobblerd.registry.source import OURSELVES
from gobblerd.registry.sums import sums_at
from gobblerd.registry.symlinks import (
    LocalTarget,
    Surroundings,
    Target,
    WhitelistedTarget,
    aliases,
    link_text,
)
from gobblerd.registry.transaction import Transaction
from gobblerd.registry.tree import NO_STAMP, Columns, Hashing, Tree, hexes, stamp_at, take_tree
from gobblerd.storage.batches import RawStamp  # noqa: TC001 - as everywhere
from gobblerd.storage.files import STANDING

_SIZE = itemgetter(1)  # of a stamp


@dataclass
class Rebuilt:
    """What a version's metadata should say, by the tree that was read."""

    tree: Tree
    manifest: dict[str, Entry] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)  # what each symbolic link should say
    flaw: Invalid | None = None  # why there is no such metadata

    def linked_versions(self, here: Address) -> set[Address]:
        """Return every other version that a link goes to, parents and ancestors."""
        links = [entry.link for entry in self.manifest.values() if entry.link is not None]
        return {file.place for link in links for file in (link.parent, link.target)} - {here}


class Reindex:
    """The rebuilding of one version; `read` may be called again, and then hashes only what changed."""

    def __init__(
        self, metadata: Metadata, version: Address, whitelist: Sequence[str], progress: Progress
    ) -> None:
        self._metadata = metadata
        self._version = version
        self._root = metadata.path(str(version))
        self._progress = progress
        self._surroundings = Surroundings(aliases(self._root), aliases(metadata.root), tuple(whitelist))
        self._neighbours = Neighbours(metadata)
        self._is_first = True  # the reading to come
        self._noted_bytes = 0  # of the files, by the manifest
        self._stamps: dict[str, RawStamp] = {}  # of the files that were hashed, and what came of that:
        self._entries: dict[str, Entry] = {}
        self._checksums: dict[str, str] = {}

    def read(self) -> Rebuilt:
        """Read everything, unlocked; what stands in the way is the `flaw` of the result."""
        self._neighbours = Neighbours(self._metadata)
        rebuilt = Rebuilt(self._tree())
        try:
            self._rebuild(rebuilt)
        except (Wrong, Fault) as error:
            rebuilt.flaw = self._invalid(error)
            rebuilt.manifest.clear()  # links that will not be made need nothing to hold still
        return rebuilt

    def _tree(self) -> Tree:
        """Walk the version; at first, if it is known how much is in it, by its names alone.

        Reading the files will tell their stamps; where something is wrong with the version, walking it again.
        """
        is_first, self._is_first = self._is_first, False
        noted = sums_at([f"{self._root}/{layout.MANIFEST}"])[0] if is_first else None
        if noted is None:
            return take_tree(self._root)
        tree, self._noted_bytes = take_tree(self._root, stamped=False), noted[1]
        for directory in tree.links:
            stamp = stamp_at(f"{self._root}/{layout.links_file(directory)}")
            tree.links[directory] = stamp.raw if stamp else NO_STAMP
        tree.stamped = True
        return tree

    def _rebuild(self, rebuilt: Rebuilt) -> None:
        self._metadata.summary(self._version)
        self._require_proper(rebuilt.tree)
        self._hash(rebuilt)
        for directory in rebuilt.tree.empty:
            rebuilt.manifest[directory] = Entry()
        targets = dict(self._targets(rebuilt.tree))
        Settling(self._version, self._neighbours.manifest, OURSELVES).settle(targets, rebuilt.manifest)
        self._require_ancestors(rebuilt.manifest)
        rebuilt.texts = {path: self._text(path, target, rebuilt) for path, target in targets.items()}

    def is_current(self, rebuilt: Rebuilt) -> bool:
        """Tell, under the lock, whether all that was read is still so."""
        try:
            self._neighbours.check(rebuilt.linked_versions(self._version))
        except GoneError:
            return False
        return take_tree(self._root) == rebuilt.tree

    def plan(self, rebuilt: Rebuilt, transaction: Transaction) -> None:
        """Stage what has to change on disk."""
        for path, text in rebuilt.texts.items():
            if rebuilt.tree.symlinks[path] != text:
                transaction.put_symlink(self._path(path), text)
        links = links_by_directory(rebuilt.manifest)
        for directory in sorted(rebuilt.tree.links.keys() - links.keys()):
            transaction.remove(self._path(layout.links_file(directory)))
        for directory, noted in links.items():
            self._put(layout.links_file(directory), documents.links_bytes(noted), transaction)
        self._put(layout.MANIFEST, documents.manifest_bytes(rebuilt.manifest), transaction)
        self._put(layout.CHECKSUMS, documents.checksums_bytes(rebuilt.checksums), transaction)

    def _put(self, name: str, data: bytes, transaction: Transaction) -> None:
        if self._content(name) != data:
            transaction.put(self._path(name), data)

    def _content(self, name: str) -> bytes | None:
        """Return the bytes of a document; None where it cannot be read, and is to be written anew."""
        try:
            return self._metadata.read(self._path(name))
        except OSError as error:
            if error.errno in STANDING:
                return None
            raise

    def _path(self, path: str) -> str:
        return layout.join(str(self._version), path)

    def _invalid(self, error: GobblerdError) -> Invalid:
        """Answer 422 for whatever is wrong with the version: it is on disk, not in the request."""
        return Invalid(
            "{version} cannot be reindexed: {reason}", version=str(self._version), reason=Plain(error.reason)
        )

    # -- files -----------------------------------------------------------------------------------------

    def _require_proper(self, tree: Tree) -> None:
        for path, what in sorted(tree.others.items()):
            raise Wrong("{path} is {what}", path=path, what=Plain(what))
        for path, error in sorted(tree.unreadable.items()):
            raise Wrong("the directory {path} cannot be read: {error}", path=path, error=Plain(error))

    def _hash(self, rebuilt: Rebuilt) -> None:
        files = rebuilt.tree.files
        stale = [path for path, stamp in files.items() if self._stamps.get(path) != stamp]
        meter = Meter(self._progress, sum(files[path][1] for path in stale) or self._noted_bytes)
        with Hashing(self._root, sorted(stale)) as hashing:
            for some in hashing.results(meter.tick):
                if isinstance(some, Columns):
                    self._keep(some)
                else:
                    self._keep_one(*some)
        self._forget(self._stamps.keys() - files.keys())
        rebuilt.manifest.update(self._entries)
        rebuilt.checksums.update(self._checksums)
        files.update(self._stamps)  # where it differs: the bytes' own

    def _forget(self, gone: Iterable[str]) -> None:
        for path in gone:
            del self._stamps[path], self._entries[path], self._checksums[path]

    def _keep(self, read: Columns) -> None:
        stamps, md5sums, xxh128s = read.stamps, hexes(read.md5s), hexes(read.xxh128s)
        self._stamps.update(zip(read.paths, stamps, strict=True))
        self._checksums.update(zip(read.paths, xxh128s, strict=True))
        self._entries.update(zip(read.paths, map(Entry, map(_SIZE, stamps), md5sums), strict=True))

    def _keep_one(self, path: str, digest: Digest | str) -> None:
        """Keep what was read of one file; Wrong if it could not be read."""
        if not isinstance(digest, Digest):
            raise Wrong("{path} cannot be read: {error}", path=path, error=Plain(digest))
        self._stamps[path] = digest.stamp.raw
        self._checksums[path] = digest.xxh128
        self._entries[path] = Entry(digest.size, digest.md5sum)

    # -- links -----------------------------------------------------------------------------------------

    def _targets(self, tree: Tree) -> Iterator[tuple[str, Target]]:
        """Yield where each symbolic link goes; to its parent where `..links` knows that."""
        noted: dict[str, Mapping[str, Link]] = {name: self._noted(name) for name in sorted(tree.links)}
        for path, text in sorted(tree.symlinks.items()):
            target = self._surroundings.target(path, text)
            directory, _, name = path.rpartition("/")
            link = noted.get(directory, {}).get(name)
            yield path, target if link is None else self._restored(path, target, link)

    def _noted(self, directory: str) -> Mapping[str, Link]:
        name = layout.links_file(directory)
        try:
            return documents.read_links(self._metadata.read(self._path(name)) or b"")
        except (documents.Unreadable, OSError) as error:
            raise Wrong("{path} cannot be read: {error}", path=name, error=str(error)) from None

    def _restored(self, path: str, target: Target, link: Link) -> Target:
        """Return the link's parent as its `..links` has it, if the symbolic link agrees."""
        found = FileAddress.of(self._version, target.path) if isinstance(target, LocalTarget) else target
        if found not in {link.parent, link.target} or not is_proper(link.parent):
            raise Wrong(
                "the symbolic link {path} goes to {found}, but ..links says to {expected}",
                path=path,
                found=found.path if isinstance(found, WhitelistedTarget) else str(found),
                expected=str(link.target),
            )
        parent = link.parent
        return LocalTarget(parent.path) if parent.place == self._version else parent

    def _require_ancestors(self, manifest: Mapping[str, Entry]) -> None:
        """Raise Wrong, as an upload would, for a link whose real file is no more."""
        for path, entry in manifest.items():
            link = entry.link
            if link is None or link.ancestor is None or link.ancestor.place == self._version:
                continue
            with contextlib.suppress(Absent, Wrong):
                if link.ancestor.path in self._neighbours.manifest(link.ancestor.place):
                    continue
            raise Wrong(
                "the link {path} goes to a link to {ancestor}, which is no more",
                path=path,
                ancestor=str(link.ancestor),
            )

    def _text(self, path: str, target: Target, rebuilt: Rebuilt) -> str:
        link = rebuilt.manifest[path].link
        if link is not None:
            return link_text(self._version, path, link)
        assert isinstance(target, WhitelistedTarget)
        return target.path
