"""Chunks of bytes, taken as pieces of any size."""

from collections.abc import Iterator

_JOINED_MOST = 1 << 20


class Ended(Exception):
    """The bytes end within what was asked for."""


class ByteStream:
    """Bytes in order, each taken once. `position` counts those taken."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0
        self._before = 0  # bytes of earlier buffers

    @property
    def position(self) -> int:
        """Return how many bytes were taken."""
        return self._before + self._at

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes (a few MiB at the most); Ended if there are fewer."""
        end = self._at + size
        if end > len(self._buffer):
            self._fill(size)
            end = self._at + size
        data = self._buffer[self._at : end]
        self._at = end
        return data

    def _fill(self, size: int) -> None:
        parts = [self._buffer[self._at :]]
        have = len(parts[0])
        for chunk in self._chunks:
            parts.append(chunk)
            have += len(chunk)
            if have >= size:
                break
        self._before += self._at
        self._buffer, self._at = b"".join(parts), 0
        if have < size:
            raise Ended

    def pieces(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes, in pieces as they come; Ended if there are fewer."""
        while size:
            if self._at == len(self._buffer) and not self._refill():
                raise Ended
            piece = self._buffer[self._at : self._at + size]
            self._at += len(piece)
            size -= len(piece)
            yield piece

    def _refill(self) -> bool:
        self._before += self._at
        self._buffer, self._at = next(self._chunks, b""), 0
        return bool(self._buffer)

    def rest(self) -> Iterator[bytes]:
        """Yield all that is left."""
        if self._at < len(self._buffer):
            yield self._buffer[self._at :]
        self._before += len(self._buffer)
        self._buffer, self._at = b"", 0
        for chunk in self._chunks:
            self._before += len(chunk)
            yield chunk
