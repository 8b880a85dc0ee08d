"""Every `..manifest` below a place, found and read with as few system calls as that takes.

For whoever goes over all manifests of a project or of the registry, looks at many and parses few. A stamp
tells whether a file is still the one that was read: as a plain tuple, since a million are compared.
"""

import os
from collections.abc import Iterable, Iterator

from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.listing import directories_in
from gobblerd.storage.files import read_all

ManifestStamp = tuple[int, int, int, int]  # inode, size, mtime and ctime in nanoseconds
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a damaged registry may hold a FIFO there

# Project, asset and version, and the manifest's absolute path: an `Address` of each takes ten times as long.
Found = tuple[str, str, str, str]


class Versions:
    """Finds versions, again and again: what an asset that lists as before holds is not worked out anew.

    OSError where a place cannot be listed; with `tolerant`, one that is gone holds nothing.
    """

    def __init__(self, root: str, *, tolerant: bool = False) -> None:
        self._root = root
        self._tolerant = tolerant
        self._assets: dict[str, tuple[list[str], list[Found]]] = {}  # by path: what it lists, what that means

    def projects(self) -> list[Address]:
        """List the projects, by name."""
        return list(map(Address, self._names(self._root)))

    def below(self, projects: Iterable[Address]) -> Iterator[Found]:
        """Yield each version of some projects; whether its manifest is there is the caller's business."""
        for project in projects:
            for asset in self._names(f"{self._root}/{project.project}"):
                yield from self._below(project.project, asset)

    def _below(self, project: str, asset: str) -> list[Found]:
        top = f"{self._root}/{project}/{asset}"
        names = self._names(top)
        known = self._assets.get(top)
        if known is not None and known[0] == names:
            return known[1]
        found = [(project, asset, name, f"{top}/{name}/{layout.MANIFEST}") for name in names]
        self._assets[top] = names, found
        return found

    def _names(self, path: str) -> list[str]:
        try:
            return directories_in(path)
        except (FileNotFoundError, NotADirectoryError):
            if self._tolerant:
                return []
            raise


def stamp_of(status: os.stat_result) -> ManifestStamp:
    """Take the stamp from a stat result."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def stamp_at(path: str) -> ManifestStamp | None:
    """Return the stamp of the file at an absolute path, None where there is none."""
    try:
        return stamp_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_stamped(path: str) -> tuple[ManifestStamp, bytes]:
    """Read a file, and take its stamp first: one that changes meanwhile has another one afterwards."""
    fd = os.open(path, _READ)
    try:
        status = os.fstat(fd)
        data = os.read(fd, status.st_size + 1)
        if len(data) != status.st_size:  # growing, or larger than one read may be
            data += read_all(fd, status.st_size)
    finally:
        os.close(fd)
    return stamp_of(status), data
