"""Reading, writing, listing, linking and unlinking many files in one go, relative to held descriptors.

With the C extension a batch costs one call without the GIL, so that two threads keep two cores busy; without
it the same system calls are made from here. Only the ordinary case is handled: whatever is not as expected
comes back as None, for the caller to judge the slow way.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import stat
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import xxhash

from gobblerd.domain.names import is_internal
from gobblerd.storage import native
from gobblerd.storage.files import CREATE, FILE_MODE, opened, write_all
from gobblerd.storage.lanes import WORTH_WHILE, md5_many

Piece = tuple[int, str, int]  # directory's descriptor, name, size in bytes
RawStamp = tuple[int, int, int, int]  # inode, size, mtime and ctime in nanoseconds
Name = tuple[str, int, RawStamp]  # name, mode
Offered = tuple[str, int, int | str | None]  # and a regular file's size, or a symbolic link's text
# A column each: stamps, MD5 and xxh3-128 in lower-case hex.
Digests = tuple[list[RawStamp | None], list[str], list[str]]
T = TypeVar("T")
UNREAD, HASHED, LARGE = range(3)
STAMP = struct.Struct("Qqqq")  # a RawStamp
DIGEST = 16  # bytes of a checksum
ANYBODY = -1  # as an owner: whoever owns the file

_MANY_LINKS = 32  # that are made in one go, and seen as one change by who audits
_TINY = 4096  # bytes that a lane alone hashes as soon as hashlib has begun
_NAMES = 1000  # that are listed at a time
_SOME = 64  # files that are read in a while
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Digested(NamedTuple):
    """Files that were read and hashed, a column each: bytes, since most callers only compare them."""

    states: bytes  # UNREAD, HASHED or LARGE
    stamps: bytes  # each a STAMP
    md5s: bytes  # each of DIGEST bytes
    xxh128s: bytes


class Listed(NamedTuple):
    """What is in a directory besides plain files."""

    holds_files: bool  # plain ones
    others: list[Name]
    error: int = 0  # why it could not be listed whole


def read_files(
    pieces: Sequence[Piece], buffer: bytearray | memoryview, flags: int, owner: int
) -> list[RawStamp | None]:
    """Read files into the buffer, one after the other, each at the sum of the sizes before it.

    A file that cannot be opened with `flags`, is not regular, not `owner`'s, not of its size, or changes
    while it is read is None; its place in the buffer then holds anything.
    """
    if native.NATIVE is not None:
        found: list[RawStamp | None] = native.NATIVE.read_files(pieces, buffer, flags, owner)
        return found
    return [
        _read_one(piece, place, flags, owner)
        for piece, place in zip(pieces, places(pieces, buffer), strict=True)
    ]


def places(pieces: Sequence[Piece], buffer: bytearray | memoryview) -> list[memoryview]:
    """Return where in the buffer the bytes of each file lie; ValueError if it has no room for all."""
    view, ends = memoryview(buffer), list(itertools.accumulate(size for _, _, size in pieces))
    if ends and ends[-1] > len(view):
        raise ValueError("the files do not fit the buffer")
    return [view[start:end] for start, end in itertools.pairwise([0, *ends])]


def digest_files(pieces: Sequence[Piece], buffer: bytearray | memoryview, flags: int, owner: int) -> Digests:
    """Read files as `read_files` does, and hash each; "" twice where the stamp is None."""
    if native.NATIVE is not None and (len(pieces) >= WORTH_WHILE or _are_tiny(pieces)):
        found: Digests = native.NATIVE.digest_files(pieces, buffer, flags, owner)
        return found
    stamps = read_files(pieces, buffer, flags, owner)
    there = [place for place, stamp in zip(places(pieces, buffer), stamps, strict=True) if stamp]
    md5sums, xxh128s = iter(md5_many(there)), map(xxhash.xxh3_128_hexdigest, there)
    return (
        stamps,
        [next(md5sums) if stamp else "" for stamp in stamps],
        [next(xxh128s) if stamp else "" for stamp in stamps],
    )


def digest_names(
    top_fd: int, paths: list[str], buffer: bytearray | memoryview, flags: int, most: int
) -> Digested:
    """Read and hash the first of some files below a directory: as many as can be in a while, at least one.

    Of a file of more than `most` bytes, for which the buffer has room, there is only the stamp. Unread is
    what cannot be opened with `flags`, is not regular, or changes while it is read.
    """
    if native.NATIVE is not None:
        return Digested(*native.NATIVE.digest_names(top_fd, paths, buffer, flags, most))
    view = memoryview(buffer)
    if not 0 < most <= len(view):
        raise ValueError("the buffer has no room for a file")
    found = [_digest_one(top_fd, path, view[:most], flags) for path in paths[:_SOME]]
    states, stamps, md5s, xxh128s = zip(*found, strict=True) if found else ((), (), (), ())
    return Digested(bytes(states), b"".join(stamps), b"".join(md5s), b"".join(xxh128s))


def _digest_one(top_fd: int, path: str, room: memoryview, flags: int) -> tuple[int, bytes, bytes, bytes]:
    stamp: RawStamp | None = None
    with contextlib.suppress(OSError), opened(path, flags, dir_fd=top_fd) as fd:
        before = os.fstat(fd)
        if stat.S_ISREG(before.st_mode) and before.st_size > len(room):
            return LARGE, STAMP.pack(*_raw(before)), bytes(DIGEST), bytes(DIGEST)
        if stat.S_ISREG(before.st_mode):
            place = room[: before.st_size]
            stamp = _read_opened(fd, place, before)
    if stamp is None:
        return UNREAD, bytes(STAMP.size), bytes(DIGEST), bytes(DIGEST)
    md5 = hashlib.md5(place, usedforsecurity=False).digest()
    return HASHED, STAMP.pack(*stamp), md5, xxhash.xxh3_128_digest(place)


def _are_tiny(pieces: Sequence[Piece]) -> bool:
    """Tell whether there is so little to hash that calling somebody else costs more."""
    return all(size <= _TINY for _, _, size in pieces)


def _read_one(piece: Piece, place: memoryview, flags: int, owner: int) -> RawStamp | None:
    dir_fd, name, size = piece
    try:
        with opened(name, flags, dir_fd=dir_fd) as fd:
            before = os.fstat(fd)
            if (
                not stat.S_ISREG(before.st_mode)
                or before.st_size != size
                or owner not in {ANYBODY, before.st_uid}
            ):
                return None
            return _read_opened(fd, place, before)
    except OSError:
        return None


def _read_opened(fd: int, place: memoryview, before: os.stat_result) -> RawStamp | None:
    """Read an opened file; return its stamp, None where it changed meanwhile."""
    done = 0
    while done < len(place) and (got := os.preadv(fd, [place[done:]], done)):
        done += got
    stamp = _raw(before)
    return stamp if done == len(place) and _raw(os.fstat(fd)) == stamp else None


def _raw(status: os.stat_result) -> RawStamp:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def write_files(pieces: Sequence[Piece], wanted: bytes | bytearray, buffer: bytearray | memoryview) -> None:
    """Write new files from the buffer, laid out as `read_files` does; only those whose byte in `wanted` is 1.

    OSError where one could not be written; some may be by then.
    """
    if native.NATIVE is not None:
        native.NATIVE.write_files(pieces, wanted, buffer, CREATE, FILE_MODE)
        return
    offset, view = 0, memoryview(buffer)
    for (dir_fd, name, size), is_wanted in zip(pieces, wanted, strict=True):
        if is_wanted:
            write_new(name, view[offset : offset + size], dir_fd)
        offset += size


def write_new(name: str, data: bytes | memoryview, dir_fd: int) -> None:
    """Write one new file of the tree; durable only with the tree."""
    target = create(name, dir_fd)
    try:
        write_all(target, data)
    finally:
        os.close(target)


def create(name: str, dir_fd: int) -> int:
    """Open a new file for writing; FileExistsError if anything is there, a link included."""
    return os.open(name, CREATE, FILE_MODE, dir_fd=dir_fd)


def list_directories(
    top_fd: int, paths: Sequence[str], files: dict[str, RawStamp], nothing: RawStamp | None = None
) -> list[Listed]:
    """List directories below an opened one ("" is that itself); what is in them is judged, no link followed.

    Plain files, which are regular and have a name that is ASCII and not internal, go into `files`: their path
    from the top, and their stamp. With `nothing` that stands for every stamp, and of a mode there is only the
    type, which most filesystems tell without a look at each. Paths are valid UTF-8.
    """
    if native.NATIVE is not None:
        found = native.NATIVE.list_directories(top_fd, paths, nothing, files)
        return [Listed(*each) for each in found]
    return [_listed(top_fd, path, files, nothing) for path in paths]


def _listed(top_fd: int, path: str, files: dict[str, RawStamp], nothing: RawStamp | None) -> Listed:
    holds_files, others = False, []
    prefix = f"{path}/" if path else ""
    judged = _name if nothing is None else partial(_kind, nothing)
    try:
        with opened(path or ".", _LIST, dir_fd=top_fd) as fd, os.scandir(fd) as entries:
            for name, mode, stamp in map(judged, entries):
                if stat.S_ISREG(mode) and name.isascii() and not is_internal(name):
                    holds_files = True
                    files[prefix + name] = stamp
                else:
                    others.append((name, mode, stamp))
    except OSError as error:
        return Listed(holds_files, others, error.errno or errno.EIO)
    return Listed(holds_files, others)


def survey_directory(fd: int) -> Iterator[list[Offered]]:
    """Yield the names in an opened directory, what they are, and of files and links what there is to know.

    A link that could not be read has None, as anything else has. OSError where the directory cannot be
    listed; where one name is to blame (it went meanwhile), that is its `filename`.
    """
    if native.NATIVE is None:
        yield from _judged(fd, partial(_offered, fd))
        return
    os.lseek(fd, 0, os.SEEK_SET)
    while names := native.NATIVE.survey_directory(fd):
        yield names


def _offered(fd: int, entry: "os.DirEntry[str]") -> Offered:
    if entry.is_symlink():
        return entry.name, stat.S_IFLNK, _text_of(entry.name, fd)
    status = entry.stat(follow_symlinks=False)
    kind = stat.S_IFMT(status.st_mode)
    return entry.name, kind, status.st_size if kind == stat.S_IFREG else None


def _text_of(name: str, dir_fd: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=dir_fd)
    except OSError:
        return None


def _judged(fd: int, judged: Callable[["os.DirEntry[str]"], T]) -> Iterator[list[T]]:
    with os.scandir(fd) as entries:
        while names := [judged(entry) for entry in itertools.islice(entries, _NAMES)]:
            yield names


def _name(entry: "os.DirEntry[str]") -> Name:
    status = entry.stat(follow_symlinks=False)
    return entry.name, status.st_mode, _raw(status)


def _kind(nothing: RawStamp, entry: "os.DirEntry[str]") -> Name:
    if entry.is_file(follow_symlinks=False):
        return entry.name, stat.S_IFREG, nothing
    return entry.name, stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode), nothing


def unlink_files(dir_fd: int, files: Sequence[tuple[str, RawStamp]]) -> None:
    """Unlink each file of a directory that still has its stamp; failing is no error."""
    if native.NATIVE is not None:
        native.NATIVE.unlink_files(dir_fd, files)
        return
    for name, stamp in files:
        with contextlib.suppress(OSError):
            if _raw(os.stat(name, dir_fd=dir_fd, follow_symlinks=False)) == stamp:
                os.unlink(name, dir_fd=dir_fd)


def make_links(dir_fd: int, links: Sequence[tuple[str, str]]) -> None:
    """Make symbolic links in a directory, each a name and its text; OSError where one could not be made.

    FileExistsError if anything is there; some may be made by then.
    """
    if native.NATIVE is not None and len(links) >= _MANY_LINKS:
        sys.audit("os.symlink", links[0][1], links[0][0], dir_fd)  # as os.symlink does
        native.NATIVE.make_links(dir_fd, links)
        return
    for name, text in links:
        os.symlink(text, name, dir_fd=dir_fd)
