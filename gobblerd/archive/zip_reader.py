"""Zip archives, read once in the order in which they lie, the central directory beside.

Python's zipfile goes by the central directory alone: it does not see what lies between members, members that
share bytes, or what a member's own header says. Here the members must lie one after the other from the first
byte to the central directory, in its order, and each must be what both headers say.
"""

import stat
import zlib
from collections.abc import Iterator

from gobblerd.archive.bytestream import ByteStream, Ended
from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged, judged_path, safe_mode
from gobblerd.archive.refusals import Damaged, unsafe
from gobblerd.archive.source import CHUNK, ArchiveFile
from gobblerd.archive.zip_headers import (
    ENCRYPTED,
    MASKED,
    STRONG,
    UNIX,
    Central,
    find_directory,
    match_local,
    read_central,
    require_descriptor,
    time_of,
)
from gobblerd.domain.errors import Plain

_STORED, _DEFLATED = 0, 8
_DOS_DIRECTORY = 0x10
_TARGET_MAX = 4096
_DESCRIPTOR_MAX = 24


class _Content:
    """The bytes of the member at which the stream stands, checked against size and CRC."""

    def __init__(self, stream: ByteStream, entry: Central) -> None:
        self._stream = stream
        self._entry = entry
        self._crc = 0
        self._size = 0
        self._is_read = False

    def whole(self) -> bytes:
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        self._is_read = True
        try:
            for piece in self._inflated() if self._entry.method else self._stream.pieces(self._entry.packed):
                self._size += len(piece)
                if self._size > self._entry.size:
                    break
                self._crc = zlib.crc32(piece, self._crc)
                yield piece
        except Ended:
            raise Damaged("the archive is cut off in its member {member}", member=self._entry.name) from None
        except zlib.error as error:
            raise self._damaged(str(error)) from None
        if (self._size, self._crc) != (self._entry.size, self._entry.crc):
            raise self._damaged("size or checksum are wrong")

    def finish(self) -> None:
        """Read what was not read."""
        if not self._is_read:
            for _ in self.chunks():
                pass

    def _inflated(self) -> Iterator[bytes]:
        stream = zlib.decompressobj(wbits=-15)
        for piece in self._stream.pieces(self._entry.packed):
            if stream.eof:
                raise self._damaged("something follows its compressed bytes")
            yield stream.decompress(piece, CHUNK)
            while stream.unconsumed_tail and not stream.eof:
                yield stream.decompress(stream.unconsumed_tail, CHUNK)
        while not stream.eof and (out := stream.decompress(b"", CHUNK)):
            yield out
        if not stream.eof or stream.unused_data:
            raise self._damaged("its compressed bytes do not end where they must")

    def _damaged(self, why: str) -> Damaged:
        return Damaged(
            "the archive's member {member} is damaged: {error}", member=self._entry.name, error=Plain(why)
        )


class ZipReader:
    """The members of one zip archive, in order."""

    def __init__(self, file: ArchiveFile) -> None:
        self._file = file
        self._directory = find_directory(file)
        self._stream = ByteStream(file.chunks())

    def members(self) -> Iterator[tuple[Judged, Content]]:
        """Yield every member with its bytes, and read on to the end of the file."""
        entries = read_central(self._file, self._directory)
        entry = next(entries, None)
        self._require_at(entry)
        while entry is not None:
            following = next(entries, None)
            yield from self._one(entry)
            self._close(entry, following.offset if following else self._directory.offset)
            entry = following
        for _ in self._stream.rest():
            pass

    def _require_at(self, first: Central | None) -> None:
        start = first.offset if first else self._directory.offset
        if start != 0:
            raise Damaged("something else precedes the archive's first member")

    def _one(self, entry: Central) -> Iterator[tuple[Judged, Content]]:
        name = entry.name
        if entry.flags & (ENCRYPTED | STRONG | MASKED):
            raise unsafe(name, "it is encrypted")
        if entry.method not in {_STORED, _DEFLATED}:
            raise unsafe(name, f"its compression method {entry.method} is not supported")
        if entry.method == _STORED and entry.packed != entry.size:
            raise unsafe(name, "it is stored, but its two sizes differ")
        try:
            match_local(entry, self._stream)
        except Ended:
            raise Damaged("the archive is cut off before its member {member}", member=name) from None
        content = _Content(self._stream, entry)
        yield _member(entry, content), content
        content.finish()

    def _close(self, entry: Central, following: int) -> None:
        """Require that the next thing lies directly behind a member and its descriptor."""
        gap = following - self._stream.position
        if gap < 0:
            raise unsafe(entry.name, "it overlaps what follows it")
        if gap > _DESCRIPTOR_MAX:
            raise Damaged("something else follows the archive's member {member}", member=entry.name)
        try:
            require_descriptor(entry, self._stream.take(gap))
        except Ended:
            raise Damaged("the archive is cut off in its member {member}", member=entry.name) from None


def _member(entry: Central, content: _Content) -> Judged:
    name, mtime = entry.name, time_of(entry)
    mode = entry.attributes >> 16 if entry.system in UNIX else 0
    kind = stat.S_IFMT(mode)
    is_directory = name.endswith("/")
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}:
        raise unsafe(name, "it is a FIFO, socket or device")
    if is_directory != (
        kind == stat.S_IFDIR if kind else is_directory or bool(entry.attributes & _DOS_DIRECTORY)
    ):
        raise unsafe(name, "it is a directory by its name or its mode, but not by both")
    if is_directory:
        path = judged_path(name, is_directory=True)
        if entry.size:
            raise unsafe(name, "it is no file, but has a size")
        return Judged(path, "directory", 0, safe_mode(stat.S_IMODE(mode) or 0o755) | 0o100, mtime)
    path = judged_path(name)
    if kind == stat.S_IFLNK:
        if not 0 < entry.size <= _TARGET_MAX:
            raise unsafe(name, "it is a symbolic link with a target of no possible length")
        return Judged(path, "link", 0, 0o777, mtime, _target(content.whole(), name))
    return Judged(path, "file", entry.size, safe_mode(stat.S_IMODE(mode) or 0o644), mtime)


def _target(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise unsafe(name, "its target is not valid UTF-8") from None
