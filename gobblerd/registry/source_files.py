"""The files of a directory in staging, as a new version takes them.

Each file is read once: its bytes are hashed and written from the same buffer, or found to equal a file of
the asset's latest version and not written at all. A large file is hashed before it is stored only if its
size occurs there; a small one stays in memory until that is known.
"""

import contextlib
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from gobblerd.domain.errors import Wrong
from gobblerd.registry.copying import Digest, digest_of_bytes, read_file
from gobblerd.registry.crew import Desk
from gobblerd.registry.engine import SMALL, digest_batch, work_off
from gobblerd.registry.ingest import Taken
from gobblerd.registry.lane_group import NOWHERE
from gobblerd.registry.meter import Meter, Progress
from gobblerd.registry.neighbours import Candidates
from gobblerd.registry.source import Reader, Source, SourceFile, Survey, changed
from gobblerd.storage.batches import ANYBODY, Piece, create, write_files
from gobblerd.storage.files import DIRECTORY_MODE, READ_DIRECTORY, READ_FILE, opened


class SourceFiles:
    """An opened and surveyed source; `progress` is told of its bytes, and raises to cancel.

    With `is_durable` whoever takes the files will sync them.
    """

    def __init__(
        self, source: Source, survey: Survey, progress: Progress, *, is_durable: bool = False
    ) -> None:
        self._source = source
        self._is_durable = is_durable
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
        suspects = [file for file in files if file.size > SMALL and candidates.has(file.size)]
        copying = Copying(self._source, path, candidates, self._is_durable, _unnoted(self._source.fd))
        if suspects:
            comparing = Comparing(self._source, candidates)
            others = []
            for taken in work_off(suspects, comparing, self._meter.tick):
                if taken.duplicate is None:
                    others.append(taken.path)
                else:
                    yield taken
            again = [file for file in suspects if file.path in set(others)]
            yield from work_off(again, copying, lambda _: self._meter.tick(0))
        rest = [file for file in files if file.size <= SMALL or not candidates.has(file.size)]
        yield from work_off(sorted(rest, key=_place), copying, self._meter.tick)


@dataclass
class _OfSource:
    """What copying and comparing have in common."""

    source: Source

    @contextlib.contextmanager
    def judged(self, file: SourceFile) -> Iterator[int]:
        """Open a file, if it is the requester's to read and as large as it was."""
        directory, name = _place(file)
        with (
            self.source.opened_directory(directory) as dir_fd,
            self.source.opened_file(name, file.path, dir_fd) as fd,
        ):
            if os.fstat(fd).st_size != file.size:  # limits and quota were checked with that size
                raise changed(file.path)
            yield fd

    def failed(self, _: SourceFile, error: OSError | Wrong) -> Taken:
        """Refuse the whole upload."""
        raise error


@dataclass
class Comparing(_OfSource):
    """Large files are hashed, to be stored only if no candidate is their equal."""

    candidates: Candidates
    is_durable = False  # nothing is written
    only_reads = True

    @contextlib.contextmanager
    def opened(self, file: SourceFile) -> Iterator[tuple[int, int]]:
        """Open a file to be hashed."""
        with self.judged(file) as fd:
            yield fd, NOWHERE

    def result(self, file: SourceFile, digest: Digest) -> Taken:
        """Say which candidate the file equals, if any."""
        return Taken(file.path, digest, self.candidates.equal(digest))

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[Taken]:
        """Small files are not asked for."""
        raise NotImplementedError


@dataclass
class Copying(_OfSource):
    """Files go below `path`; small ones only if no candidate is their equal."""

    path: str
    candidates: Candidates
    is_durable: bool
    flags: int  # with which small files are opened at first
    only_reads = False

    @contextlib.contextmanager
    def opened(self, file: SourceFile) -> Iterator[tuple[int, int]]:
        """Open a file and its copy to be."""
        directory, name = _place(file)
        with self.judged(file) as fd, opened(self._target(directory), READ_DIRECTORY) as target_fd:
            target = create(name, target_fd)
            try:
                yield fd, target
            finally:
                os.close(target)

    def result(self, file: SourceFile, digest: Digest) -> Taken:
        """Tell of a copied file."""
        return Taken(file.path, digest)

    def batch(self, files: Sequence[SourceFile], desk: Desk) -> list[Taken]:
        """Read a batch, and write what has no equal."""
        uid = self.source.reader.uid
        with contextlib.ExitStack() as stack:
            sources, targets = self._pieces(files, stack)

            def slowly(index: int, place: memoryview) -> Digest:
                file, (dir_fd, name, _) = files[index], sources[index]
                with self.source.opened_file(name, file.path, dir_fd) as fd:
                    if os.fstat(fd).st_size != file.size:
                        raise changed(file.path)
                    data, stamp = read_file(fd, file.path)
                place[:] = data
                return digest_of_bytes(data, stamp)

            digests = digest_batch(sources, desk.buffer, self.flags, uid or ANYBODY, slowly)
            equals = self.candidates.equals(digests, desk.spare)
            write_files(targets, bytes(equal is None for equal in equals), desk.buffer)
        return [
            Taken(file.path, digest, equal)
            for file, digest, equal in zip(files, digests, equals, strict=True)
        ]

    def _pieces(
        self, files: Sequence[SourceFile], stack: contextlib.ExitStack
    ) -> tuple[list[Piece], list[Piece]]:
        """Return where the files of a batch are, and where they go, with their directories opened."""
        opened_here: dict[str, tuple[int, int]] = {}
        sources, targets = [], []
        for file in files:
            directory, name = _place(file)
            fds = opened_here.get(directory)
            if fds is None:
                fd = self.source.open_directory(directory)
                stack.callback(os.close, fd)
                target_fd = os.open(self._target(directory), READ_DIRECTORY)
                stack.callback(os.close, target_fd)
                fds = opened_here[directory] = fd, target_fd
            sources.append((fds[0], name, file.size))
            targets.append((fds[1], name, file.size))
        return sources, targets

    def _target(self, directory: str) -> str:
        return f"{self.path}/{directory}" if directory else self.path


def _unnoted(source_fd: int) -> int:
    """Return the flags that open a file to be read without noting that in its inode, where we may do that.

    A new file's first reading would else change the inode of each, to be written with our own files' at the
    sync. Only an owner or root may leave the note out; files of others are then opened the slow way.
    """
    try:
        with opened(".", READ_DIRECTORY | os.O_NOATIME, dir_fd=source_fd):
            return READ_FILE | os.O_NOATIME
    except OSError:
        return READ_FILE


def _place(file: SourceFile) -> tuple[str, str]:
    directory, _, name = file.path.rpartition("/")
    return directory, name
