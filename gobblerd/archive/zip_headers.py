"""The records of zip archives: end, central directory, local headers (PKWARE's APPNOTE, 4.3).

Each is read strictly, and a member's two headers must say the same: whatever they disagree on, two programs
would extract differently.
"""

import calendar
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.archive.bytestream import ByteStream, Ended
from gobblerd.archive.judged import safe_time
from gobblerd.archive.refusals import Damaged, unsafe
from gobblerd.archive.source import CHUNK, ArchiveFile

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
_LOCAL = struct.Struct("<4s2B4HL2L2H")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_COMMENT_MAX = 0xFFFF
_ZIP64, _UNICODE_PATH, _TIMESTAMP = 0x0001, 0x7075, 0x5455
_SIGNATURE_MAX = 4

UNIX = frozenset({3, 19})  # systems whose attributes hold a mode and whose names are bytes: Unix, macOS
ENCRYPTED, DESCRIPTOR, STRONG, UTF8, MASKED = 1, 1 << 3, 1 << 6, 1 << 11, 1 << 13


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory lies, and how many entries it has."""

    offset: int
    size: int
    entries: int


@dataclass(frozen=True, slots=True)
class Central:
    """One entry of the central directory."""

    raw_name: bytes
    name: str
    system: int
    flags: int
    method: int
    when: tuple[int, int]
    crc: int
    packed: int
    size: int
    attributes: int
    offset: int
    extra: bytes


# -- the end -------------------------------------------------------------------------------------------


def find_directory(file: ArchiveFile) -> Directory:
    """Find the central directory by the record at the file's end; Damaged if there is none, or two."""
    tail_at = max(0, file.size - _END.size - _COMMENT_MAX)
    tail = file.at(tail_at, file.size - tail_at)
    found = [at for at in _positions(tail, b"PK\x05\x06") if _ends(tail, at)]
    if not found:
        raise Damaged(
            "the archive is cut off or something follows its end: its central directory is not found"
        )
    if len(found) > 1:
        raise Damaged("the archive's comment looks like the end of another archive")
    end = tail_at + found[0]
    _, disk, start_disk, here, entries, size, offset, _ = _END.unpack_from(tail, found[0])
    directory = Directory(offset, size, entries)
    locator = file.at(end - _LOCATOR.size, _LOCATOR.size) if end >= _LOCATOR.size else b""
    if locator.startswith(b"PK\x06\x07"):
        directory, end = _end64(file, locator, end, directory)
    elif (disk, start_disk) != (0, 0) or here != entries:
        raise Damaged("the archive is one of several volumes")
    if directory.offset + directory.size != end:
        raise Damaged("the archive's central directory does not end where its end begins")
    return directory


def _positions(data: bytes, mark: bytes) -> Iterator[int]:
    at = data.find(mark)
    while at >= 0:
        yield at
        at = data.find(mark, at + 1)


def _ends(tail: bytes, at: int) -> bool:
    if at + _END.size > len(tail):
        return False
    comment: int = _END.unpack_from(tail, at)[-1]
    return at + _END.size + comment == len(tail)


def _end64(file: ArchiveFile, locator: bytes, end: int, plain: Directory) -> tuple[Directory, int]:
    """Read the zip64 end, which must agree with the plain one, and return where it begins."""
    _, disk, at, disks = _LOCATOR.unpack(locator)
    record = file.at(at, _END64.size)
    if len(record) < _END64.size or not record.startswith(b"PK\x06\x06"):
        raise Damaged("the archive's zip64 end is not where it is said to be")
    _, length, _, _, this, start, here, entries, size, offset = _END64.unpack(record)
    if at + 12 + length != end - _LOCATOR.size:
        raise Damaged("the archive's zip64 end is followed by something else")
    if (disk, this, start) != (0, 0, 0) or disks > 1 or here != entries:
        raise Damaged("the archive is one of several volumes")
    for said, really, full in (
        (plain.entries, entries, _FULL16),
        (plain.size, size, _FULL32),
        (plain.offset, offset, _FULL32),
    ):
        if said not in {full, really}:
            raise Damaged("the archive's two ends disagree")
    return Directory(offset, size, entries), at


# -- the central directory -----------------------------------------------------------------------------


def read_central(file: ArchiveFile, directory: Directory) -> Iterator[Central]:
    """Yield the entries of the central directory, a piece of it in memory at a time."""
    stream = ByteStream(_region(file, directory.offset, directory.size))
    last = ""
    for _ in range(directory.entries):
        try:
            entry = _central(stream)
        except Ended:
            entry = None
        if entry is None:
            raise Damaged("the archive's central directory is damaged after its entry {member}", member=last)
        yield entry
        last = entry.name
    if stream.position != directory.size:
        raise Damaged("the archive's central directory goes on after its last entry {member}", member=last)


def _region(file: ArchiveFile, offset: int, size: int) -> Iterator[bytes]:
    while size and (data := file.at(offset, min(CHUNK, size))):
        yield data
        offset += len(data)
        size -= len(data)


