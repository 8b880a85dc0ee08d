"""The fast checksums of a version, held in little memory: a million of them take 24 MB, not 230.

Of many only hashes of the paths are kept, in order, and the digests as bytes. Python's hash of a string is
keyed afresh in each process, so that nobody can make two paths that share one; should it happen, or should a
digest not look like one, everything is kept as it was read.
"""

import itertools
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from typing import Protocol

_MANY = 50_000
_WIDTH = 16  # bytes of a digest


class FastSums(Protocol):
    """Fast checksums in lower-case hex, by path."""

    def get(self, path: str, /) -> str | None:
        """Return a file's fast checksum, None where none is noted."""
        ...


def compact(checksums: Mapping[str, str], many: int = _MANY) -> FastSums:
    """Return the same in less memory, if there are at least so many."""
    if len(checksums) < many:
        return checksums
    pairs = sorted(zip(map(hash, checksums), checksums.values(), strict=True))
    hashes = array("q", [key for key, _ in pairs])
    text = "".join([digest for _, digest in pairs])
    if any(len(digest) != 2 * _WIDTH for _, digest in pairs) or any(
        a == b for a, b in itertools.pairwise(hashes)
    ):
        return checksums
    try:
        digests = bytes.fromhex(text)
    except ValueError:
        return checksums
    return _Compact(hashes, digests) if digests.hex() == text else checksums


class _Compact:
    def __init__(self, hashes: "array[int]", digests: bytes) -> None:
        self._hashes = hashes
        self._digests = digests

    def get(self, path: str, /) -> str | None:
        wanted = hash(path)
        place = bisect_left(self._hashes, wanted)
        if place == len(self._hashes) or self._hashes[place] != wanted:
            return None
        return self._digests[place * _WIDTH : (place + 1) * _WIDTH].hex()
