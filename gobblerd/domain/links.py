"""Chains of links: from a link to its parent, to the parent's own parent, and so on to the real file.

Everything here is a value or a rule; where the links are read from is the caller's business.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.domain.names import Address, is_internal, is_readable_name, is_utf8

# Which of the files that are asked for exist, each with its own link; None for a real file.
LookUp = Callable[[set[FileAddress]], Mapping[FileAddress, Link | None]]
# Files that exist, each with its parent and its real file; None for a real file.
Steps = Mapping[FileAddress, tuple[FileAddress, FileAddress] | None]


def is_proper_path(path: str) -> bool:
    """Tell whether a path within a version could be a user's file: clean, relative, not internal."""
    parts = path.split("/")
    is_clean = all(part not in {"", "."} and not is_internal(part) for part in parts)
    return is_clean and "\0" not in path and is_utf8(path)


def is_proper(file: FileAddress) -> bool:
    """Tell whether the address can be of a file of a version; what metadata says may be anything."""
    return all(map(is_readable_name, (file.project, file.asset, file.version))) and is_proper_path(file.path)


class Doomed:
    """The places that are to be deleted; they need not exist."""

    def __init__(self, places: Iterable[Address]) -> None:
        self._places = frozenset(tuple(place) for place in places)
        self.projects = frozenset(place[0] for place in self._places)

    def __contains__(self, place: Address | FileAddress | Link) -> bool:
        """Tell whether the version, or the version of the file or of the link's parent, is to be deleted."""
        project = place.project
        if project not in self.projects:
            return False
        places = self._places
        return (
            (project, place.asset, place.version) in places
            or (project, place.asset) in places
            or (project,) in places
        )

    def takes(self, link: Link) -> bool:
        """Tell whether the link loses its parent or its ancestor."""
        return link in self or (link.ancestor is not None and link.ancestor in self)


def step(link: Link) -> tuple[FileAddress, FileAddress]:
    """Return the link's parent and its real file."""
    parent = link.parent
    return parent, link.ancestor or parent


def gather(steps: Iterable[tuple[FileAddress, FileAddress]], look_up: LookUp) -> Steps:
    """Return the files that the chains which begin with `steps` pass; those that do not exist are left out.

    `look_up` is asked for whole sets, so that it reads each manifest once for all chains that pass it.
    """
    known: dict[FileAddress, tuple[FileAddress, FileAddress] | None] = {}
    asked: set[FileAddress] = set()
    pending = {file for each in steps for file in each}
    while pending:
        asked |= pending
        found = {file: step(link) if link else None for file, link in look_up(pending).items()}
        known.update(found)
        pending = {file for each in found.values() if each for file in each} - asked
    return known


@dataclass(frozen=True, slots=True)
class _Living:
    """The first and the last living file of the rest of a chain."""

    nearest: FileAddress
    farthest: FileAddress


class Chains:
    """Where links go once doomed places are gone (spec/details.md, "reroute_links").

    Each file's rest of the chain is worked out once: the chains of an asset's versions share theirs, and are
    as long as it has versions.
    """

    def __init__(self, files: Steps, doomed: Doomed) -> None:
        self._files = files
        self._doomed = doomed
        self._rests: dict[FileAddress, _Living | None] = {}

    def rerouted(self, parent: FileAddress, target: FileAddress) -> Link | None:
        """Return the link that replaces one to these; None if no file of its chain lives.

        It goes to the nearest living file, with the farthest as ancestor.
        """
        rest = self._rest(self._next(parent, target))
        return Link.to(rest.nearest, rest.farthest) if rest else None

    def _next(self, parent: FileAddress, target: FileAddress) -> FileAddress:
        """Return the parent; where it does not exist, the ancestor is all that is known of the rest."""
        return parent if parent in self._files else target

    def _rest(self, file: FileAddress) -> _Living | None:
        passed: list[FileAddress] = []
        at: FileAddress | None = file
        while at is not None and at not in self._rests:
            self._rests[at] = None  # a chain that comes back here is damaged, and ends
            passed.append(at)
            following = self._files.get(at)
            at = self._next(*following) if following else None
        rest = self._rests[at] if at is not None else None
        for each in reversed(passed):
            if each in self._files and each not in self._doomed:
                rest = _Living(each, rest.farthest if rest else each)
            self._rests[each] = rest
        return rest
