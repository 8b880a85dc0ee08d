"""The files of an archive in staging, as a new version takes them (the seam is `registry/ingest.py`).

The archive is read once, from its first byte to its last, while its files are written to the staged tree;
only then is known what it holds, whether it was whole, and which directory is its top. Names that begin with
`..` are another registry's own: they are checked against, never taken.
"""

import os
import posixpath
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from gobblerd.archive.content import Content
from gobblerd.archive.dropped import Dropped
from gobblerd.archive.judged import Judged
from gobblerd.archive.limits import ArchiveLimits
from gobblerd.archive.reader import Reading
from gobblerd.archive.source import ArchiveFile, Progress
from gobblerd.archive.unpacking import Tree, Unpacked, Unpacking, stored
from gobblerd.domain.errors import Exceeded, Plain, Wrong, quoted
from gobblerd.domain.manifest import Entry
from gobblerd.domain.names import is_internal
from gobblerd.registry import documents, layout
from gobblerd.registry.ingest import Taken
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Reader, SourceFile, Stamp, Survey, changed
from gobblerd.storage.removal import remove_tree

_MANIFEST_MAX_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Taking:
    """How an archive is to be taken.

    `strip`: 1 where its one top directory is left out of every path, 0 where not, None: 1 if it has exactly
    one. `allow` is told of bytes before they are written, and raises to stop.
    """

    limits: ArchiveLimits
    progress: Progress
    allow: Callable[[int], None]
    strip: int | None = None
    ignore_dot: bool = False


