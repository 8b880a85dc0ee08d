"""What an archive will hold, member by member, before a byte is read: names, sizes, modes, times, links.

A plan decides everything that the bytes depend on besides the files' contents (spec/archives.md,
"Reproducible"): members sorted bytewise under one prefix; two modes; times of whole seconds.
"""

import fnmatch
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gobblerd.archive.checked_files import File, Opener, Text
from gobblerd.archive.members import EXECUTABLE_MODE, FILE_MODE, Kind, Names
from gobblerd.archive.receipt import Links
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.names import ROOT, Address, is_internal


@dataclass(frozen=True, slots=True)
class Planned:
    """One member to be written; `path` with the prefix. Size in bytes, mtime in seconds since the epoch.

    Only files have content.
    """

    path: str
    kind: Kind
    mtime: int
    size: int = 0
    mode: int = FILE_MODE
    content: File | Text | None = None
    target: str = ""


@dataclass(frozen=True, slots=True)
class Extra:
    """A member that the caller adds: where in the archive (without the prefix), and its bytes or its file.

    A file from disk is executable if its owner may execute it.
    """

    path: str
    source: bytes | str | os.PathLike[str]
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that goes into an archive, in order; `opener` opens the files.

    `replaced` are links that become what they lead to, without the prefix.
    """

    members: Sequence[Planned] = field(repr=False)
    opener: Opener
    prefix: str
    links: Links
    excludes: tuple[str, ...] = ()
    clamp_mtime: int | None = None
    place: Address = ROOT
    left_out: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    @property
    def total(self) -> int:
        """The bytes of all files."""
        return sum(member.size for member in self.members)


@dataclass(frozen=True, slots=True)
class Excluded:
    """Patterns of what is left out.

    `*`, `?` and `[...]` as in shells, but `*` crosses `/`. A pattern means a path, the last component of one,
    or everything in a directory that it means.
    """

    patterns: tuple[str, ...]

    def __contains__(self, path: str) -> bool:
        """Tell whether a path, relative to the top, is left out."""
        return bool(self.patterns) and any(self._means(each) for each in _with_parents(path))

    def _means(self, path: str) -> bool:
        name = posixpath.basename(path)
        return any(
            fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(name, pattern)
            for pattern in self.patterns
        )


def _with_parents(path: str) -> Iterator[str]:
    while path:
        yield path
        path = posixpath.dirname(path)


def arranged(
    members: Iterable[Planned], prefix: str, directory_times: Mapping[str, int], default: int
) -> list[Planned]:
    """Return all members sorted, with a directory for each that something lies in; Wrong for a bad name.

    `directory_times` has the times of directories by member name; others get `default`.
    """
    found = {prefix: _directory(prefix, directory_times.get(prefix, default))}
    names = Names()
    names.add(prefix, is_directory=True)
    for member in members:
        if flaw := names.add(member.path, is_directory=member.kind == "directory"):
            raise Wrong("{path} cannot be a member of an archive: {flaw}", path=member.path, flaw=Plain(flaw))
        found[member.path] = member
        above = posixpath.dirname(member.path)
        while above not in found:
            found[above] = _directory(above, directory_times.get(above, default))
            above = posixpath.dirname(above)
    return [found[path] for path in sorted(found, key=str.encode)]


def _directory(path: str, mtime: int) -> Planned:
    return Planned(path, "directory", mtime, mode=EXECUTABLE_MODE)


def planned_extras(extras: Iterable[Extra], prefix: str, mtime: int) -> Iterator[Planned]:
    """Yield the members that the caller adds; Wrong for a name of the registry's own."""
    for extra in extras:
        if any(is_internal(part) for part in extra.path.split("/")):
            raise Wrong("{path} cannot be added: names with .. in front are the registry's", path=extra.path)
        path = f"{prefix}/{extra.path}"
        if isinstance(extra.source, bytes):
            mode = EXECUTABLE_MODE if extra.executable else FILE_MODE
            yield Planned(path, "file", mtime, len(extra.source), mode, Text(extra.source))
        else:
            yield _from_disk(path, os.fspath(extra.source), mtime, executable=extra.executable)


def _from_disk(path: str, source: str, mtime: int, *, executable: bool) -> Planned:
    with open(source, "rb") as file:
        data = file.read()
        executable = executable or bool(os.fstat(file.fileno()).st_mode & 0o100)
    return Planned(path, "file", mtime, len(data), EXECUTABLE_MODE if executable else FILE_MODE, Text(data))
