"""Archives that must be refused, one for each thing that is refused, in tar and in zip.

`MALICE` is the whole corpus; each names what its refusal must say: the member at fault where there is one.
"""

import io
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import zstandard

Member = tuple[tarfile.TarInfo, bytes]
END = bytes(1024)


@dataclass(frozen=True, slots=True)
class Evil:
    """One archive; `says` is a part of the refusal's reason."""

    name: str
    suffix: str
    data: bytes
    says: str

    @property
    def id(self) -> str:
        return f"{self.name}.{self.suffix}"


# ---- tar


def info(name: str, **fields: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(made, key, value)
    return made


def file(name: str, data: bytes = b"data", **fields: object) -> Member:
    return info(name, size=len(data), **fields), data


def directory(name: str) -> Member:
    return info(name, type=tarfile.DIRTYPE, mode=0o755), b""


def link(name: str, target: str) -> Member:
    return info(name, type=tarfile.SYMTYPE, linkname=target), b""


def special(name: str, kind: bytes, **fields: object) -> Member:
    return info(name, type=kind, **fields), b""


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def tar_parts(members: Iterable[Member]) -> bytes:
    return b"".join(
        made.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape") + padded(data) for made, data in members
    )


def tar(*members: Member) -> bytes:
    return tar_parts(members) + END


def good(*members: Member) -> bytes:
    """Return an archive whose other members are sound, so that the bad one is in the middle."""
    return tar(file("top/first"), *members, file("top/last"))


def extended(kind: bytes, data: bytes, *then: Member) -> bytes:
    """Return an archive in which an extended header precedes a member."""
    head = info("././@Header", type=kind, size=len(data)).tobuf(tarfile.USTAR_FORMAT)
    return tar_parts([file("top/first")]) + head + padded(data) + tar_parts(then) + END


def pax(*records: tuple[str, str]) -> bytes:
    return b"".join(_record(key, value) for key, value in records)


def _record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    size = len(body)
    while len(str(size)) + len(body) != size:
        size = len(str(size)) + len(body)
    return str(size).encode() + body


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _raw_name(name: bytes) -> bytes:
    """Return an archive with a member of a name that no tool would write."""
    header = bytearray(info("x", size=0).tobuf(tarfile.USTAR_FORMAT))
    header[0:100] = name.ljust(100, b"\0")
    return tar_parts([file("top/first")]) + with_checksum(bytes(header)) + END


def with_checksum(header: bytes) -> bytes:
    blank = patched(header, 148, b" " * 8)
    return patched(blank, 148, b"%06o\0 " % sum(blank))


def _negative() -> bytes:
    header = patched(info("top/negative", size=0).tobuf(tarfile.USTAR_FORMAT), 124, b"\xff" * 12)
    return tar_parts([file("top/first")]) + with_checksum(header) + END


_SPARSE = pax(("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", "top/sparse"))
_THREE = tar(file("top/first"), file("top/second"), file("top/third"))
_DEEP = "/".join(["d"] * 257) + "/f"
_LONG = "/".join(["p" * 200] * 21)


def _tars() -> Iterable[tuple[str, bytes, str]]:
    yield "absolute", good(file("/top/absolute")), "/top/absolute"
    yield "parent", good(file("../parent")), "../parent"
    yield "parent inside", good(file("top/../../parent")), "top/../../parent"
    yield "dot", good(file("top/./dot")), "top/./dot"
    yield "empty component", good(file("top//empty")), "top//empty"
    yield "file with a slash", good(file("top/slash/", b"")), "top/slash/"
    yield "no name", _raw_name(b""), "it is empty"
    yield "backslash", good(file("top\\back")), "top\\\\back"
    yield "drive", good(file("C:/drive")), "C:/drive"
    yield "drive without slash", good(file("c:drive")), "c:drive"
    yield "control", good(file("top/con\x01trol")), "top/con\\x01trol"
    yield "newline", good(file("top/new\nline")), "top/new\\nline"
    yield "C1 control", good(file("top/c1\x85")), "top/c1"
    yield "not UTF-8", _raw_name(b"top/\xff\xfe"), "not valid UTF-8"
    yield "long component", good(file("top/" + "c" * 256)), "ccc"
    yield "long path", good(file(_LONG)), "ppp"
    yield "deep", good(file(_DEEP)), "d/d/d/"
    yield "two of one path", good(file("top/two"), file("top/two")), "top/two"
    yield "two directories", good(directory("top/two"), directory("top/two")), "top/two"
    yield "two in case", good(file("top/Case"), file("top/cASE")), "top/cASE"
    yield "two in sharp s", good(file("top/Straße"), file("top/STRASSE")), "top/STRASSE"
    yield "two in composition", good(file("top/\u00e9"), file("top/e\u0301")), "top/e"
    yield "directories in case", good(file("top/A/x"), file("top/a/y")), "top/a/y"
    yield "file as directory", good(file("top/f"), file("top/f/g")), "top/f/g"
    yield "directory as file", good(file("top/f/g"), file("top/f")), "top/f"
    yield "through a link", good(directory("top/d"), link("top/l", "d"), file("top/l/x")), "top/l/x"
    yield "link absolute", good(link("top/l", "/etc/passwd")), "top/l"
    yield "link leaves", good(link("top/l", "../../x")), "top/l"
    yield (
        "link leaves by a link",
        good(
            link("top/l", "deep/../.."),
            link("top/deep", "a/b"),
            file("top/a/b/c"),
            link("top/m", "l/../../x"),
        ),
        "top/m",
    )
    yield "link to itself", good(link("top/l", "l")), "top/l"
    yield "links in a circle", good(link("top/l", "m"), link("top/m", "l")), "top/l"
    yield "link dangles", good(link("top/l", "nowhere")), "top/l"
    yield "link dangles in case", good(link("top/l", "FIRST")), "top/l"
    yield "link with backslash", good(link("top/l", "..\\x")), "top/l"
    yield "link with control", good(link("top/l", "fi\x1brst")), "top/l"
    yield "link empty", good(link("top/l", "")), "top/l"


def _tars_of_headers() -> Iterable[tuple[str, bytes, str]]:
    yield "hard link", good(special("top/hard", tarfile.LNKTYPE, linkname="top/first")), "top/hard"
    yield "character device", good(special("top/null", tarfile.CHRTYPE, devmajor=1, devminor=3)), "top/null"
    yield "block device", good(special("top/disk", tarfile.BLKTYPE, devmajor=7)), "top/disk"
    yield "FIFO", good(special("top/fifo", tarfile.FIFOTYPE)), "top/fifo"
    yield "GNU sparse", good(special("top/sparse", tarfile.GNUTYPE_SPARSE)), "top/sparse"
    yield "multi-volume", good(special("top/volume", b"M")), "top/volume"
    yield "unknown type", good(special("top/odd", b"Z")), "top/odd"
    yield "directory with bytes", good((info("top/d", type=tarfile.DIRTYPE, size=4), b"data")), "top/d"
    yield "negative size", _negative(), "top/negative"
    yield "PAX sparse", extended(b"x", _SPARSE, file("top/pax")), "top/sparse"
    yield "PAX old sparse", extended(b"x", pax(("GNU.sparse.map", "0,1")), file("top/pax")), "top/pax"
    yield "PAX path", extended(b"x", pax(("path", "/etc/evil")), file("top/pax")), "/etc/evil"
    yield "PAX path with NUL", extended(b"x", pax(("path", "top/a\0b")), file("top/pax")), "top/a\\x00b"
    yield "PAX link", extended(b"x", pax(("linkpath", "/etc")), link("top/l", "first")), "top/l"
    yield "PAX size", extended(b"x", pax(("size", "3")), file("top/pax")), "top/pax"
    yield "PAX size no number", extended(b"x", pax(("size", "-1")), file("top/pax")), "top/pax"
    yield "PAX twice", extended(b"x", pax(("path", "top/a"), ("path", "top/b")), file("top/pax")), "top/first"
    yield "PAX no record", extended(b"x", b"garbage", file("top/pax")), "top/first"
    yield "PAX global path", extended(b"g", pax(("path", "top/all")), file("top/pax")), "path"
    yield "long name leaves", extended(b"L", b"../long\0", file("top/x")), "../long"
    yield "long name with NUL", extended(b"L", b"top/a\0/../b\0", file("top/x")), "top/a"
    yield "long name and PAX", extended(b"x", pax(("path", "top/a")), file("top/" + "n" * 120)), "nnn"
    yield "header for nobody", extended(b"x", pax(("path", "top/a"))), "top/first"


def _damaged_tars() -> Iterable[tuple[str, bytes, str]]:
    yield "damaged header", patched(_THREE, 1024 + 20, b"X"), "top/first"
    yield "zeroed header", patched(_THREE, 1024, bytes(512)), "top/first"
    yield "damaged padding", patched(_THREE, 1024 + 512 + 100, b"X"), "top/second"
    yield "cut off in a header", _THREE[: 1024 + 100], "top/first"
    yield "cut off in a member", _THREE[: 1024 + 514], "top/second"
    yield "no end", _THREE[:-1024], "top/third"
    yield "half an end", _THREE[:-512], "top/third"
    yield "garbage behind", _THREE + b"garbage", "follows the end"
    yield "archive behind", _THREE + _THREE, "follows the end"
    yield "empty file", b"", "empty"


# ---- compressed


def _compressed() -> Iterable[tuple[str, str, bytes, str]]:
    frame = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(_THREE)
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=28)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = writer.compress(_THREE) + writer.flush()
    gz = zlib.compressobj(wbits=31)
    packed = gz.compress(_THREE) + gz.flush()
    yield "zstd window", "tar.zst", wide, "window"
    yield "zstd cut off", "tar.zst", frame[:-5], "cut off"
    yield "zstd checksum", "tar.zst", frame[:-1] + bytes([frame[-1] ^ 1]), "damaged"
    yield "zstd garbage behind", "tar.zst", frame + b"garbage", "follows the end"
    yield "gzip cut off", "tar.gz", packed[:-5], "cut off"
    yield "gzip checksum", "tar.gz", packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:], "damaged"
    yield "gzip garbage behind", "tar.gz", packed + b"garbage", "follows the end"
    yield "gzip zeros behind", "tar.gz", packed + bytes(100), "follows the end"


