"""Writing the members of a plan into a zip file.

Times are written twice: to two seconds, in the old field that knows no time zone (UTC here), and exactly, in
the extended timestamp that Info-ZIP reads.
"""

import stat
import struct
import time
import zipfile

from gobblerd.archive.checked_files import CheckedReading
from gobblerd.archive.plan import Plan, Planned
from gobblerd.archive.tars import Done

_UNIX = 3  # "made by": then the attributes are a Unix mode
_TIMESTAMP = struct.Struct("<HHBl")  # extra field 0x5455, 5 bytes, mtime only, seconds
_EARLIEST, _LATEST = 315_532_800, 4_354_819_198  # 1980 and 2107: what the old field can say
_TIMESTAMP_MAX = (1 << 31) - 1
_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}
_DIRECTORY = 0x10  # as DOS marks one


def info_of(member: Planned, level: int) -> zipfile.ZipInfo:
    """Return the member as `zipfile` describes one."""
    at = time.gmtime(min(max(member.mtime, _EARLIEST), _LATEST))
    is_directory = member.kind == "directory"
    info = zipfile.ZipInfo(f"{member.path}/" if is_directory else member.path, at[:6])
    info.create_system = _UNIX
    info.external_attr = (_TYPES[member.kind] | member.mode) << 16 | (_DIRECTORY if is_directory else 0)
    info.file_size = member.size
    if member.mtime <= _TIMESTAMP_MAX:
        info.extra = _TIMESTAMP.pack(0x5455, 5, 1, member.mtime)
    if member.kind == "file" and member.size:
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = level  # type: ignore[attr-defined]  # noqa: SLF001 - public only from Python 3.13 on
    return info


def write_zip(target: zipfile.ZipFile, plan: Plan, level: int, reading: CheckedReading, done: Done) -> None:
    """Write every member; `done` is told of each once its bytes were read and found right."""
    for member in plan.members:
        info = info_of(member, level)
        if member.kind == "file":
            with target.open(info, "w") as file:
                for chunk in reading.chunks(member.content, member.size, member.path):
                    file.write(chunk)
        else:
            target.writestr(info, member.target)
        done(member, reading.sha256 if member.kind == "file" else "")
