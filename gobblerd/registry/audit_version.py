"""One version, as an audit looks at it: everything of `checks.check_version`, and what that leaves out.

Besides sizes, checksums and links: internal names that do not belong, documents with keys that nobody
documented, `..checksums` of files that are none, symbolic links that are right but not as the registry
writes them, modes, owners and hard links.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass

from gobblerd.domain.errors import quoted
from gobblerd.domain.manifest import Entry, FileAddress, Link
from gobblerd.domain.names import Address, is_internal
from gobblerd.registry import audit_forms as forms
from gobblerd.registry import documents, layout
from gobblerd.registry.audit_findings import Collector, Kind, Look
from gobblerd.registry.checks import Flaw, Problem, _VersionCheck  # its parts are replaced one by one below
from gobblerd.registry.copying import Digest, Tick
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.source import SourceFile, Stamp
from gobblerd.registry.symlinks import link_text
from gobblerd.registry.tree import NOTHING, SYMLINK, Tree, digest_files
from gobblerd.storage.files import DIRECTORY_MODE, FILE_MODE, READ_FILE, opened, read_all

_TOP = frozenset({layout.MANIFEST, layout.SUMMARY, layout.CHECKSUMS, layout.LINKS})
_FORMS: Mapping[str, forms.Form] = {
    layout.MANIFEST: forms.MANIFEST,
    layout.SUMMARY: forms.SUMMARY,
    layout.CHECKSUMS: forms.CHECKSUMS,
    layout.LINKS: forms.LINKS,
}


class CarefulMetadata(Metadata):
    """The documents of a registry that may hold anything: links are not followed, FIFOs not waited for."""

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a document, None where there is none; Unreadable if it is no regular file."""
        try:
            with opened(self.path(path), READ_FILE) as fd:
                status = os.fstat(fd)
                if not stat.S_ISREG(status.st_mode):
                    raise documents.Unreadable("it is not a regular file")
                return read_all(fd, status.st_size)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise documents.Unreadable("it is a symbolic link") from None


@dataclass(frozen=True)
class Terms:
    """What an audit goes by: the registry, its owner's UID, the whitelist, and whether bytes are left out.

    `now` is this machine's clock, in nanoseconds: a read-only look cannot ask the file server's.
    """

    metadata: Metadata
    owner: int
    whitelist: tuple[str, ...]
    fast: bool
    now: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Thing:
    """What lies at a path: a status that shows whether it changed."""

    stamp: Stamp
    mode: int  # with the type
    owner: int
    links: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Thing":
        """Take what counts of a stat result."""
        return cls(Stamp.of(status), status.st_mode, status.st_uid, status.st_nlink)


@dataclass(frozen=True, slots=True)
class Span:
    """Some of a version's files, by path: from `begin` up to, but without, `end` (None: to the last).

    The span that begins with "" has all the rest of the version too: whatever is found without reading bytes.
    """

    begin: str = ""
    end: str | None = None

    @property
    def has_rest(self) -> bool:
        """Tell whether everything but bytes belongs to it."""
        return not self.begin

    def holds(self, path: str) -> bool:
        """Tell whether the bytes of the file at this path belong to it."""
        return self.begin <= path and (self.end is None or path < self.end)


WHOLE = Span()
Inventory = Mapping[str, Thing]


def take_inventory(root: str) -> Inventory | None:
    """List everything in a version's directory, internal names too; None where there is no directory.

    Directories that cannot be read are listed, and left at that: `take_tree` says why.
    """
    try:
        found = {"": Thing.of(os.lstat(root))}
    except FileNotFoundError:
        return None
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            for path, thing in _things_in(root, directory):
                found[path] = thing
                if stat.S_ISDIR(thing.mode):
                    pending.append(path)
        except OSError:
            continue
    return found


def _things_in(root: str, directory: str) -> Iterator[tuple[str, Thing]]:
    with os.scandir(layout.join(root, directory)) as entries:
        for entry in entries:
            yield layout.join(directory, entry.name), Thing.of(entry.stat(follow_symlinks=False))


