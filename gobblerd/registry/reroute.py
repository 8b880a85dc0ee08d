"""Rerouting: links into doomed places go to the nearest living file, or become copies.

The rules are `Chains` of the domain; here is what they mean on disk. `plan` and `stage` need no lock;
`is_current` looks, under the lock, whether what was planned would be planned again. Manifests, `..links`,
symbolic links and usage all follow in the one transaction that is staged, or none does.

Known limits: a version's whole manifest is in memory while it is rewritten, one version at a time.
"""

import contextlib
import itertools
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter

import msgspec

from gobblerd.domain.errors import Fault, Invalid, Plain, Wrong
from gobblerd.domain.links import Chains, Doomed, gather, is_proper, step
from gobblerd.domain.manifest import Entry, FileAddress, Link, links_by_directory
from gobblerd.domain.names import Address
from gobblerd.registry import documents, layout
from gobblerd.registry.copying import copy_file
from gobblerd.registry.linkscan import LinkScan
from gobblerd.registry.manifests import Found, ManifestStamp, stamp_at
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.meter import Meter, Progress
from gobblerd.registry.source import OURSELVES, opened_for
from gobblerd.registry.symlinks import Surroundings, WhitelistedTarget, aliases, link_text
from gobblerd.registry.transaction import Transaction
from gobblerd.storage.files import (
    READ_DIRECTORY,
    Durability,
    exists,
    opened,
    opened_beneath,
    write_file,
)
from gobblerd.storage.sync import TreeSync


class Change(msgspec.Struct, frozen=True, gc=False):
    """What becomes of one link; `new` is None for a copy. `size` in bytes.

    A dataclass would take five times as long to make, and there are thousands.
    """

    path: str  # of the link, in the registry
    found: Found  # the version
    name: str  # of the link, in its version
    old: Link
    new: Link | None
    source: FileAddress  # the one that goes: the parent, or else the ancestor
    size: int

    @property
    def version(self) -> Address:
        """The link's version."""
        return Address(*self.found[:3])

    @property
    def file(self) -> FileAddress:
        """The link's address."""
        return FileAddress.of(self.version, self.name)

    def document(self) -> dict[str, str | bool | int]:
        """Return the JSON object of an answer."""
        is_copy = self.new is None
        usage = self.size if is_copy else 0
        return {"path": self.path, "source": str(self.source), "copy": is_copy, "usage": usage}


class Reroute:
    """One rerouting, from the first look to the plan of a transaction."""

    def __init__(
        self, metadata: Metadata, doomed: Doomed, whitelist: Sequence[str], progress: Progress
    ) -> None:
        self._metadata = metadata
        self._doomed = doomed
        self._whitelist = tuple(whitelist)
        self._registry = aliases(metadata.root)
        self._progress = progress
        self._scan = LinkScan(metadata, doomed)
        self._staged: dict[Address, ManifestStamp | None] = {}  # manifests as they were rewritten
        self.changes: tuple[Change, ...] = ()

    # -- planning --------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Look at the registry, again or for the first time, and work out the changes."""
        if self._scan.refresh() or not self.changes:
            self.changes = tuple(self._planned())

    def is_current(self) -> bool:
        """Tell, under the lock, whether the plan, and the manifests that were rewritten, still hold."""
        if not self._scan.refresh():
            return True
        planned = self.changes
        self.changes = tuple(self._planned())
        unchanged = all(self._scan.stamp(version) == stamp for version, stamp in self._staged.items())
        return unchanged and self.changes == planned

    def _planned(self) -> list[Change]:
        affected = list(self._scan.affected())
        # By identity: thousands of entries may share a link, and hashing one costs more than all the rest.
        links = {id(link): link for _, _, link, _ in affected}
        ends = {key: step(link) for key, link in links.items()}
        chains = Chains(gather(ends.values(), self._scan.look_up), self._doomed)
        replaced = {
            key: (chains.rerouted(*ends[key]), ends[key][link not in self._doomed])
            for key, link in links.items()
        }
        changes = [
            Change(f"{at[0]}/{at[1]}/{at[2]}/{name}", at, name, link, *replaced[id(link)], size)
            for at, name, link, size in affected
        ]
        return sorted(changes, key=attrgetter("path"))

    def require_readable(self) -> None:
        """Raise Fault for a manifest that cannot be read: nobody knows where its links go."""
        self._scan.require_readable()

    def require_links(self) -> None:
        """Raise Invalid, under the lock, for a link that cannot be replaced."""
        for change in self.changes:
            if not is_proper(change.file) or not self._is_symlink(change.file):
                raise Invalid("the link {path} is no symbolic link on disk", path=change.path)

    def require_sources(self) -> None:
        """Raise Invalid for a file that would have to be copied and does not exist."""
        copied = {id(change.old): change for change in self.changes if change.new is None}
        for change in {change.old.target: change for change in copied.values()}.values():
            self._require_source(change)

    def _is_symlink(self, file: FileAddress) -> bool:
        try:
            return stat.S_ISLNK(os.lstat(self._metadata.path(str(file))).st_mode)
        except OSError:
            return False

    def _require_source(self, change: Change) -> None:
        target = change.old.target
        if not is_proper(target) or not exists(self._metadata.path(str(target))):
            raise _uncopied(change, "it does not exist")

    # -- staging ---------------------------------------------------------------------------------------

    def stage(self, transaction: Transaction) -> None:
        """Stage all changes, durable when this returns; Invalid names a file that cannot be copied."""
        meter = Meter(self._progress, sum(change.size for change in self.changes if change.new is None))
        self._staged = {}
        with TreeSync(transaction.disk, transaction.directory) as sync:
            for version, changes in itertools.groupby(self.changes, key=attrgetter("version")):
                _VersionStage(self, version, transaction, meter).run(list(changes))
            if self.changes:
                sync.sync(len(self.changes) * 3)

    def read_manifest(self, version: Address) -> dict[str, Entry]:
        """Read the manifest that is to be rewritten, and note its stamp."""
        self._staged[version] = stamp_at(self._scan.path(version))
        return self._metadata.manifest(version)

    def read_checksums(self, version: Address) -> dict[str, str]:
        """Read a version's fast checksums."""
        return self._metadata.checksums(version)

    def has(self, path: str) -> bool:
        """Tell whether there is something at a path of the registry."""
        return exists(self._metadata.path(path))

    def text(self, file: FileAddress) -> str:
        """Return what the symbolic link of a file says, "" where there is none."""
        try:
            return os.readlink(self._metadata.path(str(file)))
        except OSError:
            return ""

    @contextlib.contextmanager
    def opened_source(self, change: Change) -> Iterator[int]:
        """Open the real file that a link went to; a whitelisted one by its path, if it may still go there."""
        self._require_source(change)
        target = change.old.target
        if text := self.text(target):
            with opened_for(self._whitelisted(change, text), OURSELVES, str(target)) as fd:
                yield fd
            return
        with (
            opened(self._metadata.root, READ_DIRECTORY & ~os.O_NOFOLLOW) as root_fd,
            opened_beneath(root_fd, str(target).split("/")) as fd,
        ):
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _uncopied(change, "it is no regular file")
            yield fd

    def _whitelisted(self, change: Change, text: str) -> str:
        """Return the resolved path of the whitelisted file that is linked to."""
        target = change.old.target
        here = aliases(self._metadata.path(str(target.place)))
        found = Surroundings(here, self._registry, self._whitelist).target(target.path, text)
        if not isinstance(found, WhitelistedTarget):
            raise _uncopied(change, "it is a symbolic link itself")
        return found.resolved


