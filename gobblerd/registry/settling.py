"""Turning symbolic links into manifest entries, each after the one that it goes to.

A link takes size and MD5 from its parent's entry, and its ancestor from the parent's own link; within one
version the parents may be links themselves, in chains of any length.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from gobblerd.domain.errors import Absent, Plain, Wrong
from gobblerd.domain.manifest import Entry, FileAddress, link_to
from gobblerd.domain.names import Address
from gobblerd.registry.copying import digest_file
from gobblerd.registry.source import Reader, opened_for
from gobblerd.registry.symlinks import LocalTarget, Target

ManifestOf = Callable[[Address], Mapping[str, Entry]]
_Others = dict[tuple[str, str, str], Mapping[str, Entry]]  # manifests that were asked for, by version


@dataclass(frozen=True)
class Settling:
    """The links of one version; `manifest_of` gives those of others (Absent, Wrong: not to be linked to)."""

    version: Address
    manifest_of: ManifestOf
    reader: Reader

    def settle(self, targets: Mapping[str, Target], manifest: dict[str, Entry]) -> None:
        """Add an entry for every link; Wrong names one that goes to no file or round in a circle."""
        others: _Others = {}
        for path, target in targets.items():
            if path in manifest:
                continue
            if not isinstance(target, LocalTarget):
                manifest[path] = self._entry(path, target, manifest, others)
                continue
            for each in reversed(list(_chain(path, targets, manifest))):
                manifest[each] = self._entry(each, targets[each], manifest, others)

    def parents(self, targets: Mapping[str, FileAddress]) -> dict[str, tuple[FileAddress, Entry]]:
        """Return each target with its entry in its version's manifest; Wrong names a link to no file."""
        others: _Others = {}
        found = {}
        for path, target in targets.items():
            entry = self._entry_elsewhere(path, target, others)
            if entry is None or entry.is_directory:
                raise _no_file(path, target)
            found[path] = target, entry
        return found

    def _entry(self, path: str, target: Target, manifest: Mapping[str, Entry], others: _Others) -> Entry:
        if isinstance(target, FileAddress):
            parent, entry = target, self._entry_elsewhere(path, target, others)
        elif isinstance(target, LocalTarget):
            parent, entry = FileAddress.of(self.version, target.path), manifest.get(target.path)
        else:
            with opened_for(target.resolved, self.reader, path, target.within) as fd:
                digest = digest_file(fd, path, lambda _: None)
            return Entry(digest.size, digest.md5sum)
        if entry is None or entry.is_directory:
            raise _no_file(path, target)
        return Entry(entry.size, entry.md5sum, link_to(parent, entry))

    def _entry_elsewhere(self, path: str, target: FileAddress, others: _Others) -> Entry | None:
        place = target.project, target.asset, target.version
        try:
            if place not in others:
                others[place] = self.manifest_of(target.place)
            return others[place].get(target.path)
        except (Absent, Wrong) as error:
            raise Wrong(
                "the symbolic link {path} cannot be made a link to {target}: {error}",
                path=path,
                target=str(target),
                error=Plain(error.reason),
            ) from None


def _no_file(path: str, target: LocalTarget | FileAddress) -> Wrong:
    return Wrong(
        "the symbolic link {path} goes to {target}, which is no file of that version",
        path=path,
        target=target.path if isinstance(target, LocalTarget) else str(target),
    )


def _chain(path: str, targets: Mapping[str, Target], manifest: Mapping[str, Entry]) -> Iterator[str]:
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
