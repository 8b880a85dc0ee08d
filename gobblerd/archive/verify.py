"""Checking an archive against what is said of it: its receipt, and the `..manifest` that it holds.

The digest of the whole file first, then every member. What the formats themselves say (headers, checksums,
ends) is checked by whoever reads an archive at all (`reader.py`).
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from gobblerd.archive.checksums import tree_checksum
from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged
from gobblerd.archive.limits import ArchiveLimits
from gobblerd.archive.members import Member
from gobblerd.archive.namespace import Namespace
from gobblerd.archive.opening import opened_archive
from gobblerd.archive.reader import Reading
from gobblerd.archive.receipt import Receipt
from gobblerd.archive.source import ArchiveFile, Progress, silent
from gobblerd.archive.trees import tree_entries
from gobblerd.domain.errors import Invalid, Plain, Refused, Wrong
from gobblerd.domain.names import is_internal
from gobblerd.registry import documents, layout

_MANIFEST_MAX_BYTES = 256 << 20

ProblemKind = Literal["digest", "missing", "extra", "changed", "unreadable", "tree"]
_SAID: Mapping[ProblemKind, str] = {
    "digest": "has another size or checksum",
    "missing": "is missing",
    "extra": "is extra",
    "changed": "is changed",
    "unreadable": "cannot be read",
    "tree": "has another tree checksum",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is not as it was said to be; `path` is a member's, or the archive's file name."""

    path: str
    kind: ProblemKind
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        """Say it in one line."""
        facts = [self.expected and f"expected {self.expected}", self.found and f"found {self.found}"]
        said = ", ".join(fact for fact in facts if fact)
        return f"{self.path}: {self.kind}" + (f" ({said})" if said else "")


