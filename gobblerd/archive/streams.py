"""Undoing an archive's compression, with what the libraries pass over in silence made an error.

A stream that ends too early, bytes after its end, a checksum that nobody asked for: readers of archives stop
at the end of the archive and never notice. Here every compressed stream is read to the end of the file.
Memory: a chunk in, a chunk out, and the format's window, which is limited.
"""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from gobblerd.archive.refusals import Damaged
from gobblerd.archive.source import CHUNK, ArchiveFile
from gobblerd.archive.zstd_frames import FrameWalk
from gobblerd.domain.errors import Exceeded, Plain

WINDOW = 128 << 20  # what `zstd -d` allows, and what `xz -9` needs
_XZ_BESIDE_WINDOW = 16 << 20

MAGICS = {
    "zst": (b"\x28\xb5\x2f\xfd", *(bytes((low, 0x2A, 0x4D, 0x18)) for low in range(0x50, 0x60))),
    "gz": (b"\x1f\x8b",),
    "xz": (b"\xfd7zXZ\0",),
    "bz2": (b"BZh",),
}


def compression_of(start: bytes) -> str:
    """Return the name of the compression by a file's first bytes: zst, gz, xz, bz2, or "" for none."""
    return next((name for name, magics in MAGICS.items() if start.startswith(magics)), "")


def decompressed(file: ArchiveFile, compression: str, window: int = WINDOW) -> Iterator[bytes]:
    """Yield the bytes of a compressed file, in chunks of some 256 KiB, to its very end.

    Damaged if the stream is cut off, fails a checksum or is followed by anything else; Exceeded if it needs
    a window of more than `window` bytes.
    """
    if compression == "zst":
        return _zstd(file, window)
    if compression:
        return _Streams(file, compression, window).chunks()
    return file.chunks()


class _Decompressor(Protocol):
    """What bz2 and lzma have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the manners of the other two."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._stream.eof

    @property
    def unused_data(self) -> bytes:
        return self._stream.unused_data

    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes:
        out = self._stream.decompress(self._stream.unconsumed_tail + data, max_length)
        self.needs_input = len(out) < max_length and not self._stream.unconsumed_tail
        return out


class _Streams:
    """gzip, xz and bz2: streams, one after the other."""

    def __init__(self, file: ArchiveFile, compression: str, window: int) -> None:
        self._file = file
        self._name = compression
        self._window = window

    def chunks(self) -> Iterator[bytes]:
        data = self._file.read()
        while data:
            stream = self._new_stream()
            yield from self._one(stream, data)
            data = self._next_stream(stream.unused_data)

    def _new_stream(self) -> _Decompressor:
        if self._name == "gz":
            return _Gzip()
        if self._name == "bz2":
            return bz2.BZ2Decompressor()
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=self._window + _XZ_BESIDE_WINDOW)

    def _one(self, stream: _Decompressor, data: bytes) -> Iterator[bytes]:
        """Yield the bytes of one stream, whose first bytes are `data`."""
        try:
            while not stream.eof:
                if out := stream.decompress(data, CHUNK):
                    yield out
                data = self._file.read() if stream.needs_input and not stream.eof else b""
                if stream.needs_input and not data and not stream.eof:
                    raise Damaged(
                        "the archive is cut off: its {format} stream does not end", format=Plain(self._name)
                    )
        except lzma.LZMAError as error:
            if "memory" in str(error).lower():
                raise _too_wide(self._window) from None
            raise _broken(self._name, error) from None
        except (zlib.error, OSError, EOFError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not the stream's
                raise
            raise _broken(self._name, error) from None

    def _next_stream(self, rest: bytes) -> bytes:
        """Return the first bytes of the stream that follows, none at the file's end."""
        rest = rest or self._file.read()
        if self._name == "xz":
            rest = self._without_padding(rest)
        magic = MAGICS[self._name][0]
        while 0 < len(rest) < len(magic) and (more := self._file.read()):
            rest += more
        if rest and not rest.startswith(magic):
            raise _trailing()
        return rest

    def _without_padding(self, rest: bytes) -> bytes:
        """Skip zero bytes, whole words of which may stand between and after xz streams."""
        skipped = 0
        while rest:
            left = rest.lstrip(b"\0")
            skipped += len(rest) - len(left)
            if left:
                break
            rest = self._file.read()
        if skipped % 4:
            raise _trailing()
        return rest.lstrip(b"\0")


def _zstd(file: ArchiveFile, window: int) -> Iterator[bytes]:
    """Yield the bytes of zstd frames, block by block: a block never gives more than 128 KiB.

    Without the walk over blocks a few bytes of input could give gigabytes at once, and a frame that is cut
    off would look like one that ended.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=window)
    for frame in FrameWalk(file, window).frames():
        stream = decompressor.decompressobj()
        try:
            for piece in frame:
                if out := stream.decompress(piece):
                    yield out
        except zstandard.ZstdError as error:
            raise _broken("zst", error) from None
        if not stream.eof:
            raise Damaged("the archive is cut off: its {format} stream does not end", format=Plain("zst"))


def _broken(name: str, error: Exception) -> Damaged:
    return Damaged("the archive's {format} stream is damaged: {error}", format=Plain(name), error=str(error))


def _trailing() -> Damaged:
    return Damaged("something else follows the end of the archive")


def _too_wide(window: int) -> Exceeded:
    return Exceeded(
        "the archive needs more memory to be decompressed than a window of {most} bytes; compress it at a "
        "lower level",
        most=window,
    )