class VersionLooks:
    """Looks at one version, or at a span of it, again and again if need be.

    Bytes that did not change are hashed once.
    """

    def __init__(self, terms: Terms, version: Address, tick: Tick, span: Span = WHOLE) -> None:
        self._terms = terms
        self._span = span
        self._version = version
        self._root = terms.metadata.path(str(version))
        self._tick = tick
        self._digests: dict[str, tuple[Stamp, Digest]] = {}

    def look(self) -> Look:
        """Return everything that is wrong; nothing if there is no such version (any more)."""
        inventory = take_inventory(self._root)
        if inventory is None:
            return Look()
        collector = Collector(str(self._version))
        if self._span.has_rest:
            self._check_inventory(inventory, collector)
        if all(stat.S_ISREG(thing.mode) for thing in _documents_of(inventory).values()):
            self._check_contents(inventory, collector)
        suspects = collector.suspects(_evidence(inventory))
        if suspects and take_inventory(self._root) != inventory:
            suspects = dict.fromkeys(suspects)
        newest = max(thing.stamp.ctime_ns for thing in inventory.values())
        if not self._span.has_rest:
            return Look(suspects, newest)
        kept = [thing for path, thing in inventory.items() if not is_internal(posixpath.basename(path))]
        sizes = (thing.stamp.size for thing in kept if stat.S_ISREG(thing.mode))
        return Look(suspects, newest, sum(1 for thing in kept if not stat.S_ISDIR(thing.mode)), sum(sizes))

    # -- names, modes, owners --------------------------------------------------------------------------

    def _check_inventory(self, inventory: Inventory, collector: Collector) -> None:
        for path, thing in inventory.items():
            strange = _strange_part(path)
            if strange is None:
                self._check_thing(path, thing, collector)
            elif strange == path:
                known = ", ".join(sorted(_TOP))
                collector.fault(
                    self._full(path), Kind.STRANGE, f"no internal names but {known}", type_of(thing)
                )

    def _check_thing(self, path: str, thing: Thing, collector: Collector) -> None:
        full = self._full(path)
        if _is_document(path) and not stat.S_ISREG(thing.mode):
            collector.fault(full, Flaw.TYPE, "a regular file", "something else")
        check_status(full, thing, self._terms.owner, collector)
        if stat.S_ISREG(thing.mode) and thing.links != 1:
            collector.notice(full, Kind.HARD_LINK, "1 name", f"{thing.links} names")

    def _full(self, path: str) -> str:
        return layout.join(str(self._version), path)

    # -- contents --------------------------------------------------------------------------------------

    def _check_contents(self, inventory: Inventory, collector: Collector) -> None:
        check = _Check(self._terms, self._version, self._tick, self._digests, collector, self._span)
        for problem in check.run():
            collector.fault(self._full(problem.path), problem.kind, problem.expected, problem.found)
        if not self._span.has_rest:
            return
        for path in sorted(_documents_of(inventory)):
            self._check_form(path, collector)

    def _check_form(self, path: str, collector: Collector) -> None:
        full = self._full(path)
        if collector.has(full, Flaw.UNREADABLE):
            return
        data = self._terms.metadata.read(full)
        for misfit in forms.misfits(data, _FORMS[posixpath.basename(path)]) if data is not None else ():
            collector.misfit(full, misfit)


def _evidence(inventory: Inventory) -> Hashable:
    """Return what is equal for equal inventories; a version of a million files has as many things."""
    return hash(tuple(sorted(inventory.items(), key=lambda item: item[0])))


def _strange_part(path: str) -> str | None:
    """Return the beginning of a path that ends in an internal name which has no business there, or None."""
    parts = path.split("/")
    for depth, name in enumerate(parts):
        if is_internal(name):
            is_known = name in (_TOP if depth == 0 else {layout.LINKS}) and depth == len(parts) - 1
            return None if is_known else "/".join(parts[: depth + 1])
    return None


def _documents_of(inventory: Inventory) -> dict[str, Thing]:
    """Return the version's documents: known internal names in their places."""
    return {path: thing for path, thing in inventory.items() if _is_document(path)}


def _is_document(path: str) -> bool:
    return is_internal(posixpath.basename(path)) and _strange_part(path) is None


