"""A version's archive as a stream: the bytes that `create_archive` would write, without writing them.

Nothing is stored and little is in memory, whatever the version's size: one piece, and what zstd works on.
"""

import hashlib
from collections.abc import Iterator
from typing import Self

import zstandard

from gobblerd.archive.checked_files import CheckedReading, Text
from gobblerd.archive.compression import compressed, pieces
from gobblerd.archive.formats import DEFAULT, format_named
from gobblerd.archive.tars import tar_size, tar_stream
from gobblerd.archive.version_plan import Version, Wish, plan_version

_REVISION = b"1"  # to be raised whenever the same version gives other bytes than before
_THREADS = 1
_PIECE = 1 << 20  # bytes: each costs its sender a change of threads


class ArchiveStream:
    """The archive of a version as `tar.zst` or `tar`, piece by piece; for one thread at a time. Close it.

    Raises Absent, Fault, Invalid or Wrong as `create_archive` does: about the version at once, about a file
    when it is that file's turn.
    """

    def __init__(self, version: Version, format_name: str = DEFAULT) -> None:
        self._format = format_name
        plan = plan_version(version, Wish())
        self._plan = plan
        self._pieces = self._generated()
        self.name = f"{plan.prefix}.{format_name}"
        self.mtime = plan.clamp_mtime or 0
        self.etag = self._etag()

    def _etag(self) -> str:
        """Return a strong validator: documents and library together decide about every byte."""
        made_of = (_REVISION, self._format, zstandard.ZSTD_VERSION, str(self._plan.place))
        found = hashlib.sha256(repr(made_of).encode())
        for member in self._plan.members:
            if isinstance(member.content, Text):
                found.update(b"%d:%b" % (member.size, member.content.data))
        return found.hexdigest()[:32]

    def _generated(self) -> Iterator[bytes]:
        plan = self._plan
        stream = tar_stream(plan, CheckedReading(plan.opener, plan.total, None, hashed=False))
        if self._format == "tar":
            return pieces(stream, _PIECE)
        return compressed(stream, format_named(self._format), tar_size(plan), _THREADS)

    def piece(self) -> bytes:
        """Return the next piece, some MiB at the most; b"" at the end."""
        return next(self._pieces, b"")

    def close(self) -> None:
        """Let go of what is open."""
        self._pieces.close()  # type: ignore[attr-defined]  # it is a generator
        self._plan.opener.close()

    def __enter__(self) -> Self:
        """Return the stream itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
