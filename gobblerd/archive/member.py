"""One member of an archive, and the rules for its own name (spec/archives.md, "extract_archive ... Refuses").

What a name means beside the other members is in `namespace.py`. Opens no file.
"""

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from gobblerd.archive.refusals import unsafe

COMPONENT_MAX_BYTES = 255
PATH_MAX_BYTES = 4096
DEPTH_MAX = 256  # directories above a member

# What most members are called: checked by one expression instead of one component after the other.
_COMPONENT = r"(?!\.\.?(?:/|\Z))[\x20-\x2e\x30-\x5b\x5d-\x7e]+"
_ORDINARY = re.compile(rf"(?![A-Za-z]:){_COMPONENT}(?:/{_COMPONENT})*")
_DRIVE = re.compile(r"[A-Za-z]:")


class Kind(StrEnum):
    """What a member becomes."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Member:
    """A member whose own name, kind and mode are no danger.

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


def judged_path(name: str, *, is_directory: bool = False) -> str:
    """Return a member's path, a directory's without its slash at the end; Unsafe if it has a flaw."""
    path = name[:-1] if is_directory and name.endswith("/") else name
    if len(path) <= COMPONENT_MAX_BYTES and _ORDINARY.fullmatch(path):
        return path
    if flaw := _flaw(path):
        raise unsafe(name, flaw)
    return path


def _flaw(path: str) -> str | None:
    """Return what is wrong with a path, or None."""
    if not path:
        return "it has no name"
    if path.startswith("/"):
        return "its path is absolute"
    if "\\" in path:
        return "its path holds a backslash"
    if any(unicodedata.category(character) == "Cc" for character in path):
        return "its path holds NUL or a control character"
    if _DRIVE.match(path):
        return "its path begins with a drive letter"
    return _flaw_of_components(path)


def _flaw_of_components(path: str) -> str | None:
    parts = path.split("/")
    for part in parts:
        if part in {"", ".", ".."}:
            return f'its path holds the component "{part}"'
    try:
        longest, size = max(len(part.encode()) for part in parts), len(path.encode())
    except UnicodeEncodeError:
        return "its path is not valid UTF-8"
    if longest > COMPONENT_MAX_BYTES:
        return f"a component of its path is longer than {COMPONENT_MAX_BYTES} bytes"
    if size > PATH_MAX_BYTES:
        return f"its path is longer than {PATH_MAX_BYTES} bytes"
    if len(parts) - 1 > DEPTH_MAX:
        return f"it is nested deeper than {DEPTH_MAX} levels"
    return None


def decoded(name: bytes) -> str:
    """Return a name as text; Unsafe if it is not UTF-8."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        raise unsafe(name.decode("utf-8", "surrogateescape"), "its name is not valid UTF-8") from None
