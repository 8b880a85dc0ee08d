"""Reading bytes once: what is hashed is what is written (design/performance.md, "One pass").

Nobody can swap the bytes between hash and copy, since both come from the same buffer.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import xxhash

from gobblerd.registry.source import Stamp, changed
from gobblerd.storage.files import FILE_MODE, write_all

CHUNK = 256 * 1024
IN_MEMORY = 8 * 1024 * 1024  # a file up to this size that may be a duplicate is kept until that is known
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Tick = Callable[[int], None]  # told of bytes done; raises to cancel


@dataclass(frozen=True, slots=True)
class Digest:
    """A file's size, MD5 and xxh3-128, both in lower-case hex, and its stamp when it was read."""

    size: int
    md5sum: str
    xxh128: str
    stamp: Stamp


class _Hashes:
    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._xxh = xxhash.xxh3_128()
        self.size = 0

    def update(self, chunk: bytes) -> None:
        self._md5.update(chunk)
        self._xxh.update(chunk)
        self.size += len(chunk)

    def digest(self, stamp: Stamp) -> Digest:
        return Digest(self.size, self._md5.hexdigest(), self._xxh.hexdigest(), stamp)


def digest_of_bytes(data: bytes, stamp: Stamp) -> Digest:
    """Return the digest of bytes in memory."""
    hashes = _Hashes()
    hashes.update(data)
    return hashes.digest(stamp)


def digest_file(fd: int, path: str, tick: Tick) -> Digest:
    """Hash an opened file from its beginning; Wrong if it changes meanwhile."""
    before = Stamp.of(os.fstat(fd))
    hashes = _Hashes()
    while chunk := os.pread(fd, CHUNK, hashes.size):
        hashes.update(chunk)
        tick(len(chunk))
    return hashes.digest(_unchanged(fd, before, hashes.size, path))


def copy_file(fd: int, path: str, name: str, dir_fd: int, tick: Tick) -> Digest:
    """Copy an opened file to the new file `name`, hashing the very bytes that are written."""
    before = Stamp.of(os.fstat(fd))
    hashes = _Hashes()
    target = os.open(name, _CREATE, FILE_MODE, dir_fd=dir_fd)
    try:
        while chunk := os.pread(fd, CHUNK, hashes.size):
            hashes.update(chunk)
            write_all(target, chunk)
            tick(len(chunk))
    finally:
        os.close(target)
    return hashes.digest(_unchanged(fd, before, hashes.size, path))


def read_file(fd: int, path: str) -> tuple[bytes, Stamp]:
    """Read a small opened file whole; Wrong if it changes meanwhile."""
    before = Stamp.of(os.fstat(fd))
    parts = []
    size = 0
    while chunk := os.pread(fd, before.size + 1 - size if size <= before.size else CHUNK, size):
        parts.append(chunk)
        size += len(chunk)
        if size > before.size:
            raise changed(path)
    return b"".join(parts), _unchanged(fd, before, size, path)


def write_new(name: str, data: bytes, dir_fd: int) -> None:
    """Write a new file of the tree; durable only with the tree."""
    target = os.open(name, _CREATE, FILE_MODE, dir_fd=dir_fd)
    try:
        write_all(target, data)
    finally:
        os.close(target)


def fast_checksum(path: str) -> tuple[int, str]:
    """Return size and xxh3-128 of a file of the registry."""
    checksum = xxhash.xxh3_128()
    size = 0
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            checksum.update(chunk)
            size += len(chunk)
    return size, checksum.hexdigest()


def _unchanged(fd: int, before: Stamp, size: int, path: str) -> Stamp:
    if Stamp.of(os.fstat(fd)) != before or size != before.size:
        raise changed(path)
    return before