# ---- zip


def entry(name: str, mode: int = 0o100644) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("placeholder", (2024, 2, 3, 4, 5, 6))
    made.filename = name  # as it stands: the constructor would mend it
    made.create_system = 3
    made.external_attr = mode << 16
    return made


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of duplicate names
        for member, data in members:
            archive.writestr(entry(member) if isinstance(member, str) else member, data)
        archive.comment = comment
    return out.getvalue()


def good_zip(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    return zipped(("top/first", b"data"), *members, ("top/last", b"data"))


def _symlink(name: str, target: str) -> tuple[zipfile.ZipInfo, bytes]:
    return entry(name, 0o120777), target.encode()


_TWO = zipped(("top/first", b"first" * 50), ("top/second", b"second" * 50))


def central(data: bytes, number: int) -> int:
    """Return where an entry of the central directory begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


def local(data: bytes, number: int) -> int:
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x03\x04", at + 1)
    return at


def both(data: bytes, number: int, in_local: int, in_central: int, new: bytes) -> bytes:
    """Change both headers of a member."""
    changed = patched(data, local(data, number) + in_local, new)
    return patched(changed, central(changed, number) + in_central, new)


def _inserted(data: bytes, at: int, more: bytes) -> bytes:
    """Put bytes between members, and mend all that says where things lie."""
    grown = bytearray(data[:at] + more + data[at:])
    for number in range(2):
        entry_at = central(bytes(grown), number)
        offset = int.from_bytes(grown[entry_at + 42 : entry_at + 46], "little")
        if offset >= at:
            grown[entry_at + 42 : entry_at + 46] = struct.pack("<L", offset + len(more))
    end = grown.rindex(b"PK\x05\x06")
    start = int.from_bytes(grown[end + 16 : end + 20], "little")
    grown[end + 16 : end + 20] = struct.pack("<L", start + len(more))
    return bytes(grown)


def _zips() -> Iterable[tuple[str, bytes, str]]:
    for name, path in {
        "absolute": "/top/absolute",
        "parent": "../parent",
        "parent inside": "top/../../parent",
        "dot": "top/./dot",
        "empty component": "top//empty",
        "drive": "C:/drive",
        "newline": "top/new\nline",
        "backslash": "top\\back",
        "long component": "top/" + "c" * 256,
        "long path": _LONG,
        "deep": _DEEP,
    }.items():
        shown = path.replace("\\", "\\\\").replace("\n", "\\n")
        yield name, good_zip((path, b"data")), shown[:200]
    yield "two of one path", good_zip(("top/two", b"1"), ("top/two", b"2")), "top/two"
    yield "two in case", good_zip(("top/Case", b"1"), ("top/cASE", b"2")), "top/cASE"
    yield "two in composition", good_zip(("top/\u00e9", b"1"), ("top/e\u0301", b"2")), "top/e"
    yield "file as directory", good_zip(("top/f", b"1"), ("top/f/g", b"2")), "top/f/g"
    yield "directory as file", good_zip(("top/f/g", b"1"), ("top/f", b"2")), "top/f"
    yield "link absolute", good_zip(_symlink("top/l", "/etc/passwd")), "top/l"
    yield "link leaves", good_zip(_symlink("top/l", "../../x")), "top/l"
    yield "link to itself", good_zip(_symlink("top/l", "l")), "top/l"
    yield "link dangles", good_zip(_symlink("top/l", "nowhere")), "top/l"
    yield "link too long", good_zip(_symlink("top/l", "x" * 5000)), "top/l"
    yield "link empty", good_zip(_symlink("top/l", "")), "top/l"
    yield "device", good_zip((entry("top/null", 0o020666), b"")), "top/null"
    yield "FIFO", good_zip((entry("top/fifo", 0o010644), b"")), "top/fifo"
    yield "directory by mode only", good_zip((entry("top/d", 0o040755), b"")), "top/d"
    yield "file by mode only", good_zip((entry("top/d/", 0o100644), b"")), "top/d/"
    yield "directory with bytes", good_zip((entry("top/d/", 0o040755), b"data")), "top/d"
    yield "not UTF-8", both(_TWO, 1, 30 + 4, 46 + 4, b"\xff\xfe"), "not valid UTF-8"
    yield "encrypted", both(_TWO, 1, 6, 8, b"\x01"), "top/second"
    yield "method", both(_TWO, 1, 8, 10, b"\x0c"), "top/second"
    yield "two names", patched(_TWO, central(_TWO, 1) + 46 + 4, b"third!"), "top/third!"
    yield "two sizes", patched(_TWO, central(_TWO, 1) + 24, b"\x05\0\0\0"), "top/second"
    yield "two checksums", patched(_TWO, central(_TWO, 1) + 16, b"\0\0\0\0"), "top/second"
    yield "wrong checksum", both(_TWO, 1, 14, 16, b"\0\0\0\0"), "top/second"
    yield "wrong size", both(_TWO, 1, 22, 24, b"\x05\0\0\0"), "top/second"
    yield "bomb of overlapping members", patched(_TWO, central(_TWO, 1) + 42, b"\0\0\0\0"), "top/first"
    yield "members out of order", patched(_TWO, central(_TWO, 0) + 42, b"\x30\0\0\0"), "precedes"
    yield "something before", b"#!/bin/sh\n" + _TWO, "no archive"
    yield "something before, mended", _inserted(_TWO, 0, b"stub"), "no archive"
    yield "something between", _inserted(_TWO, local(_TWO, 1), b"hidden bytes"), "top/first"
    yield "much between", _inserted(_TWO, local(_TWO, 1), b"hidden" * 100), "top/first"
    yield "behind the last", _inserted(_TWO, central(_TWO, 0), b"hidden bytes"), "top/second"
    yield "too many entries", patched(_TWO, _TWO.rindex(b"PK\x05\x06") + 8, b"\3\0\3\0"), "top/second"
    yield "too few entries", patched(_TWO, _TWO.rindex(b"PK\x05\x06") + 8, b"\1\0\1\0"), "top/"
    yield "volumes", patched(_TWO, _TWO.rindex(b"PK\x05\x06") + 4, b"\1\0"), "volumes"
    yield "comment is an end", zipped(("top/first", b"data"), comment=_TWO[-22:]), "comment"
    yield "garbage behind", _TWO + b"garbage", "cut off or something follows"
    yield "cut off", _TWO[:-10], "cut off"
    yield "zip64 without field", both(_TWO, 1, 22, 24, b"\xff\xff\xff\xff"), "top/second"
    yield "damaged bytes", patched(_TWO, local(_TWO, 1) + 45, b"\0\0"), "top/second"


def _corpus() -> Iterable[Evil]:
    for name, data, says in (*_tars(), *_tars_of_headers(), *_damaged_tars()):
        yield Evil(name, "tar", data, says)
    for name, suffix, data, says in _compressed():
        yield Evil(name, suffix, data, says)
    for name, data, says in _zips():
        yield Evil(name, "zip", data, says)


MALICE = list(_corpus())
Builder = Callable[..., bytes]