@dataclass(frozen=True, slots=True)
class Verified:
    """What became of a check. Sizes in bytes, checksums in hex; `size` is that of the archive itself.

    `tree_checksum` is "" where the archive could not be read to its end.
    """

    format: str
    members: int
    size: int
    sha256: str
    tree_checksum: str
    has_receipt: bool
    has_manifest: bool
    problems: tuple[Problem, ...]

    @property
    def is_sound(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.problems


def verify_archive(
    archive: str | os.PathLike[str],
    *,
    receipt: str | os.PathLike[str] | None = None,
    require_sha256: bool = False,
    allow_large: bool = False,
    progress: Progress = silent,
) -> Verified:
    """Read an archive to its last byte and check it; what differs is in `problems`.

    The receipt is the file `receipt`, or the one beside the archive if there is one. An archive that is
    damaged, or holds what is never extracted, has that as a problem too. Invalid for a receipt that is none,
    or with `require_sha256` where there is none; Exceeded for an archive that is larger than the limits
    (`allow_large` lifts the one of 4 GiB); OSError where it cannot be read. `progress` is told of bytes read,
    twice where there is a receipt.
    """
    with opened_archive(archive, receipt, require_sha256=require_sha256) as opened:
        file = ArchiveFile(opened.fd, progress, hashing=True)
        problems: list[Problem] = []
        if opened.receipt is not None:
            problems += digest_problems(opened.fd, opened.name, opened.receipt, progress)
        reading = Reading(file, ArchiveLimits.extracting(allow_large=allow_large))
        checks = Checks(opened.receipt)
        tree = ""
        try:
            for member, content in reading.members():
                checks.add(member, content, _nowhere)
            problems += checks.problems(reading.names)
            tree = checks.tree_checksum()
        except Refused as error:
            if not isinstance(error, Wrong | Invalid):
                raise
            problems.append(Problem(opened.name, "unreadable", found=error.reason))
        return Verified(
            reading.format,
            checks.members,
            file.size,
            file.sha256 if file.position == file.size else "",
            tree,
            opened.receipt is not None,
            checks.has_manifest,
            tuple(problems),
        )


def _nowhere(_: bytes) -> None:
    """Write a piece nowhere."""


def digest_problems(fd: int, name: str, receipt: Receipt, progress: Progress) -> Iterator[Problem]:
    """Yield what is wrong with the archive as a file."""
    file = ArchiveFile(fd, progress, hashing=True)
    if file.size != receipt.size:
        yield Problem(name, "digest", f"{receipt.size} bytes", f"{file.size} bytes")
        return
    for _ in file.chunks():
        pass
    if file.sha256 != receipt.sha256:
        yield Problem(name, "digest", receipt.sha256, file.sha256)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a file's bytes were."""

    size: int
    sha256: str
    md5: str


@dataclass
class Checks:
    """The members of one archive as they are read, and what they should have been."""

    receipt: Receipt | None
    _files: dict[str, _Read] = field(default_factory=dict)
    _others: dict[str, Judged] = field(default_factory=dict)
    _modes: dict[str, int] = field(default_factory=dict)
    _manifests: dict[str, bytes] = field(default_factory=dict)  # by the directory that they are of

    @property
    def has_manifest(self) -> bool:
        """Tell whether the archive holds the manifest of a version."""
        return bool(self._manifests)

    @property
    def members(self) -> int:
        """Return how many were read."""
        return len(self._modes)

    def add(self, member: Judged, content: Content, write: Callable[[bytes], object]) -> None:
        """Read a member, handing its bytes on."""
        self._modes[member.path] = member.mode
        if member.kind != "file":
            self._others[member.path] = member
            return
        sha256, md5, kept = hashlib.sha256(), hashlib.md5(usedforsecurity=False), []
        keeps = self._is_manifest(member)
        for piece in content.chunks():
            sha256.update(piece)
            md5.update(piece)
            write(piece)
            if keeps:
                kept.append(piece)
        self._files[member.path] = _Read(member.size, sha256.hexdigest(), md5.hexdigest())
        if keeps:
            self._manifests[member.path.rpartition("/")[0]] = b"".join(kept)

    def _is_manifest(self, member: Judged) -> bool:
        """Tell whether a member is the manifest of what lies beside it."""
        directory, _, name = member.path.rpartition("/")
        is_one = name == layout.MANIFEST and "/" not in directory and not any(self._manifests)
        return is_one and member.size <= _MANIFEST_MAX_BYTES

    def tree_checksum(self) -> str:
        """Return the fingerprint of all that was read; "" where links lead round."""
        members = self._members()
        tops = {member.path.partition("/")[0] for member in members}
        prefix = tops.pop() if len(tops) == 1 else ""
        try:
            return tree_checksum(tree_entries(members, prefix))
        except Invalid:
            return ""

    def _members(self) -> list[Member]:
        files = [Member(path, "file", read.size, read.sha256) for path, read in self._files.items()]
        others = [Member(path, each.kind, target=each.target) for path, each in self._others.items()]
        return files + others

    def problems(self, names: Namespace) -> Iterator[Problem]:
        """Yield what differs, once everything was read."""
        differing = list(self._by_receipt())
        yield from differing or self._by_tree()
        for directory, data in self._manifests.items():
            yield from self._by_manifest(directory, data, names)

    # -- the receipt -----------------------------------------------------------------------------------

    def _by_receipt(self) -> Iterator[Problem]:
        if self.receipt is None:
            return
        listed = {member.path: member for member in self.receipt.members}
        for path in sorted(self._modes.keys() - listed.keys()):
            yield Problem(path, "extra")
        for path, member in listed.items():
            if path not in self._modes:
                yield Problem(path, "missing")
            elif (said := self._said(member)) != (found := self._found(path, member)):
                yield Problem(path, "changed", said, found)

    def _by_tree(self) -> Iterator[Problem]:
        """Yield a tree checksum that is not that of the members: archives are named after it."""
        if self.receipt is not None and (found := self.tree_checksum()) != self.receipt.tree_checksum:
            yield Problem(self.receipt.name, "tree", self.receipt.tree_checksum, found)

    @staticmethod
    def _said(member: Member) -> str:
        if member.kind == "file":
            return f"{member.size} bytes, sha256 {member.sha256}, mode {member.mode:04o}"
        return f"a link to {member.target}" if member.kind == "link" else "a directory"

    def _found(self, path: str, member: Member) -> str:
        read, other = self._files.get(path), self._others.get(path)
        if read is not None:
            return self._said(Member(path, "file", read.size, read.sha256, self._modes[path]))
        assert other is not None  # every member is one or the other
        return self._said(Member(path, other.kind, target=other.target, mode=member.mode))

    # -- the manifest ----------------------------------------------------------------------------------

    def _by_manifest(self, directory: str, data: bytes, names: Namespace) -> Iterator[Problem]:
        prefix = f"{directory}/" if directory else ""
        try:
            listed = documents.read_manifest(data)
        except documents.Unreadable as error:
            yield Problem(f"{prefix}{layout.MANIFEST}", "unreadable", found=str(error))
            return
        present = {path.removeprefix(prefix): path for path in self._present(prefix, names)}
        known = {member.path for member in self.receipt.members} if self.receipt else frozenset[str]()
        for path in sorted(present.keys() - listed.keys()):
            if present[path] not in known:  # the receipt's maker put it beside the version's files
                yield Problem(present[path], "extra")
        left_out = self.receipt.left_out if self.receipt else ()
        for path in sorted(listed.keys() - present.keys() - set(left_out)):
            yield Problem(prefix + path, "missing")
        for path in sorted(listed.keys() & present.keys()):
            read = self._files.get(names.end_of(present[path]))
            found = (read.size, read.md5) if read else (0, "")
            said = (listed[path].size, listed[path].md5sum)
            if found != said:
                yield Problem(present[path], "changed", _shown(*said), _shown(*found))

    def _present(self, prefix: str, names: Namespace) -> Iterator[str]:
        """Yield the paths that a manifest of the directory lists: files, links, and empty directories."""
        directories = [path for path in names.names.directories() if not _is_internal(path)]
        others = [
            path for path in self._modes if not _is_internal(path) and not names.names.is_directory(path)
        ]
        holding = {path.rpartition("/")[0] for path in (*directories, *others)}
        empty = (path for path in directories if path not in holding)
        yield from (path for path in (*others, *empty) if path.startswith(prefix))


def _is_internal(path: str) -> bool:
    return "/.." in path or is_internal(path)


def _shown(size: int, md5: str) -> str:
    return f"{size} bytes, MD5 {md5}" if md5 else "an empty directory"


def require_sound(problems: list[Problem]) -> None:
    """Raise Invalid with the first problem, and how many there are."""
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise _NotAsSaid(problems, more)


class _NotAsSaid(Invalid):
    """An archive that differs from what is said of it."""

    def __init__(self, problems: list[Problem], more: str) -> None:
        first = problems[0]
        super().__init__(
            "the archive is not what is said of it: {path} {what}{more}",
            path=first.path,
            what=Plain(_SAID[first.kind]),
            more=Plain(more),
        )
        self.problems = tuple(problems)
