"""One member of an archive that is read, after its own name, kind and mode were judged.

The rules for names are in `members.py`, what a name means beside the others in `namespace.py`. Opens no file.
"""

from dataclasses import dataclass

from gobblerd.archive.members import Kind, flaw_of_path
from gobblerd.archive.refusals import unsafe

_YEAR_9999 = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Judged:
    """A member that is no danger by itself.

    `size` in bytes (0 unless a file), `mode` the permission bits that it gets, `mtime` in whole seconds since
    1970, `target` the text of a symbolic link ("" for all else).
    """

    path: str
    kind: Kind
    size: int
    mode: int
    mtime: int
    target: str = ""


def safe_mode(mode: int) -> int:
    """Return the permissions of an extracted member: no set-id, no sticky bit, writable to the owner only.

    The owner can always read and write, so that what was extracted can be removed again.
    """
    return (mode & 0o755) | 0o600


def safe_time(mtime: int) -> int:
    """Return a time that any system call takes: from 1970 to the year 9999."""
    return min(max(mtime, 0), _YEAR_9999)


def judged_path(name: str, *, is_directory: bool = False) -> str:
    """Return a member's path, a directory's without its slash at the end; Unsafe if it has a flaw."""
    path = name[:-1] if is_directory and name.endswith("/") else name
    if flaw := flaw_of_path(path):
        raise unsafe(name, flaw)
    return path


def decoded(name: bytes) -> str:
    """Return a name as text; Unsafe if it is not UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise unsafe(name.decode("utf-8", "surrogateescape"), "its name is not valid UTF-8") from None
