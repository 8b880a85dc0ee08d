"""The bytes of a tar file, from a plan: headers, contents, padding, end. Never seeks, never looks back.

Headers are ustar where that can say it, else pax. Those of plain names are put together here, five times
faster than `tarfile` does it; a test compares the two.
"""

import tarfile
from collections.abc import Callable, Iterator, Sequence

from gobblerd.archive.checked_files import CheckedReading, File
from gobblerd.archive.checksums import CHUNK
from gobblerd.archive.plan import Plan, Planned

Done = Callable[[Planned, str], None]  # the member, and the SHA-256 of its bytes

BLOCK = 512
RECORD = 20 * BLOCK  # what a tar file's length is a multiple of
_TYPES = {"file": tarfile.REGTYPE, "directory": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}
_NAME_MAX = 100  # bytes of a name or a link's text in a plain header
_BATCH, _SMALL = 128, 32 << 10  # members looked at in one go; bytes of those that are read so: 4 MiB at most
_OCTAL_MAX = 0o77777777777  # 8 GiB: the largest number in a plain header
_AFTER_TYPE = b"ustar\x0000" + bytes(247)
_BEFORE_SIZE = b"0000000\0" * 2
_CONSTANT_SUM = sum(_BEFORE_SIZE) + sum(_AFTER_TYPE) + 8 * ord(" ")  # the checksum's own place as blanks


def info_of(member: Planned) -> tarfile.TarInfo:
    """Return the member as `tarfile` describes one: no owner, no names but its own."""
    info = tarfile.TarInfo(member.path)
    info.type = _TYPES[member.kind]
    info.size = member.size
    info.mode = member.mode
    info.mtime = member.mtime
    info.linkname = member.target
    return info


def header(member: Planned) -> bytes:
    """Return what comes before the member's bytes."""
    name = member.path if member.kind != "directory" else f"{member.path}/"
    is_plain = (
        name.isascii()
        and member.target.isascii()
        and len(name) <= _NAME_MAX
        and len(member.target) <= _NAME_MAX
        and max(member.size, member.mtime) <= _OCTAL_MAX
    )
    return _plain_header(member, name) if is_plain else info_of(member).tobuf(tarfile.PAX_FORMAT)


def _plain_header(member: Planned, name: str) -> bytes:
    encoded, kind, target = name.encode(), _TYPES[member.kind], member.target.encode()
    mode, numbers = b"%07o\0" % member.mode, b"%011o\0%011o\0" % (member.size, member.mtime)
    checksum = _CONSTANT_SUM + sum(encoded) + sum(mode) + sum(numbers) + sum(kind) + sum(target)
    return b"".join(
        (
            encoded.ljust(100, b"\0"),
            mode,
            _BEFORE_SIZE,
            numbers,
            b"%06o\0 " % checksum,
            kind,
            target.ljust(100, b"\0"),
            _AFTER_TYPE,
        )
    )


def padding(size: int) -> bytes:
    """Return what follows `size` bytes up to the next block."""
    return bytes(-size % BLOCK)


def tar_size(plan: Plan) -> int:
    """Return the length of the tar file in bytes, from the plan alone."""
    size = 2 * BLOCK + sum(len(header(each)) + each.size + (-each.size % BLOCK) for each in plan.members)
    return size + (-size % RECORD)


def _small_files(members: Sequence[Planned]) -> list[tuple[str, File, int]]:
    """Return the files among the members that are worth reading in one go."""
    return [
        (member.path, member.content, member.size)
        for member in members
        if isinstance(member.content, File) and member.size <= _SMALL
    ]


def tar_stream(plan: Plan, reading: CheckedReading, done: Done | None = None) -> Iterator[bytes]:
    """Yield the tar file; `done` is told of each member once its bytes were read and found right."""
    size = 0
    for at, member in enumerate(plan.members):
        if at % _BATCH == 0:
            reading.prepare(_small_files(plan.members[at : at + _BATCH]))
        before = header(member)
        yield before
        size += len(before) + member.size + (-member.size % BLOCK)
        if member.kind == "file":
            if member.size <= CHUNK:
                yield reading.whole(member.content, member.size, member.path)
            else:
                yield from reading.chunks(member.content, member.size, member.path)
            if member.size % BLOCK:
                yield padding(member.size)
        if done is not None:
            done(member, reading.sha256 if member.kind == "file" else "")
    size += 2 * BLOCK
    yield bytes(2 * BLOCK + (-size % RECORD))
