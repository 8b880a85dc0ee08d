"""Reading bytes once: what is hashed is what is written (design/performance.md, "One pass").

Nobody can swap the bytes between hash and copy, since both come from the same buffer. A file is read up to
the size that it had when it was opened and no further, so that one that grows for ever is not followed.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator

import msgspec
import xxhash

from gobblerd.registry.meter import Tick
from gobblerd.registry.source import Stamp, changed
from gobblerd.storage.batches import create
from gobblerd.storage.files import opened, write_all

CHUNK = 256 * 1024
IN_MEMORY = 8 * 1024 * 1024  # a file up to this size that may be a duplicate is kept until that is known
READ_LINKED = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Digest(msgspec.Struct, frozen=True, gc=False):
    """A file's size, MD5 and xxh3-128, both in lower-case hex, and its stamp when it was read."""

    size: int
    md5sum: str
    xxh128: str
    stamp: Stamp


class _Hashes:
    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._xxh = xxhash.xxh3_128()
        self._size = 0

    def update(self, chunk: bytes) -> None:
        self._md5.update(chunk)
        self._xxh.update(chunk)
        self._size += len(chunk)

    def digest(self, stamp: Stamp) -> Digest:
        return Digest(self._size, self._md5.hexdigest(), self._xxh.hexdigest(), stamp)


def digest_of_bytes(data: bytes, stamp: Stamp) -> Digest:
    """Return the digest of bytes in memory."""
    hashes = _Hashes()
    hashes.update(data)
    return hashes.digest(stamp)


def digest_file(fd: int, path: str, tick: Tick) -> Digest:
    """Hash an opened file from its beginning; Wrong if it changes meanwhile."""
    before = Stamp.of(os.fstat(fd))
    hashes = _Hashes()
    for chunk in _chunks(fd, path, before):
        hashes.update(chunk)
        tick(len(chunk))
    return hashes.digest(before)


def copy_file(fd: int, path: str, name: str, dir_fd: int, tick: Tick) -> Digest:
    """Copy an opened file to the new file `name`, hashing the very bytes that are written.

    Wrong if the file changes meanwhile; the new file is then worth nothing.
    """
    before = Stamp.of(os.fstat(fd))
    hashes = _Hashes()
    target = create(name, dir_fd)
    try:
        for chunk in _chunks(fd, path, before):
            hashes.update(chunk)
            write_all(target, chunk)
            tick(len(chunk))
    finally:
        os.close(target)
    return hashes.digest(before)


def read_file(fd: int, path: str) -> tuple[bytes, Stamp]:
    """Read a small opened file whole; Wrong if it changes meanwhile, or is small no more."""
    before = Stamp.of(os.fstat(fd))
    if before.size > IN_MEMORY:
        raise changed(path)
    return b"".join(_chunks(fd, path, before)), before


def fast_checksum(path: str) -> tuple[int, str]:
    """Return size and xxh3-128 of a file of the registry, links followed; OSError if it is no file."""
    checksum = xxhash.xxh3_128()
    with opened(path, READ_LINKED) as fd:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):  # a whitelisted one that its owner replaced
            raise OSError(errno.EINVAL, "not a regular file", path)
        size = 0
        while size < status.st_size and (chunk := os.pread(fd, CHUNK, size)):
            checksum.update(chunk)
            size += len(chunk)
    return size, checksum.hexdigest()


def _chunks(fd: int, path: str, before: Stamp) -> Iterator[bytes]:
    """Yield the bytes of an opened file; Wrong unless it was `before` all the while."""
    done = 0
    with no_longer_there(path):
        while done < before.size and (chunk := os.pread(fd, min(CHUNK, before.size - done), done)):
            done += len(chunk)
            yield chunk
    if done != before.size or Stamp.of(os.fstat(fd)) != before:
        raise changed(path)


@contextlib.contextmanager
def no_longer_there(path: str) -> Iterator[None]:
    """Turn ESTALE, a file that another client of the file server removed, into Wrong."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ESTALE:
            raise
        raise changed(path) from error
