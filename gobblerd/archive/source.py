"""An archive file, read once from its beginning to its end, and hashed on the way.

Reads by position, so that the descriptor may be shared; knows nothing of formats.
"""

import hashlib
import os
from collections.abc import Callable, Iterator

from gobblerd.archive.refusals import Damaged

CHUNK = 256 * 1024

Progress = Callable[[int, int], None]  # bytes done, bytes in all; raises to cancel


def silent(_done: int, _total: int) -> None:
    """Be a progress callback that tells nobody."""


class ArchiveFile:
    """An opened archive. `size` in bytes, as it was when it was opened; what grows later is not read."""

    def __init__(self, fd: int, progress: Progress = silent, *, hashing: bool = False) -> None:
        self.fd = fd
        self.size = os.fstat(fd).st_size
        self._progress = progress
        self._at = 0
        self._sha256 = hashlib.sha256() if hashing else None

    @property
    def position(self) -> int:
        """Return how many bytes were read in order."""
        return self._at

    @property
    def sha256(self) -> str:
        """Return the SHA-256 of all that was read in order, in lower-case hex."""
        assert self._sha256 is not None
        return self._sha256.hexdigest()

    def read(self, most: int = CHUNK) -> bytes:
        """Return the next bytes, none at the end; Damaged if the file has become shorter."""
        data = os.pread(self.fd, min(most, self.size - self._at), self._at)
        if not data and self._at < self.size:
            raise Damaged("the archive became shorter while it was read")
        self._at += len(data)
        if self._sha256 is not None:
            self._sha256.update(data)
        if data:
            self._progress(self._at, self.size)
        return data

    def tell(self) -> None:
        """Tell how far reading is, though nothing was read: whoever wants to stop can do so now."""
        self._progress(self._at, self.size)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes from here to the end."""
        while data := self.read():
            yield data

    def at(self, offset: int, size: int) -> bytes:
        """Return bytes from anywhere, fewer at the end; they count neither as read nor as hashed."""
        return os.pread(self.fd, max(0, min(size, self.size - offset)), offset)
