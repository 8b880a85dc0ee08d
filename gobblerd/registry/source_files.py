"""The files of a directory in staging, as a new version takes them.

Each file is read once: its bytes are hashed and written from the same buffer, or found to equal a file of
the asset's latest version and not written at all.
"""

import itertools
import os
import posixpath
from collections.abc import Collection, Iterator

from gobblerd.domain.manifest import FileAddress
from gobblerd.registry.copying import (
    IN_MEMORY,
    Digest,
    copy_file,
    digest_file,
    digest_of_bytes,
    read_file,
    write_new,
)
from gobblerd.registry.ingest import Taken
from gobblerd.registry.meter import Meter, Progress
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Reader, Source, SourceFile, Survey, changed
from gobblerd.storage.files import DIRECTORY_MODE, READ_DIRECTORY, opened


class SourceFiles:
    """An opened and surveyed source; `progress` is told of its bytes, and raises to cancel."""

    def __init__(self, source: Source, survey: Survey, progress: Progress) -> None:
        self._source = source
        self._meter = Meter(progress, survey.size)
        self.survey = survey

    @property
    def reader(self) -> Reader:
        """The requester."""
        return self._source.reader

    def make_directories(self, path: str) -> None:
        """Make the version's directory at `path`, which must not exist, and all below it."""
        os.mkdir(path, DIRECTORY_MODE)
        for directory in self.survey.directories:
            os.mkdir(f"{path}/{directory}", DIRECTORY_MODE)

    def take(self, files: Collection[SourceFile], path: str, candidates: Candidates) -> Iterator[Taken]:
        """Copy files below `path`, but for those that equal a candidate."""
        by_directory = itertools.groupby(sorted(files, key=_place), key=lambda f: posixpath.dirname(f.path))
        for directory, group in by_directory:
            target = f"{path}/{directory}" if directory else path
            with (
                self._source.opened_directory(directory) as dir_fd,
                opened(target, READ_DIRECTORY) as target_fd,
            ):
                for file in group:
                    yield self._take_file(file, dir_fd, target_fd, candidates)

    def _take_file(self, file: SourceFile, dir_fd: int, target_fd: int, candidates: Candidates) -> Taken:
        path, name = file.path, posixpath.basename(file.path)
        with self._source.opened_file(name, path, dir_fd) as fd:
            if os.fstat(fd).st_size != file.size:  # limits and quota were checked with that size
                raise changed(path)
            take = self._compare if candidates.has(file.size) else self._store
            digest, duplicate = take(fd, file, target_fd, candidates)
        return Taken(path, digest, duplicate)

    def _store(
        self, fd: int, file: SourceFile, target_fd: int, _: Candidates
    ) -> tuple[Digest, FileAddress | None]:
        name = posixpath.basename(file.path)
        if file.size > IN_MEMORY:
            return copy_file(fd, file.path, name, target_fd, self._meter.tick), None
        data, stamp = read_file(fd, file.path)
        write_new(name, data, target_fd)
        self._meter.tick(len(data))
        return digest_of_bytes(data, stamp), None

    def _compare(
        self, fd: int, file: SourceFile, target_fd: int, candidates: Candidates
    ) -> tuple[Digest, FileAddress | None]:
        """Store the file unless it equals a file of the latest version; return which."""
        name = posixpath.basename(file.path)
        if file.size > IN_MEMORY:
            digest = digest_file(fd, file.path, self._meter.tick)
            duplicate = candidates.equal(digest)
            if duplicate is None:
                digest = copy_file(fd, file.path, name, target_fd, lambda _: self._meter.tick(0))
            return digest, duplicate
        data, stamp = read_file(fd, file.path)
        digest = digest_of_bytes(data, stamp)
        duplicate = candidates.equal(digest)
        if duplicate is None:
            write_new(name, data, target_fd)
        self._meter.tick(len(data))
        return digest, duplicate


def _place(file: SourceFile) -> tuple[str, str]:
    return posixpath.split(file.path)
