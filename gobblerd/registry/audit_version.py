"""One version, as an audit looks at it: everything of `checks.check_version`, and what that leaves out.

Besides sizes, checksums and links: internal names that do not belong, documents with keys that nobody
documented, `..checksums` of files that are none, symbolic links that are right but not as the registry
writes them, modes, owners and hard links.
"""

import errno
import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gobblerd.domain.errors import quoted
from gobblerd.domain.manifest import Entry, Link
from gobblerd.domain.names import Address, is_internal
from gobblerd.registry import audit_forms as forms
from gobblerd.registry import documents, layout
from gobblerd.registry.audit_files import FilesCheck
from gobblerd.registry.audit_findings import Collector, Kind, Look
from gobblerd.registry.audit_terms import WHOLE, Span, Terms
from gobblerd.registry.checks import VersionCheck
from gobblerd.registry.fast_sums import FastSums
from gobblerd.registry.flaws import Flaw
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.meter import Tick
from gobblerd.registry.source import Stamp
from gobblerd.registry.symlinks import link_text
from gobblerd.registry.tree import SYMLINK
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


@dataclass(slots=True)
class Inventory:
    """What lies in a version's directory, internal names too: as little of it as tells whether it changed.

    `evidence` is equal for equal inventories; `files` and `size` (bytes) leave internal names out.
    """

    evidence: int = 0
    newest: int = 0
    files: int = 0
    size: int = 0
    documents: dict[str, Thing] = field(default_factory=dict)

    def add(self, path: str, thing: Thing) -> None:
        """Take in one thing; in which order does not matter."""
        stamp = thing.stamp
        stamped = stamp.inode, stamp.size, stamp.mtime_ns, stamp.ctime_ns
        self.evidence += hash((path, thing.mode, thing.owner, thing.links, stamped))
        self.newest = max(self.newest, thing.stamp.ctime_ns)
        if _is_document(path):
            self.documents[path] = thing
        elif not is_internal(posixpath.basename(path)) and not stat.S_ISDIR(thing.mode):
            self.files += 1
            self.size += thing.stamp.size if stat.S_ISREG(thing.mode) else 0


def take_inventory(root: str, each: Callable[[str, Thing], None] = lambda *_: None) -> Inventory | None:
    """Look at everything in a version's directory, and tell of each; None where there is no directory.

    Directories that cannot be read are told of, and left at that: `take_tree` says why.
    """
    try:
        top = Thing.of(os.lstat(root))
    except FileNotFoundError:
        return None
    found = Inventory()
    found.add("", top)
    each("", top)
    pending = [""]
    while pending:
        directory = pending.pop()
        try:
            for path, thing in _things_in(root, directory):
                found.add(path, thing)
                each(path, thing)
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
        self._files = FilesCheck(terms, version, tick, span)

    def look(self) -> Look:
        """Return everything that is wrong; nothing if there is no such version (any more)."""
        collector = Collector(str(self._version))
        if not self._span.has_rest:
            self._files.look(collector)
            return Look(collector.suspects(), self._files.newest)
        inventory = take_inventory(self._root, lambda path, thing: self._check_thing(path, thing, collector))
        if inventory is None:
            return Look()
        if all(stat.S_ISREG(thing.mode) for thing in inventory.documents.values()):
            self._check_contents(inventory, collector)
            self._files.look(collector)
        suspects = collector.suspects(inventory.evidence)
        if suspects and take_inventory(self._root) != inventory:
            suspects = dict.fromkeys(suspects)
        return Look(suspects, inventory.newest, inventory.files, inventory.size)

    # -- names, modes, owners --------------------------------------------------------------------------

    def _check_thing(self, path: str, thing: Thing, collector: Collector) -> None:
        full, strange = self._full(path), _strange_part(path)
        if strange is not None:
            if strange == path:
                known = ", ".join(sorted(_TOP))
                collector.fault(full, Kind.STRANGE, f"no internal names but {known}", type_of(thing))
            return
        if _is_document(path) and not stat.S_ISREG(thing.mode):
            collector.fault(full, Flaw.TYPE, "a regular file", "something else")
        check_status(full, thing, self._terms.owner, collector)
        if stat.S_ISREG(thing.mode) and thing.links != 1:
            collector.notice(full, Kind.HARD_LINK, "1 name", f"{thing.links} names")

    def _full(self, path: str) -> str:
        return layout.join(str(self._version), path)

    # -- contents --------------------------------------------------------------------------------------

    def _check_contents(self, inventory: Inventory, collector: Collector) -> None:
        for problem in _Check(self._terms, self._version, collector).run():
            collector.fault(self._full(problem.path), problem.kind, problem.expected, problem.found)
        for path in sorted(inventory.documents):
            self._check_form(path, collector)

    def _check_form(self, path: str, collector: Collector) -> None:
        full = self._full(path)
        if collector.has(full, Flaw.UNREADABLE):
            return
        data = self._terms.metadata.read(full)
        for misfit in forms.misfits(data, _FORMS[posixpath.basename(path)]) if data is not None else ():
            collector.misfit(full, misfit)


def _strange_part(path: str) -> str | None:
    """Return the beginning of a path that ends in an internal name which has no business there, or None."""
    parts = path.split("/")
    for depth, name in enumerate(parts):
        if is_internal(name):
            is_known = name in (_TOP if depth == 0 else {layout.LINKS}) and depth == len(parts) - 1
            return None if is_known else "/".join(parts[: depth + 1])
    return None


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


class _Check(VersionCheck):
    """The check of `checks.py` without reading bytes, which `audit_files.py` does, and with a notice more."""

    def __init__(self, terms: Terms, version: Address, collector: Collector) -> None:
        super().__init__(terms.metadata, version, terms.whitelist, lambda *_: None)
        self._collector = collector

    def _fast_sums(self) -> FastSums:
        return {}

    def _to_read(self, *_: object) -> list[str]:
        return []

    def _compare_target(self, path: str, resolved: str, entry: Entry) -> None:
        pass

    def _check_symlink(self, path: str, text: str, link: Link) -> None:
        before = len(self._problems)
        super()._check_symlink(path, text, link)
        usual = link_text(self._version, path, link)
        if text != usual and len(self._problems) == before:
            self._collector.notice(
                f"{self._version}/{path}", Kind.SYMLINK, quoted(usual), f"{quoted(text)}, which is as good"
            )