class ArchiveFiles:
    """An archive whose files were put below `path`, which must not exist before.

    Making one reads the whole archive. Wrong, Exceeded: it is refused, and what lies at `path` is rubbish.
    """

    def __init__(self, dropped: Dropped, taking: Taking, path: str, candidates: Candidates) -> None:
        self._dropped = dropped
        self._taking = taking
        self._manifests: dict[str, bytes] = {}  # `..manifest` files that may be the version's, by path
        with Unpacking(path, dropped.stamp, candidates, taking.allow) as unpacking:
            tops = self._unpack(unpacking)
        self._top = self._top_of(tops, unpacking.tree)
        self._unpacked: list[Unpacked] = unpacking.tree.files  # until they were taken for the first time
        self._duplicates: dict[str, tuple[int, str]] = {}  # path -> size and MD5
        self._lift(path)
        if taking.ignore_dot and not self._top:
            _drop_dotted(unpacking.tree, path)
        self.survey = self._surveyed(unpacking.tree)

    @property
    def reader(self) -> Reader:
        """The requester."""
        return self._dropped.reader

    def make_directories(self, path: str) -> None:
        """Do nothing: they are there."""

    def take(self, files: Collection[SourceFile], path: str, candidates: Candidates) -> Iterator[Taken]:
        """Yield what lies below `path` already; at later calls, read the archive again for `files`."""
        del candidates  # they were asked while it was read
        if self._unpacked:
            yield from self._first()
        elif files:
            yield from self._again({file.path for file in files}, path)

    def _first(self) -> Iterator[Taken]:
        unpacked, self._unpacked = self._unpacked, []
        for each in unpacked:
            path = self._stripped(each.path)
            if each.duplicate is not None:
                self._duplicates[path] = (each.digest.size, each.digest.md5sum)
            yield Taken(path, each.digest, each.duplicate)

    def _again(self, wanted: set[str], path: str) -> Iterator[Taken]:
        """Store files that were links, and cannot be any more: the archive must still hold the same."""
        file = ArchiveFile(self._dropped.fd, self._taking.progress)
        reading = Reading(file, self._taking.limits, dotted=True)
        for member, content in reading.members():
            name = self._stripped(member.path)
            if member.kind == "file" and name in wanted:
                digest = stored(f"{path}/{name}", content, self._dropped.stamp)
                if (digest.size, digest.md5sum) != self._duplicates[name]:
                    raise changed(self._dropped.name)
                wanted.discard(name)
                yield Taken(name, digest)
        self._require_unchanged()
        if wanted:
            raise changed(self._dropped.name)

    # -- reading ---------------------------------------------------------------------------------------

    def _unpack(self, unpacking: Unpacking) -> list[str] | None:
        """Read the whole archive; return what lies at its top, None if that is `.` and left out already."""
        receipt = self._dropped.receipt
        file = ArchiveFile(self._dropped.fd, self._taking.progress, hashing=receipt is not None)
        reading = Reading(file, self._taking.limits, dotted=True)
        for member, content in reading.members():
            self._add(member, content, unpacking)
        unpacking.finish()
        self._require_unchanged()
        if receipt is not None and (file.size, file.sha256) != (receipt.size, receipt.sha256):
            raise Wrong("the archive {source} is not what its receipt says", source=self._dropped.name)
        return None if reading.top_is_dot else reading.names.names.tops()

    def _add(self, member: Judged, content: Content, unpacking: Unpacking) -> None:
        shown = self._shown(member.path)
        if shown != member.path:  # it, or a directory above it, is no user's
            unpacking.add_directory(shown)
            if member.kind == "file":
                self._keep_manifest(member, content)
        elif member.kind == "directory":
            unpacking.add_directory(member.path)
        else:
            unpacking.add(member, content)

    def _shown(self, path: str) -> str:
        """Return as much of a path as becomes part of the version: up to a name that is left out."""
        if "/." not in path and path[0] != ".":
            return path
        parts = path.split("/")
        for index, part in enumerate(parts):
            is_top = index == 0 and self._taking.strip != 0  # its own name is not looked at if it is stripped
            if is_internal(part) or (self._taking.ignore_dot and part.startswith(".") and not is_top):
                return "/".join(parts[:index])
        return path

    def _keep_manifest(self, member: Judged, content: Content) -> None:
        """Keep the `..manifest` of the archive's top, or of the first directory in it."""
        directory, _, name = member.path.rpartition("/")
        if name != layout.MANIFEST or "/" in directory or (directory and any(self._manifests)):
            return
        if member.size > _MANIFEST_MAX_BYTES:
            raise Exceeded("the archive's {path} is too large to be a manifest", path=member.path)
        self._manifests[directory] = content.whole()

    def _require_unchanged(self) -> None:
        if Stamp.of(os.fstat(self._dropped.fd)) != self._dropped.stamp:
            raise changed(self._dropped.name)

    # -- the top ---------------------------------------------------------------------------------------

    def _top_of(self, tops: list[str] | None, tree: Tree) -> str:
        """Return the directory that is to be stripped, "" for none."""
        strip = self._taking.strip
        if strip == 0 or tops is None:
            return ""
        if len(tops) == 1 and tops[0] in tree.directories:
            return tops[0]
        if strip == 1:
            shown = ", ".join(quoted(top) for top in sorted(tops)[:3]) or "nothing"
            raise Wrong(
                "strip: the archive does not hold exactly one top directory, but {tops}", tops=Plain(shown)
            )
        return ""

    def _stripped(self, path: str) -> str:
        return path[len(self._top) + 1 :] if self._top else path

    def _text(self, path: str, text: str) -> str:
        """Return a link's text without a detour above the top directory."""
        if not self._top or "../" not in text:
            return text
        end = posixpath.normpath(posixpath.join(posixpath.dirname(path), text))
        return posixpath.relpath(end, posixpath.dirname(path))

    def _lift(self, path: str) -> None:
        """Make the top directory the version's own."""
        if self._top:
            os.rename(f"{path}/{self._top}", f"{path}~")
            os.rmdir(path)
            os.rename(f"{path}~", path)

    def _surveyed(self, tree: Tree) -> Survey:
        survey = Survey()
        survey.files = sorted(
            (SourceFile(self._stripped(each.path), each.digest.size) for each in tree.files),
            key=lambda file: file.path,
        )
        survey.size = sum(file.size for file in survey.files)
        survey.symlinks = sorted((self._stripped(path), self._text(path, text)) for path, text in tree.links)
        directories = ((self._stripped(path), holds) for path, holds in tree.directories.items())
        for directory, holds in directories:
            if directory:
                survey.directories.append(directory)
                if not holds:
                    survey.empty.append(directory)
        return survey

    # -- what another registry said --------------------------------------------------------------------

    def check(self, manifest: Mapping[str, Entry]) -> None:
        """Raise Wrong unless the version is what the archive's own `..manifest` says, if it has one."""
        data = self._manifests.get(self._top)
        if data is None:
            return
        try:
            listed = documents.read_manifest(data)
        except documents.Unreadable as error:
            raise Wrong("the archive's ..manifest cannot be read: {error}", error=str(error)) from None
        receipt = self._dropped.receipt
        added = frozenset(receipt.added if receipt else ())
        for path, entry in manifest.items():
            said = listed.get(path)
            if path not in added and (said is None or (said.size, said.md5sum) != (entry.size, entry.md5sum)):
                what = "does not list it" if said is None else "says that it is another"
                raise Wrong("{path}: the archive's ..manifest {what}", path=path, what=Plain(what))
        left_out = receipt.left_out if receipt else ()
        for path in sorted(listed.keys() - manifest.keys() - set(left_out)):
            if self._taking.ignore_dot and any(part.startswith(".") for part in path.split("/")):
                continue
            raise Wrong("the archive lacks {path}, which its ..manifest lists", path=path)


def _drop_dotted(tree: Tree, path: str) -> None:
    """Leave out what begins with a dot at the top: only now it is known that the top is not stripped."""
    for name in os.listdir(path):
        if name.startswith("."):
            remove_tree(f"{path}/{name}")

    def is_left(each: str) -> bool:
        return not each.startswith(".")

    tree.files[:] = [file for file in tree.files if is_left(file.path)]
    tree.links[:] = [link for link in tree.links if is_left(link[0])]
    tree.directories = {each: holds for each, holds in tree.directories.items() if is_left(each)}
