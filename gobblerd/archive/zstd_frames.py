"""Where zstd's frames and blocks begin and end (RFC 8878, section 3.1), without decompressing them.

The library's stream reader returns nothing both at the end of a frame and where a file is cut off within one,
and gives as much output at once as a block makes. So frames are taken apart here, and put together there.
"""

from collections.abc import Iterator

from gobblerd.archive.refusals import Damaged
from gobblerd.archive.source import ArchiveFile
from gobblerd.domain.errors import Exceeded, Plain

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
_SKIPPABLE_MASK = 0xFFFFFFF0
_BLOCK_MAX = 128 * 1024
_RAW, _RLE, _COMPRESSED = 0, 1, 2
_CONTENT_SIZE_BYTES = (0, 2, 4, 8)
_DICTIONARY_BYTES = (0, 1, 2, 4)


class FrameWalk:
    """The frames of one file; Damaged where it is none, is cut off, or goes on as something else."""

    def __init__(self, file: ArchiveFile, window: int) -> None:
        self._file = file
        self._window = window
        self._buffer = b""
        self._at = 0

    def frames(self) -> Iterator[Iterator[bytes]]:
        """Yield each frame as an iterator of its parts; one must be exhausted before the next."""
        while self._fill(1):
            magic = int.from_bytes(self._take(4), "little")
            if magic & _SKIPPABLE_MASK == _SKIPPABLE:
                self._skip(int.from_bytes(self._take(4), "little"))
            elif magic == _MAGIC:
                yield self._frame()
            else:
                raise Damaged("something else follows the end of the archive")

    def _frame(self) -> Iterator[bytes]:
        header, has_checksum = self._header()
        yield header
        is_last = False
        while not is_last:
            head = self._take(3)
            value = int.from_bytes(head, "little")
            is_last, kind, size = bool(value & 1), (value >> 1) & 3, value >> 3
            if size > _BLOCK_MAX or kind > _COMPRESSED:
                raise Damaged("the archive's zst stream is damaged: there is no such block")
            yield head + self._take(1 if kind == _RLE else size)
        if has_checksum:
            yield self._take(4)

    def _header(self) -> tuple[bytes, bool]:
        """Return a frame's header, and whether a checksum ends it; Exceeded if its window is too large."""
        descriptor = self._take(1)
        flags = descriptor[0]
        is_single = bool(flags & 0x20)
        window_byte = b"" if is_single else self._take(1)
        dictionary = self._take(_DICTIONARY_BYTES[flags & 3])
        size_bytes = _CONTENT_SIZE_BYTES[flags >> 6] or int(is_single)
        size = self._take(size_bytes)
        window = _window(window_byte[0]) if window_byte else int.from_bytes(size, "little")
        if window > self._window:
            raise Exceeded(
                "the archive needs a zstd window of {needed} bytes, more than {most}; compress it without "
                "--long or --ultra",
                needed=window,
                most=self._window,
            )
        magic = _MAGIC.to_bytes(4, "little")
        return magic + descriptor + window_byte + dictionary + size, bool(flags & 0x04)

    # -- bytes -----------------------------------------------------------------------------------------

    def _fill(self, size: int) -> bool:
        """Have at least `size` bytes at hand, if the file has them."""
        while len(self._buffer) - self._at < size:
            more = self._file.read()
            if not more:
                return False
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
        return True

    def _take(self, size: int) -> bytes:
        if not self._fill(size):
            raise Damaged("the archive is cut off: its {format} stream does not end", format=Plain("zst"))
        self._at += size
        return self._buffer[self._at - size : self._at]

    def _skip(self, size: int) -> None:
        while size:
            size -= len(self._take(min(size, _BLOCK_MAX)))


def _window(byte: int) -> int:
    exponent, mantissa = byte >> 3, byte & 7
    base = 1 << (10 + exponent)
    return base + (base // 8) * mantissa
