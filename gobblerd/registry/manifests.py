"""Every `..manifest` below a place, found and read with as few system calls as that takes.

For whoever goes over all manifests of a project or of the registry, looks at many and parses few. A stamp
tells whether a file is still the one that was read: as a plain tuple, since a million are compared.
"""

import os
from collections.abc import Callable, Iterable, Iterator

from gobblerd.domain.names import Address, is_readable_name
from gobblerd.registry import layout
from gobblerd.storage.files import read_all

ManifestStamp = tuple[int, int, int, int]  # inode, size, mtime and ctime in nanoseconds
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a damaged registry may hold a FIFO there

_Versions = list[tuple[Address, str]]


class Versions:
    """Finds versions, again and again: the names of an asset that lists as before are not judged anew.

    `names` lists the directories in a place, by name.
    """

    def __init__(self, root: str, names: Callable[[Address], list[str]]) -> None:
        self._root = root
        self._names = names
        self._assets: dict[str, tuple[list[str], _Versions]] = {}  # by path: what it lists, what that means

    def below(self, projects: Iterable[Address]) -> Iterator[tuple[Address, str]]:
        """Yield each version of some projects, and the absolute path of its manifest, there or not."""
        for project in projects:
            for asset in self._names(project):
                if is_readable_name(asset):
                    yield from self._below(Address(project.project, asset))

    def _below(self, asset: Address) -> _Versions:
        names, top = self._names(asset), f"{self._root}/{asset.project}/{asset.asset}/"
        known = self._assets.get(top)
        if known is not None and known[0] == names:
            return known[1]
        readable = filter(is_readable_name, names)
        found = [
            (Address(asset.project, asset.asset, name), f"{top}{name}/{layout.MANIFEST}") for name in readable
        ]
        self._assets[top] = names, found
        return found


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