def _uncopied(change: Change, error: str) -> Invalid:
    return Invalid(
        "{path} cannot become a copy of {target}: {error}",
        path=change.path,
        target=str(change.old.target),
        error=Plain(error),
    )


class _VersionStage:
    """The changes of one version: copies and symbolic links first, then `..links`, then `..manifest`.

    So that whoever reads without locks finds each file as its manifest says or as it will say.
    """

    def __init__(self, reroute: Reroute, version: Address, transaction: Transaction, meter: Meter) -> None:
        self._reroute = reroute
        self._version = version
        self._transaction = transaction
        self._meter = meter

    def run(self, changes: Sequence[Change]) -> None:
        """Stage the changes; Fault where the manifest cannot be read."""
        manifest = self._reroute.read_manifest(self._version)
        copied: dict[str, str] = {}
        for change in changes:
            path = change.name
            entry = manifest.get(path)
            if entry is None or entry.link != change.old:
                raise _changed(change)
            manifest[path] = Entry(entry.size, entry.md5sum, change.new)
            if change.new is None:
                copied[path] = self._copy(change, entry)
            elif self._reroute.text(change.file) != (
                text := link_text(change.version, change.name, change.new)
            ):
                self._transaction.put_symlink(change.path, text)
            self._meter.tick(0)
        self._put_links(manifest, {posixpath.dirname(change.name) for change in changes})
        self._put(layout.MANIFEST, documents.manifest_bytes(manifest))
        if copied:
            checksums = {**self._reroute.read_checksums(self._version), **copied}
            self._put(layout.CHECKSUMS, documents.checksums_bytes(checksums))

    def _copy(self, change: Change, entry: Entry) -> str:
        """Stage a copy in place of the link, and count it; return its fast checksum."""
        slot, path = self._transaction.new_slot()
        try:
            with (
                self._reroute.opened_source(change) as fd,
                opened(posixpath.dirname(path), READ_DIRECTORY) as dir_fd,
            ):
                digest = copy_file(fd, str(change.old.target), slot, dir_fd, self._meter.tick)
        except (Wrong, FileNotFoundError, NotADirectoryError) as error:
            raise _uncopied(change, str(error)) from error
        if (digest.size, digest.md5sum) != (entry.size, entry.md5sum):
            raise _uncopied(
                change, f"it has MD5 {digest.md5sum} and {digest.size} bytes, not what the manifest says"
            )
        self._transaction.install(slot, change.path)
        self._transaction.add_usage(change.version.project, entry.size)
        return digest.xxh128

    def _put_links(self, manifest: dict[str, Entry], directories: Iterable[str]) -> None:
        links = links_by_directory(manifest)
        for directory in sorted(directories):
            name = layout.links_file(directory)
            if directory in links:
                self._put(name, documents.links_bytes(links[directory]))
            elif self._reroute.has(f"{self._version}/{name}"):
                self._transaction.remove(f"{self._version}/{name}")

    def _put(self, name: str, data: bytes) -> None:
        """Plan to write a document; all are made durable together in the end."""
        slot, path = self._transaction.new_slot()
        write_file(path, data, Durability.PROCESS)
        self._transaction.install(slot, f"{self._version}/{name}")


def _changed(change: Change) -> Fault:
    return Fault("the manifest of {path} changed while it was read", path=change.path)
