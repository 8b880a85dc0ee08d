"""The bytes of one member, to be read while the reader stands at it."""

from collections.abc import Iterator
from typing import Protocol


class Content(Protocol):
    """What a member holds. Only once, and only until the next member is asked for."""

    def whole(self) -> bytes:
        """Return all bytes; for members that fit into memory."""

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in pieces."""
