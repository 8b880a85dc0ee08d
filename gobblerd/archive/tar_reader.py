"""Tar archives, read once from the first block to the last, nothing skipped and nothing guessed.

Python's tarfile takes a damaged header for the end, a missing end for an end, and whatever follows for
nothing; it also keeps every member. So the blocks are walked here.
"""

from collections.abc import Iterator

from gobblerd.archive.bytestream import ByteStream, Ended
from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged, decoded, judged_path, safe_mode
from gobblerd.archive.refusals import Damaged, unsafe
from gobblerd.archive.tar_headers import (
    BLOCK,
    PAX_MAX_BYTES,
    BadHeader,
    Header,
    Records,
    pax_mtime,
    pax_size,
    pax_text,
    read_header,
    read_pax,
    refuse_sparse,
    refused_kind,
)
from gobblerd.domain.errors import Plain, quoted

_ZERO = bytes(BLOCK)
_PADDING_MAX = 16 << 20  # zeros after the end: tapes are written in records of up to some MiB
_FILE, _OLD_FILE, _CONTIGUOUS, _SYMLINK, _DIRECTORY = b"0", b"\0", b"7", b"2", b"5"
_LONG_NAME, _LONG_TARGET, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_NEVER_GLOBAL = frozenset({b"path", b"linkpath", b"size"})


class _Content:
    """The bytes of the member at which the stream stands."""

    def __init__(self, stream: ByteStream, member: Judged) -> None:
        self._stream = stream
        self._member = member
        self._left = member.size
        self._padding = -member.size % BLOCK

    def whole(self) -> bytes:
        try:
            data = self._stream.take(self._left + self._padding)
        except Ended:
            raise self._cut_off() from None
        size, self._left, self._padding = self._left, 0, 0
        if data[size:] != _ZERO[: len(data) - size]:
            raise self._damaged()
        return data[:size]

    def chunks(self) -> Iterator[bytes]:
        try:
            for piece in self._stream.pieces(self._left):
                self._left -= len(piece)
                yield piece
            self._end()
        except Ended:
            raise self._cut_off() from None

    def finish(self) -> None:
        """Read what was not read."""
        if self._left or self._padding:
            for _ in self.chunks():
                pass

    def _end(self) -> None:
        padding, self._padding = self._padding, 0
        if padding and self._stream.take(padding) != _ZERO[:padding]:
            raise self._damaged()

    def _damaged(self) -> Damaged:
        return Damaged("the archive is damaged behind its member {member}", member=self._member.path)

    def _cut_off(self) -> Damaged:
        return Damaged("the archive is cut off in its member {member}", member=self._member.path)


class _Extended:
    """What the headers before a member's own say of it."""

    def __init__(self) -> None:
        self.name: bytes | None = None
        self.target: bytes | None = None
        self.records: Records = {}

    def __bool__(self) -> bool:
        return self.name is not None or self.target is not None or bool(self.records)


