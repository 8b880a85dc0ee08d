"""MD5 of many byte strings side by side: in vector lanes with the C extension, else one after the other.

With the extension sixteen streams take hardly longer than one; a few are faster with hashlib, which runs a
single stream at almost twice the rate of a lane.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from gobblerd.storage import native

LANES = 16  # as many streams as go side by side
WORTH_WHILE = 3  # streams from which on lanes are faster than hashlib
_DIGEST = 16

Bytes = bytes | bytearray | memoryview


class Streams(Protocol):
    """Several MD5s under way; they are numbered from 0."""

    def update(self, chunks: Sequence[Bytes]) -> None:
        """Add one chunk to each stream; an empty one changes nothing."""
        ...

    def take(self, index: int) -> str:
        """Return a stream's digest in hex, and begin it afresh."""
        ...


class HashlibStreams:
    """Streams one after the other."""

    def __init__(self, count: int) -> None:
        self._streams = [_md5() for _ in range(count)]

    def update(self, chunks: Sequence[Bytes]) -> None:
        """Add one chunk to each stream."""
        for stream, chunk in zip(self._streams, chunks, strict=True):
            stream.update(chunk)

    def take(self, index: int) -> str:
        """Return a stream's digest in hex, and begin it afresh."""
        digest: str = self._streams[index].hexdigest()
        self._streams[index] = _md5()
        return digest


class LaneStreams:
    """Streams in the lanes of the extension, which is there."""

    def __init__(self, count: int) -> None:
        assert native.NATIVE is not None
        self._native = native.NATIVE
        self._states = self._native.md5_start(count)
        self._fresh = bytes(self._native.md5_start(1))

    def update(self, chunks: Sequence[Bytes]) -> None:
        """Add one chunk to each stream."""
        self._native.md5_update(self._states, chunks)

    def take(self, index: int) -> str:
        """Return a stream's digest in hex, and begin it afresh."""
        place = slice(index * len(self._fresh), (index + 1) * len(self._fresh))
        digest: bytes = self._native.md5_finish(self._states[place])
        self._states[place] = self._fresh
        return digest.hex()


def streams(count: int) -> Streams:
    """Begin so many MD5s at once."""
    worth_while = native.NATIVE is not None and count >= WORTH_WHILE
    return LaneStreams(count) if worth_while else HashlibStreams(count)


def md5_many(texts: Sequence[Bytes]) -> list[str]:
    """Return the MD5 of each byte string, in hex."""
    if native.NATIVE is None or len(texts) < WORTH_WHILE:
        return [hashlib.md5(text, usedforsecurity=False).hexdigest() for text in texts]
    states = native.NATIVE.md5_start(len(texts))
    native.NATIVE.md5_update(states, texts)
    return list(_hex_digests(native.NATIVE.md5_finish(states)))


def _hex_digests(digests: bytes) -> Iterator[str]:
    text = digests.hex()
    width = 2 * _DIGEST
    return (text[start : start + width] for start in range(0, len(text), width))


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)


class FileSums:
    """MD5 and xxh3-128 of several large files under way, read and hashed by the extension, which is there."""

    def __init__(self, count: int, buffer: Bytes) -> None:
        assert native.NATIVE is not None
        self._native = native.NATIVE
        self._sums = self._native.sums_start(count)
        self._buffer = buffer

    def advance(self, files: list[tuple[int, int, int]]) -> list[int]:
        """Read on, until a file ends or for a while; return how many bytes of each are done, or an error.

        `files` are descriptors (-1: none), bytes done (0 at first) and sizes; an error is its number, made
        negative, and ESTALE if the file ended too early.
        """
        found: list[int] = self._native.hash_files(self._sums, files, self._buffer)
        return found

    def take(self, index: int) -> tuple[str, str]:
        """Return MD5 and xxh3-128, in lower-case hex, of a file that is done."""
        found: tuple[str, str] = self._native.sums_of(self._sums, index)
        return found