def type_of(thing: Thing) -> str:
    """Say what kind of thing it is."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: SYMLINK, stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(thing.mode), "a FIFO, socket or device")


def check_status(path: str, thing: Thing, owner: int, collector: Collector, *modes: int) -> None:
    """Note a mode other than `modes` (by default what the format says), and an owner other than `owner`."""
    if thing.owner != owner:
        collector.notice(path, Kind.OWNER, f"UID {owner}", f"UID {thing.owner}")
    if stat.S_ISDIR(thing.mode) or stat.S_ISREG(thing.mode):
        expected = modes or ((DIRECTORY_MODE,) if stat.S_ISDIR(thing.mode) else (FILE_MODE,))
        mode = stat.S_IMODE(thing.mode)
        if mode not in expected:
            collector.notice(path, Kind.MODE, f"{expected[0]:04o}", f"{mode:04o}")


class _Check(_VersionCheck):
    """The check of `checks.py` with its parts that read bytes replaced, and a few notices more."""

    def __init__(
        self,
        terms: Terms,
        version: Address,
        tick: Tick,
        digests: dict[str, tuple[Stamp, Digest]],
        collector: Collector,
        span: Span,
    ) -> None:
        super().__init__(terms.metadata, version, terms.whitelist, tick)
        self._span = span
        self._in_bytes: list[Problem] = []
        self._fast = terms.fast
        self._digests = digests
        self._collector = collector

    def run(self) -> list[Problem]:
        """Check everything, or for a span without the rest, bytes alone."""
        problems = super().run()
        return problems if self._span.has_rest else sorted(self._in_bytes)

    def _check_bytes(self, tree: Tree, manifest: Mapping[str, Entry]) -> None:
        noted = self._noted_checksums(manifest)
        plain = [
            path
            for path in sorted(tree.files)
            if (entry := manifest.get(path)) and entry.link is None and not entry.is_directory
        ]
        if self._fast:
            for path in plain:
                if tree.files[path].size != manifest[path].size:
                    self._add(path, Flaw.SIZE, manifest[path].size, tree.files[path].size)
            return
        due = {path: tree.files[path] for path in plain if self._span.holds(path)}
        for path, digest in self._hashed(due):
            self._compare(path, digest, manifest[path], noted.get(path))

    def _compare(self, path: str, digest: Digest | str, entry: Entry, fast: str | None) -> None:
        before = len(self._problems)
        super()._compare(path, digest, entry, fast)
        self._in_bytes += self._problems[before:]

    def _hashed(self, due: Mapping[str, Stamp]) -> Iterator[tuple[str, Digest | str]]:
        """Yield the digest of each file; what did not change since an earlier look is not read again."""
        changed = []
        for path, stamp in due.items():
            known = self._digests.get(path)
            if known is not None and known[0] == stamp:
                yield path, known[1]
            else:
                changed.append(SourceFile(path, stamp.size))
        for path, digest in digest_files(self._root, changed, self._tick):
            if isinstance(digest, Digest):
                self._digests[path] = digest.stamp, digest
            yield path, digest

    def _noted_checksums(self, manifest: Mapping[str, Entry]) -> Mapping[str, str]:
        """Return the fast checksums; `Metadata.checksums` takes unreadable ones for none."""
        full = layout.in_place(self._version, layout.CHECKSUMS)
        try:
            data = self._metadata.read(full)
            noted = {} if data is None else documents.read_checksums(data)
        except (OSError, documents.Unreadable) as error:
            if self._span.has_rest:
                self._collector.fault(full, Flaw.UNREADABLE, "fast checksums", error)
            return {}
        for path in noted if self._span.has_rest else ():
            entry = manifest.get(path)
            if entry is None or entry.is_directory:
                found = NOTHING if entry is None else "an empty directory"
                self._collector.fault(
                    f"{self._version}/{path}", Kind.CHECKSUMS, "a file in the manifest", found
                )
        return noted

    def _compare_target(self, path: str, resolved: str, entry: Entry) -> None:
        if not self._fast:
            if self._span.holds(path):
                super()._compare_target(path, resolved, entry)
        elif (size := os.stat(resolved).st_size) != entry.size:
            self._add(path, Flaw.SIZE, entry.size, size)

    def _check_symlink(self, path: str, text: str, link: Link) -> None:
        before = len(self._problems)
        super()._check_symlink(path, text, link)
        usual = link_text(FileAddress.of(self._version, path), link)
        if self._span.has_rest and text != usual and len(self._problems) == before:
            self._collector.notice(
                f"{self._version}/{path}", Kind.SYMLINK, quoted(usual), f"{quoted(text)}, which is as good"
            )
