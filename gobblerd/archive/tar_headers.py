"""Blocks of tar archives: ustar, GNU and PAX headers, each checked more closely than tar readers do.

A block's own checksum is all that tells a header from damage, so it must be spelled as one of the ways in
which tools write it: nothing in a header can then change unnoticed.
"""

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from gobblerd.archive.judged import decoded, safe_time
from gobblerd.archive.refusals import Damaged, Unsafe, unsafe
from gobblerd.domain.errors import Plain

BLOCK = 512
PAX_MAX_BYTES = 1 << 20  # a header that is larger than any name, comment or attribute needs to be

_CHECKSUM = re.compile(rb"([0-7]{6})(?:\0 | \0)|([0-7]{7})\0")
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([0-9]{1,7}) ([^=\n]+)=", re.DOTALL)
_SIZE_OCTAL_MAX = 0o77777777777  # 8 GiB - 1: what the size field of a ustar header can hold
_ENDS = frozenset(b" \0")
_ADLER_PRIME = 65521
_USTAR = b"ustar\x0000"


@dataclass(frozen=True, slots=True)
class Header:
    """One block, its fields as they stand there; names are bytes without the NUL that ends them."""

    name: bytes
    mode: int
    size: int
    mtime: int
    kind: bytes
    target: bytes


class BadHeader(Exception):
    """The block is no header; says why."""


def read_header(block: bytes) -> Header:
    """Read a block of 512 bytes that is not all zeros; BadHeader if it is damaged."""
    match = _CHECKSUM.fullmatch(block, 148, 156)
    if match is None or not _sums_up(block, int(match[1] or match[2], 8)):
        raise BadHeader("its checksum is wrong")
    name = _text(block[0:100])
    if block[345] and block[257:265] == _USTAR:
        name = _text(block[345:500]) + b"/" + name
    return Header(
        name,
        _number(block[100:108]),
        _number(block[124:136]),
        _number(block[136:148]),
        block[156:157],
        _text(block[157:257]),
    )


def _sums_up(block: bytes, said: int) -> bool:
    """Tell whether the bytes of a header, its checksum taken as spaces, add up to what it says.

    Adler-32 has the sum of bytes, modulo 65521, plus 1 in its lower half: thirty times faster than `sum`.
    That a header adds up to 65521 too much or too little takes more than 256 changed bytes.
    """
    rest = said - 8 * 32
    found = (zlib.adler32(block[156:], zlib.adler32(block[:148])) & 0xFFFF) - 1
    return rest in {found, found + _ADLER_PRIME}


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _number(field: bytes) -> int:
    """Read a number in octal, or in base 256 as GNU tar writes large and negative ones."""
    if field[-1] in _ENDS and field[:-1].isdigit():
        try:
            return int(field[:-1], 8)
        except ValueError:
            raise BadHeader("one of its numbers is none") from None
    if field[0] in {0x80, 0xFF}:
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))  # noqa: PLR2004
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise BadHeader("one of its numbers is none")
    return int(match[1] or b"0", 8)


# -- PAX -----------------------------------------------------------------------------------------------

Records = Mapping[bytes, bytes]
_READ = frozenset(
    {b"path", b"linkpath", b"size", b"mtime"}
)  # what says something of a member; the rest is left
_SPARSE = (b"GNU.sparse.", b"SCHILY.realsize")


def read_pax(data: bytes, shown: Plain) -> dict[bytes, bytes]:
    """Read the records of a PAX header; Damaged if they are none, or if one is there twice.

    `shown` says where the header stands, for messages.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        match = _RECORD.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise Damaged("the PAX header {where} is damaged", where=shown)
        key = match[2]
        if key in _READ and key in records:
            raise Damaged(
                "the PAX header {where} holds {key} twice", where=shown, key=key.decode("ascii", "replace")
            )
        if key in _READ or key.startswith(_SPARSE):
            records[key] = data[match.end() : end - 1]
        at = end
    return records


def pax_size(records: Records, header: Header, name: str) -> int:
    """Return a member's size; its header and its PAX header must not tell two readers two sizes."""
    text = records.get(b"size")
    if text is None:
        return header.size
    if not text.isdigit() or len(text) > 18:  # noqa: PLR2004 - digits of 2**60
        raise unsafe(name, "the size in its PAX header is no number")
    size = int(text)
    if header.size not in {0, size} and size <= _SIZE_OCTAL_MAX:
        raise unsafe(name, "its header and its PAX header give different sizes")
    return size


def pax_mtime(records: Records, header: Header) -> int:
    """Return a member's time of modification, whole seconds; its header's where the PAX one is none."""
    if b"mtime" not in records:
        return safe_time(header.mtime)
    whole = records[b"mtime"].partition(b".")[0]
    try:
        return safe_time(int(whole) if len(whole) < 20 else header.mtime)  # noqa: PLR2004 - digits of 2**64
    except ValueError:
        return safe_time(header.mtime)


def refuse_sparse(records: Records, name: str) -> None:
    """Raise Unsafe if a PAX header makes a sparse file of a member."""
    if any(key.startswith(_SPARSE) for key in records):
        shown = records.get(b"GNU.sparse.name", records.get(b"path", b"")).decode("utf-8", "replace")
        raise unsafe(shown or name, "it is a sparse file")


def pax_text(records: Records, key: bytes, otherwise: bytes) -> str:
    """Return a name of a PAX header, or the one that the header itself gives."""
    return decoded(records.get(key, otherwise))


def refused_kind(kind: bytes, name: str) -> Unsafe:
    """Return the refusal of a member that is neither file, directory nor symbolic link."""
    what = {
        b"1": "it is a hard link",
        b"3": "it is a character device",
        b"4": "it is a block device",
        b"6": "it is a FIFO",
        b"S": "it is a sparse file",
        b"M": "it is the rest of a file from another volume",
        b"D": "it is a directory of an incremental dump",
        b"V": "it is a volume label",
    }.get(kind, f"its type {kind!r} is none that is known")
    return unsafe(name, what)
