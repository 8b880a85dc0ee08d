"""What a user offers for upload: a directory directly in staging, or an archive file there.

Both are opened once and held; what differs between them is here, so that the action need not know.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from gobblerd.archive.archive_files import ArchiveFiles, Taking
from gobblerd.archive.dropped import Dropped, open_dropped
from gobblerd.archive.limits import ArchiveLimits
from gobblerd.archive.refusals import Damaged
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.manifest import Entry
from gobblerd.registry import layout
from gobblerd.registry.ingest import Files, Staged
from gobblerd.registry.meter import Progress
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Limits, Reader, Source, Stamp, open_source
from gobblerd.registry.source_files import SourceFiles
from gobblerd.registry.symlinks import Surroundings, aliases

WINDOW = 64 << 20  # what decompressing an archive may take of the daemon's memory
_HERE = "/archive"  # stands for the version's own directory: links in an archive never leave it


@dataclass(frozen=True, slots=True)
class Wishes:
    """How an offer is to be taken. `allow` is told of bytes before they are stored, and raises to stop.

    With `is_durable` the files will be synced in the end.
    """

    limits: Limits
    progress: Progress
    allow: Callable[[int], None]
    ignore_dot: bool
    strip: int | None
    is_durable: bool


@dataclass(frozen=True, slots=True)
class Consumable:
    """What `consume` may unlink: files below the directory `name` of staging, if they are still the same."""

    fd: int
    name: str
    inode: int
    stored: Mapping[str, Stamp]


class Offer(Protocol):
    """A directory or an archive, held open."""

    def files(self, wishes: Wishes, path: str, candidates: Candidates) -> Files:
        """Return the files to be put at `path`; Wrong, Exceeded: they cannot be taken."""
        ...

    def surroundings(self, staging: str, registry: str, whitelist: tuple[str, ...]) -> Surroundings:
        """Return where the symbolic links among them may go."""
        ...

    def check(self, manifest: Mapping[str, Entry]) -> None:
        """Raise Wrong unless a version made of them is what the offer itself says of it."""
        ...

    def consumable(self, staged: Staged) -> Consumable:
        """Return what may go once the version is there."""
        ...


@contextlib.contextmanager
def opened_offer(staging_fd: int, name: str, reader: Reader) -> Iterator[Offer]:
    """Open what is called `name` in staging; Wrong if it is no offer, Forbidden if it is not the reader's."""
    if _looks_like_a_file(staging_fd, name):
        dropped = open_dropped(staging_fd, name, reader)
        try:
            yield _Archive(dropped, staging_fd)
        except Damaged as error:  # which says nothing of where
            raise Wrong("the source {source}: {error}", source=name, error=Plain(error.reason)) from error
        finally:
            os.close(dropped.fd)
        return
    source = open_source(staging_fd, name, reader)
    try:
        yield _Directory(source)
    finally:
        os.close(source.fd)


def _looks_like_a_file(staging_fd: int, name: str) -> bool:
    """Tell which of the two to try; what it really is, is judged when it is open."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=staging_fd, follow_symlinks=False).st_mode)
    except OSError:
        return False


class _Directory:
    def __init__(self, source: Source) -> None:
        self._source = source

    def files(self, wishes: Wishes, path: str, candidates: Candidates) -> Files:
        del path, candidates
        if wishes.strip is not None:
            raise Wrong("strip: the source {source} is a directory, not an archive", source=self._source.name)
        survey = self._source.survey(wishes.limits, ignore_dot=wishes.ignore_dot)
        return SourceFiles(self._source, survey, wishes.progress, is_durable=wishes.is_durable)

    def surroundings(self, staging: str, registry: str, whitelist: tuple[str, ...]) -> Surroundings:
        here = tuple(layout.join(each, self._source.name) for each in aliases(staging))
        return Surroundings(here, aliases(registry), whitelist)

    def check(self, manifest: Mapping[str, Entry]) -> None:
        """Find nothing wrong: a directory says nothing of itself."""

    def consumable(self, staged: Staged) -> Consumable:
        return Consumable(self._source.fd, self._source.name, self._source.inode, staged.stored)


class _Archive:
    def __init__(self, dropped: Dropped, staging_fd: int) -> None:
        self._dropped = dropped
        self._staging_fd = staging_fd
        self._files: ArchiveFiles | None = None

    def files(self, wishes: Wishes, path: str, candidates: Candidates) -> Files:
        limits = wishes.limits
        most = ArchiveLimits(limits.files, limits.size, WINDOW, limits.path, limits.depth)
        taking = Taking(most, wishes.progress, wishes.allow, wishes.strip, wishes.ignore_dot)
        self._files = ArchiveFiles(self._dropped, taking, path, candidates)
        return self._files

    def surroundings(self, staging: str, registry: str, whitelist: tuple[str, ...]) -> Surroundings:
        del staging, registry, whitelist
        return Surroundings((_HERE,), (), ())

    def check(self, manifest: Mapping[str, Entry]) -> None:
        assert self._files is not None  # they were taken before they are checked
        self._files.check(manifest)

    def consumable(self, staged: Staged) -> Consumable:
        del staged
        inode = os.fstat(self._staging_fd).st_ino
        return Consumable(self._staging_fd, ".", inode, {self._dropped.name: self._dropped.stamp})