def _central(stream: ByteStream) -> Central | None:
    fields = _CENTRAL.unpack(stream.take(_CENTRAL.size))
    magic, _, system, _, _, flags, method, time, date, crc, packed, size = fields[:12]
    name_size, extra_size, comment_size, disk, _, attributes, offset = fields[12:]
    if magic != b"PK\x01\x02":
        return None
    raw = stream.take(name_size)
    extra = stream.take(extra_size)
    stream.take(comment_size)
    name = _name(raw, system, flags, extra)
    wide = [size, packed, offset]
    _widen(wide, extra, name)
    if disk not in {0, _FULL16}:
        raise unsafe(name, "it lies in another volume")
    return Central(
        raw, name, system, flags, method, (time, date), crc, wide[1], wide[0], attributes, wide[2], extra
    )


def _fields(extra: bytes, name: str) -> Iterator[tuple[int, bytes]]:
    """Yield the extra fields; Damaged if they are none. Up to three bytes of padding are passed over."""
    at = 0
    while len(extra) - at >= _SIGNATURE_MAX:
        kind, size = struct.unpack_from("<2H", extra, at)
        if at + 4 + size > len(extra):
            raise Damaged("the extra fields of the archive's member {member} are damaged", member=name)
        yield kind, extra[at + 4 : at + 4 + size]
        at += 4 + size


def _widen(values: list[int], extra: bytes, name: str) -> None:
    """Replace the values that are full by those of the zip64 field, in its order."""
    found = [data for kind, data in _fields(extra, name) if kind == _ZIP64]
    if len(found) > 1:
        raise unsafe(name, "it has two zip64 fields")
    left = found[0] if found else b""
    for index, value in enumerate(values):
        if value == _FULL32:
            if len(left) < 8:  # noqa: PLR2004 - bytes of a 64-bit number
                raise unsafe(name, "its zip64 field is missing or too short")
            values[index] = int.from_bytes(left[:8], "little")
            left = left[8:]


def _name(raw: bytes, system: int, flags: int, extra: bytes) -> str:
    """Return a name: UTF-8 where it is marked so or made on Unix, else ASCII or a Unicode path field."""
    shown = raw.decode("utf-8", "replace")
    named = [data for kind, data in _fields(extra, shown) if kind == _UNICODE_PATH]
    try:
        if named:
            if len(named) > 1 or int.from_bytes(named[0][1:5], "little") != zlib.crc32(raw):
                raise unsafe(shown, "its Unicode path belongs to another name")
            name = named[0][5:].decode("utf-8")
            if (raw.isascii() or flags & UTF8) and name.encode() != raw:
                raise unsafe(shown, "it has two different names")
            return name
        return raw.decode("utf-8" if flags & UTF8 or system in UNIX else "ascii")
    except UnicodeDecodeError:
        raise unsafe(shown, "its name is neither ASCII nor marked as UTF-8, or not valid UTF-8") from None


def time_of(entry: Central) -> int:
    """Return when a member was modified, seconds since 1970; the time without a zone is taken as UTC."""
    for kind, data in _fields(entry.extra, entry.name):
        if kind == _TIMESTAMP and len(data) >= 5 and data[0] & 1:  # noqa: PLR2004 - flags and one time
            return safe_time(int.from_bytes(data[1:5], "little", signed=True))
    time, date = entry.when
    day = ((date >> 9) + 1980, date >> 5 & 15, date & 31)
    moment = (*day, time >> 11, time >> 5 & 63, (time & 31) * 2)
    try:
        return calendar.timegm(moment)
    except ValueError:  # month 0 or so: no date was known
        return 0


# -- local headers -------------------------------------------------------------------------------------


def match_local(entry: Central, stream: ByteStream) -> None:
    """Read the local header at which the stream stands; Damaged or Unsafe unless it is that of the entry."""
    fields = _LOCAL.unpack(stream.take(_LOCAL.size))
    magic, _, _, flags, method, time, date, crc, packed, size, name_size, extra_size = fields
    if magic != b"PK\x03\x04":
        raise Damaged("the archive's member {member} has no header of its own", member=entry.name)
    raw, extra = stream.take(name_size), stream.take(extra_size)
    if raw != entry.raw_name:
        raise unsafe(entry.name, "the central directory and its own header give it different names")
    _name(raw, entry.system, flags, extra)
    if (flags, method, (time, date)) != (entry.flags, entry.method, entry.when):
        raise unsafe(entry.name, "the central directory and its own header disagree about it")
    sizes = [size, packed]
    is_late = bool(flags & DESCRIPTOR)
    if not (is_late and 0 in sizes):
        _widen(sizes, extra, entry.name)
    really, said = (entry.crc, entry.size, entry.packed), (crc, *sizes)
    if said != really and not (is_late and all(s in {0, r} for s, r in zip(said, really, strict=True))):
        raise unsafe(entry.name, "the central directory and its own header give different sizes or checksums")


def require_descriptor(entry: Central, data: bytes) -> None:
    """Damaged unless `data` is what may follow a member's bytes: nothing, or its descriptor if it has one."""
    if not entry.flags & DESCRIPTOR:
        if data:
            raise Damaged("something else follows the archive's member {member}", member=entry.name)
        return
    wide = struct.pack("<L2Q", entry.crc, entry.packed, entry.size)
    forms = {wide}
    if max(entry.packed, entry.size) <= _FULL32:
        forms.add(struct.pack("<3L", entry.crc, entry.packed, entry.size))
    if data.removeprefix(b"PK\x07\x08") not in forms and data not in forms:
        raise Damaged("the descriptor behind the archive's member {member} is damaged", member=entry.name)
