"""Compressing a stream of bytes, always the same way; one object per format with `compress` and `flush`.

zstd runs with worker threads always: with none it makes other bytes than with one, with more of them the
same. gzip's header has neither time nor name.
"""

import bz2
import lzma
import zlib
from collections.abc import Iterable, Iterator
from typing import Protocol

import zstandard

from gobblerd.archive.formats import Format

PIECE = 256 << 10  # bytes handed to the compressor at a time


class Compressor(Protocol):
    """What turns bytes into fewer."""

    def compress(self, data: bytes, /) -> bytes:
        """Take bytes, return those that are ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Plain:
    """No compression."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(form: Format, size: int, threads: int) -> Compressor:
    """Return the compressor of a tar format, for a stream of exactly `size` bytes."""
    if form.name == "tar.zst":
        assert form.level is not None
        parameters = zstandard.ZstdCompressor(
            level=form.level, threads=max(1, threads), write_content_size=True, write_checksum=True
        )
        return parameters.compressobj(size=size)
    if form.name == "tar.gz":
        assert form.level is not None
        return zlib.compressobj(form.level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    if form.name == "tar.xz":
        return lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC64, preset=form.level)
    if form.name == "tar.bz2":
        assert form.level is not None
        return bz2.BZ2Compressor(form.level)
    return _Plain()


def compressed(stream: Iterable[bytes], form: Format, size: int, threads: int) -> Iterator[bytes]:
    """Compress a stream of exactly `size` bytes; yields pieces that are never empty."""
    found = compressor(form, size, threads)
    for piece in pieces(stream):
        if data := found.compress(piece):
            yield data
    if data := found.flush():
        yield data


def pieces(stream: Iterable[bytes], least: int = PIECE) -> Iterator[bytes]:
    """Join small parts into pieces of at least so many bytes, the last one excepted."""
    parts: list[bytes] = []
    size = 0
    for part in stream:
        parts.append(part)
        size += len(part)
        if size >= least:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
