"""Reading what the registry says of its projects, assets and versions.

A missing document is None where the format allows that; a needed one that is missing or does not parse is a
Fault that names it (spec/details.md: "Missing or unreadable metadata that is needed: 500").
"""

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from gobblerd.domain.errors import Fault
from gobblerd.domain.manifest import Entry
from gobblerd.domain.names import Address, is_internal, is_readable_name
from gobblerd.domain.permissions import NOBODY, Permissions
from gobblerd.domain.usage import Quota, Usage
from gobblerd.domain.version import Latest, Summary, latest_of
from gobblerd.registry import documents, layout
from gobblerd.storage.files import STANDING, exists, read_file
from gobblerd.storage.single import has_directory

T = TypeVar("T")


class Metadata:
    """The documents of one registry, read afresh each time."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, *parts: str) -> str:
        """Return the absolute path of something in the registry."""
        return layout.join(self.root, *parts)

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a file by its path in the registry, None where there is none."""
        try:
            return read_file(self.path(path))
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _parsed(self, path: str, parse: Callable[[bytes], T]) -> T | None:
        try:
            data = self.read(path)
            return None if data is None else parse(data)
        except documents.Unreadable as error:
            raise Fault("{path} cannot be read: {error}", path=path, error=str(error)) from None
        except OSError as error:
            if error.errno not in STANDING:  # as one that does not parse
                raise
            raise Fault("{path} cannot be read: {error}", path=path, error=error.strerror) from None

    def _needed(self, path: str, parse: Callable[[bytes], T]) -> T:
        found = self._parsed(path, parse)
        if found is None:
            raise Fault("{path} is missing", path=path)
        return found

    def has(self, place: Address) -> bool:
        """Tell whether the place is a directory of the registry."""
        *above, name = (self.root, *place)
        try:
            return has_directory("/".join(above) or "/", name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link in a circle leads to no directory either
                return False
            raise

    def is_obstructed(self, place: Address) -> bool:
        """Tell whether something that is no directory lies where the place would be."""
        return exists(self.path(str(place))) and not self.has(place)

    def names(self, place: Address) -> list[str]:
        """List the directories in a place that are not internal, by name, whatever the name may be."""
        with os.scandir(self.path(str(place))) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        return sorted(itertools.filterfalse(is_internal, names))

    def _children(self, place: Address) -> list[Address]:
        return [place.child(name) for name in self.names(place) if is_readable_name(name)]

    def projects(self) -> list[Address]:
        """List the projects, by name."""
        return self._children(Address())

    def children(self, place: Address) -> list[Address]:
        """List the assets of a project or the versions of an asset, by name."""
        return self._children(place)

    def versions_below(self, place: Address) -> Iterator[Address]:
        """Yield every version at or below the place."""
        if place.version:
            yield place
            return
        for child in self._children(place):
            yield from self.versions_below(child)

    def permissions(self, place: Address) -> Permissions:
        """Return a project's permissions, or an asset's (nobody's where it has none of its own)."""
        path = layout.in_place(place, layout.PERMISSIONS)
        if place.asset:
            return self._parsed(path, documents.read_permissions) or NOBODY
        return self._needed(path, documents.read_permissions)

    def summary(self, version: Address) -> Summary:
        """Return a version's summary."""
        return self._needed(layout.in_place(version, layout.SUMMARY), documents.read_summary)

    def manifest(self, version: Address) -> dict[str, Entry]:
        """Return a version's manifest."""
        return self._needed(layout.in_place(version, layout.MANIFEST), documents.read_manifest)

    def stored_bytes(self, version: Address) -> int:
        """Return what a version adds to its project's usage, by its manifest."""
        return self._needed(layout.in_place(version, layout.MANIFEST), documents.read_stored_bytes)

    def file_sizes(self, version: Address) -> dict[str, int]:
        """Return the sizes of a version's own files (not its links) by path, by its manifest."""
        return self._needed(layout.in_place(version, layout.MANIFEST), documents.read_sizes)

    def manifest_path(self, version: Address) -> str:
        """Return the absolute path of a version's manifest."""
        return self.path(layout.in_place(version, layout.MANIFEST))

    def checksums(self, version: Address) -> dict[str, str]:
        """Return a version's fast checksums; none where there are none or they do not parse."""
        try:
            return self._parsed(layout.in_place(version, layout.CHECKSUMS), documents.read_checksums) or {}
        except Fault:
            return {}

    def latest(self, asset: Address) -> Latest | None:
        """Return what an asset's `..latest` says."""
        return self._parsed(layout.in_place(asset, layout.LATEST), documents.read_latest)

    def usage(self, project: str) -> Usage:
        """Return a project's usage; missing is not zero."""
        return self._needed(layout.join(project, layout.USAGE), documents.read_usage)

    def quota(self, project: str) -> Quota | None:
        """Return a project's quota, None where there is none."""
        return self._parsed(layout.join(project, layout.QUOTA), documents.read_quota)

    def computed_latest(self, asset: Address, without: frozenset[Address] = frozenset()) -> Latest | None:
        """Choose an asset's latest version from the summaries; those that do not parse cannot be chosen."""
        versions = [version for version in self._children(asset) if version not in without]
        found = ((version.version, self.readable_summary(version)) for version in versions)
        return latest_of((name, summary) for name, summary in found if summary is not None)

    def latest_evidence(self, asset: Address) -> int:
        """Return what is the same as long as an asset's `..latest` and its versions' summaries are.

        Costs a stat for each; only this process can compare it with another.
        """
        paths = [layout.in_place(version, layout.SUMMARY) for version in self._children(asset)]
        stamps = [(path, self._stamp(path)) for path in (layout.in_place(asset, layout.LATEST), *paths)]
        return hash(tuple(stamps))

    def _stamp(self, path: str) -> tuple[int, int, int, int] | None:
        try:
            status = os.stat(self.path(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def readable_summary(self, version: Address) -> Summary | None:
        """Return a version's summary, or None where it is missing or does not parse."""
        try:
            return self.summary(version)
        except Fault:
            return None