class TarReader:
    """The members of one tar archive, in order.

    `dotted`: names may begin with `./`, as `tar -C DIR .` writes them. `top_is_dot` tells whether one did.
    """

    def __init__(self, chunks: Iterator[bytes], *, dotted: bool = False) -> None:
        self._stream = ByteStream(chunks)
        self._dotted = dotted
        self.top_is_dot = False
        self._last = ""  # the last whole member, for messages
        self._global: Records = {}

    def members(self) -> Iterator[tuple[Judged, Content]]:
        """Yield every member with its bytes, and read on to the end of the file."""
        extended = _Extended()
        while (header := self._header()) is not None:
            if self._extend(header, extended):
                continue
            member = self._member(header, extended)
            extended = _Extended()
            content = _Content(self._stream, member)
            if member.path:  # else it is the top itself
                yield member, content
            content.finish()
            self._last = member.path
        if extended:
            raise Damaged(
                "the archive ends with a header that belongs to no member, {where}", where=self._where()
            )
        self._require_end()

    def _where(self) -> Plain:
        return Plain(f"after {quoted(self._last)}" if self._last else "at its beginning")

    def _block(self) -> bytes:
        try:
            return self._stream.take(BLOCK)
        except Ended:
            if self._stream.position == 0:
                raise _no_archive() from None
            raise Damaged("the archive is cut off {where}", where=self._where()) from None

    def _header(self) -> Header | None:
        """Read the next header; None at the archive's end, which two blocks of zeros make."""
        block = self._block()
        if block == _ZERO:
            if self._block() != _ZERO:
                raise Damaged(
                    "a single block of zeros, {where}, does not end the archive", where=self._where()
                )
            return None
        try:
            return read_header(block)
        except BadHeader as error:
            if self._stream.position == BLOCK:
                raise _no_archive() from None
            raise Damaged(
                "the archive's header at byte {at}, {where}, is damaged: {error}",
                at=self._stream.position - BLOCK,
                where=self._where(),
                error=Plain(error),
            ) from None

    def _require_end(self) -> None:
        size = 0
        for chunk in self._stream.rest():
            size += len(chunk)
            if chunk.count(0) != len(chunk) or size > _PADDING_MAX:
                raise Damaged("something else follows the end of the archive")

    # -- headers before headers ------------------------------------------------------------------------

    def _extend(self, header: Header, extended: _Extended) -> bool:
        """Take a header that is about the next one; tell whether it was such."""
        if header.kind == _PAX_GLOBAL:
            self._global = {**self._global, **self._records(header)}
            if found := _NEVER_GLOBAL & self._global.keys():
                raise Damaged("a global PAX header gives every member one {key}", key=min(found).decode())
        elif header.kind == _PAX:
            if extended.records:
                raise Damaged("two PAX headers for one member, {where}", where=self._where())
            extended.records = self._records(header)
        elif header.kind == _LONG_NAME:
            if extended.name is not None:
                raise Damaged("two long names for one member, {where}", where=self._where())
            extended.name = self._long(header)
        elif header.kind == _LONG_TARGET:
            if extended.target is not None:
                raise Damaged("two long link targets for one member, {where}", where=self._where())
            extended.target = self._long(header)
        else:
            return False
        return True

    def _records(self, header: Header) -> dict[bytes, bytes]:
        return read_pax(self._body(header), self._where())

    def _long(self, header: Header) -> bytes:
        data = self._body(header)
        name = data.removesuffix(b"\0")
        if b"\0" in name:
            raise unsafe(data.decode("utf-8", "replace"), "its long name holds NUL")
        return name

    def _body(self, header: Header) -> bytes:
        if not 0 < header.size <= PAX_MAX_BYTES:
            raise Damaged(
                "an extended header of {size} bytes, {where}", size=header.size, where=self._where()
            )
        try:
            data = self._stream.take(header.size + -header.size % BLOCK)
        except Ended:
            raise Damaged("the archive is cut off {where}", where=self._where()) from None
        if any(data[header.size :]):
            raise Damaged("the archive is damaged {where}", where=self._where())
        return data[: header.size]

    # -- members ---------------------------------------------------------------------------------------

    def _member(self, header: Header, extended: _Extended) -> Judged:
        records, shown, target = self._called(header, extended)
        if self._dotted and shown.startswith("./"):
            self.top_is_dot = True
            if shown == "./" and header.kind == _DIRECTORY and header.size == 0:
                return Judged("", "directory", 0, 0o755, 0)
            shown = shown[2:]
        mtime = pax_mtime(records, header)
        if header.kind in {_FILE, _OLD_FILE, _CONTIGUOUS}:
            path = judged_path(shown)
            size = pax_size(records, header, shown) if records else header.size
            if size < 0:
                raise unsafe(shown, "its size is negative")
            return Judged(path, "file", size, safe_mode(header.mode), mtime)
        if header.kind not in {_DIRECTORY, _SYMLINK}:
            raise refused_kind(header.kind, shown)
        if pax_size(records, header, shown) != 0:
            raise unsafe(shown, "it is no file, but has a size")
        if header.kind == _SYMLINK:
            text = pax_text(records, b"linkpath", target)
            return Judged(judged_path(shown), "link", 0, 0o777, mtime, text)
        path = judged_path(shown, is_directory=True)
        return Judged(path, "directory", 0, safe_mode(header.mode) | 0o100, mtime)

    def _called(self, header: Header, extended: _Extended) -> tuple[Records, str, bytes]:
        """Return what PAX headers say of a member, its name, and its target as the other headers have it."""
        if not extended and not self._global:
            return {}, decoded(header.name), header.target
        name, target = header.name, header.target
        records = {**self._global, **extended.records}
        if extended.name is not None:
            name = _one(extended.name, records, b"path")
        if extended.target is not None:
            target = _one(extended.target, records, b"linkpath")
        refuse_sparse(records, decoded(name))
        return records, pax_text(records, b"path", name), target


def _no_archive() -> Damaged:
    return Damaged("this is no archive: neither zip nor tar (plain or compressed with zstd, gzip, xz, bzip2)")


def _one(long: bytes, records: Records, key: bytes) -> bytes:
    """Return a GNU long name, unless a PAX header gives another."""
    if records.get(key, long) != long:
        raise unsafe(decoded(long), "a GNU header and a PAX header give it different names")
    return long
