"""What goes into members: where the bytes are, how they are opened, and that they are the right ones.

A file of a version is opened beneath the registry, following no link but an absolute one into a whitelisted
directory, and its bytes are checked against the manifest while they are packed: a rotten byte ends the work
instead of being archived. By the fast checksum where the version has one, else by MD5.
"""

import errno
import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import xxhash

from gobblerd.archive.checksums import CHUNK, Hash
from gobblerd.domain.errors import Invalid, Plain, Wrong
from gobblerd.registry.browse import open_whitelisted
from gobblerd.storage.batches import ANYBODY, read_files
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE

_FOLLOW = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})

Progress = Callable[[int, int, str], None]  # bytes done, bytes in all, the member at hand


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes in memory."""

    data: bytes


@dataclass(frozen=True, slots=True)
class File:
    """A file on disk; `path` as its opener takes it. Checksums in hex, "" where none is known."""

    path: str
    md5sum: str = ""
    xxh128: str = ""


class Opener(Protocol):
    """Opens the files of one source."""

    def open(self, file: File) -> int:
        """Return a descriptor; OSError if it cannot be opened."""

    def read_many(self, files: Sequence[tuple[File, int]]) -> list[bytes | None]:
        """Read small files, given with their sizes; None for what is to be read, and judged, one by one."""

    def close(self) -> None:
        """Let go of what is held for the next file."""


class PathOpener:
    """Opens files by their paths, following links: what whoever runs this may read."""

    def open(self, file: File) -> int:
        """Open the file."""
        return os.open(file.path, _FOLLOW)

    def read_many(self, files: Sequence[tuple[File, int]]) -> list[bytes | None]:
        """Read none: files that may change while they are read are watched one by one."""
        return [None] * len(files)

    def close(self) -> None:
        """Hold nothing."""


class RegistryOpener:
    """Opens files of versions by their paths in the registry; `whitelist` None follows any absolute link.

    Keeps the directory of the last file open: members come sorted, so the next one is likely in it too.
    """

    def __init__(self, root: str, whitelist: Sequence[str] | None) -> None:
        self._root = root
        self._whitelist = whitelist
        self._directory = ""
        self._fd = -1

    def open(self, file: File) -> int:
        """Open the file."""
        directory, _, name = file.path.rpartition("/")
        if directory != self._directory or self._fd < 0:
            self._enter(directory)
        try:
            return os.open(name, READ_FILE, dir_fd=self._fd)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return self._follow(os.readlink(name, dir_fd=self._fd), error)

    def _enter(self, directory: str) -> None:
        self.close()
        fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in directory.split("/"):
            try:
                below = os.open(name, READ_DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = below
        self._fd, self._directory = fd, directory

    def _follow(self, target: str, error: OSError) -> int:
        if not os.path.isabs(target):
            raise error
        return (
            os.open(target, _FOLLOW) if self._whitelist is None else open_whitelisted(target, self._whitelist)
        )

    def read_many(self, files: Sequence[tuple[File, int]]) -> list[bytes | None]:
        """Read files of one directory after the other, each directory's in one go."""
        found: list[bytes | None] = []
        for directory, group in itertools.groupby(files, lambda each: each[0].path.rpartition("/")[0]):
            found += self._read_in(directory, list(group))
        return found

    def _read_in(self, directory: str, files: Sequence[tuple[File, int]]) -> list[bytes | None]:
        try:
            if directory != self._directory or self._fd < 0:
                self._enter(directory)
        except OSError:
            return [None] * len(files)
        pieces = [(self._fd, file.path.rpartition("/")[2], size) for file, size in files]
        buffer = bytearray(sum(size for _, size in files))
        stamps = read_files(pieces, buffer, READ_FILE, ANYBODY)
        ends = list(itertools.accumulate(size for _, size in files))
        return [
            None if stamp is None else bytes(buffer[end - size : end])
            for stamp, (_, size), end in zip(stamps, files, ends, strict=True)
        ]

    def close(self) -> None:
        """Close the directory."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class CheckedReading:
    """Reads one file after the other, counts, checks; `sha256` is that of the last one read to its end.

    With `hashed=False` no SHA-256 is computed: a stream that leaves no receipt needs none.
    """

    def __init__(self, opener: Opener, total: int, progress: Progress | None, *, hashed: bool = True) -> None:
        self._opener = opener
        self._total = total
        self._done = 0
        self._progress = progress
        self._hashed = hashed
        self._ready: dict[str, bytes] = {}
        self.sha256 = ""

    def prepare(self, files: Sequence[tuple[str, File, int]]) -> None:
        """Read small files in one go, given as `shown`, file and size; their turns then cost little."""
        found = self._opener.read_many([(file, size) for _, file, size in files])
        self._ready = {
            shown: data
            for (shown, file, _), data in zip(files, found, strict=True)
            if data is not None and _is_known(file, data)
        }

    def whole(self, content: File | Text | None, size: int, shown: str) -> bytes:
        """Return the bytes of a small file, as `chunks` yields them."""
        assert content is not None  # it is a file
        if isinstance(content, Text):
            data = content.data
        elif (ready := self._ready.pop(shown, None)) is not None:
            data = ready
        else:
            data = b"".join(self._checked(content, size, shown))
        if self._hashed:
            self.sha256 = hashlib.sha256(data).hexdigest()
        self._tell(size, shown)
        return data

    def chunks(self, content: File | Text | None, size: int, shown: str) -> Iterator[bytes]:
        """Yield the bytes of a file; Invalid or Wrong where they are not what they must be, naming `shown`.

        Take them to the end: what is wrong is often known only there.
        """
        assert content is not None  # as above
        digest = hashlib.sha256()
        chunks = iter((content.data,)) if isinstance(content, Text) else self._checked(content, size, shown)
        for chunk in chunks:
            if self._hashed:
                digest.update(chunk)
            yield chunk
            self._tell(len(chunk), shown)
        self.sha256 = digest.hexdigest()

    def _tell(self, size: int, shown: str) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(self._done, self._total, shown)

    def _checked(self, file: File, size: int, shown: str) -> Iterator[bytes]:
        fd = self._open(file, shown)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise Wrong("{path} is not a regular file any more", path=shown)
            if before.st_size != size:
                raise _unlike(file, shown, f"it has {before.st_size} bytes, not {size}")
            checked = xxhash.xxh3_128() if file.xxh128 else hashlib.md5(usedforsecurity=False)
            yield from _read(fd, file, size, shown, checked if file.md5sum else None)
            self._judge(file, size, shown, checked)
            if not file.md5sum and _stamp(os.fstat(fd)) != _stamp(before):
                raise Wrong("{path} changed while it was read", path=shown)
        finally:
            os.close(fd)

    def _open(self, file: File, shown: str) -> int:
        try:
            return self._opener.open(file)
        except OSError as error:
            if file.md5sum and error.errno in _GONE:
                raise _unlike(file, shown, "there is no such file") from None
            raise

    def _judge(self, file: File, size: int, shown: str, checked: Hash) -> None:
        """Compare with what is known; a fast checksum that is older than the manifest gives way to MD5."""
        if not file.md5sum:
            return
        checksum = checked.hexdigest()
        if checksum in {file.xxh128, file.md5sum}:
            return
        if file.xxh128 and self._md5_again(file, size, shown, checksum) == file.md5sum:
            return
        raise _unlike(file, shown, "its checksum differs")

    def _md5_again(self, file: File, size: int, shown: str, checksum: str) -> str:
        """Return the MD5 of the file, provided that its bytes are those that were read before."""
        found = hashlib.md5(usedforsecurity=False)
        same = xxhash.xxh3_128()
        fd = self._open(file, shown)
        try:
            for chunk in _read(fd, file, size, shown, found):
                same.update(chunk)
        finally:
            os.close(fd)
        return found.hexdigest() if same.hexdigest() == checksum else ""


def _is_known(file: File, data: bytes) -> bool:
    """Tell whether these are the bytes; if not, reading them again in their turn says what is wrong."""
    if file.xxh128:
        return xxhash.xxh3_128_hexdigest(data) == file.xxh128
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == file.md5sum


def _read(fd: int, file: File, size: int, shown: str, checked: Hash | None) -> Iterator[bytes]:
    """Yield exactly `size` bytes."""
    left = size
    while left:
        chunk = os.read(fd, min(left, CHUNK))
        if not chunk:
            raise _unlike(file, shown, f"it has {size - left} bytes, not {size}")
        left -= len(chunk)
        if checked is not None:
            checked.update(chunk)
        yield chunk


def _stamp(status: os.stat_result) -> tuple[int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _unlike(file: File, shown: str, why: str) -> Exception:
    if not file.md5sum:
        return Wrong("{path} changed while it was read: {why}", path=shown, why=Plain(why))
    return Invalid("{path} is not what the manifest says: {why}", path=shown, why=Plain(why))
