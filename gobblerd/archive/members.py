"""The members of an archive: what they are called, what they are, and what one may be called.

The rules for names are those that extraction goes by (spec/archives.md, "extract_archive"): nothing is
written that would be refused when it is taken out again.
"""

import os
import posixpath
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from gobblerd.domain.errors import Plain, Wrong, quoted

COMPONENT_MAX_BYTES = 255
PATH_MAX_BYTES = 4096
DEPTH_MAX = 256
FILE_MODE, EXECUTABLE_MODE = 0o644, 0o755  # the only two; directories and links have the second

# What most members are called: seen at a glance instead of character by character.
_COMPONENT = r"(?!\.\.?(?:/|\Z))[\x20-\x2e\x30-\x5b\x5d-\x7e]+"
_ORDINARY = re.compile(rf"(?![A-Za-z]:){_COMPONENT}(?:/{_COMPONENT})*")

Kind = Literal["file", "directory", "link"]
NameOf = Callable[[str], str]  # from a source's path to the member's name


@dataclass(frozen=True, slots=True)
class Member:
    """One member as the inventory lists it.

    `path` is its name in the archive, with the prefix, `/`-separated, without a trailing `/`. Size in bytes;
    `sha256` of a file's bytes in hex, "" for others; `target` is a link's text.
    """

    path: str
    kind: Kind = "file"
    size: int = 0
    sha256: str = ""
    mode: int = FILE_MODE
    target: str = ""


def flaw_of_path(path: str) -> str | None:
    """Return what makes a member's name unusable, or None.

    >>> flaw_of_path("app/data/1.txt") is None
    True
    >>> flaw_of_path("app/../etc")
    'it has the component ".."'
    """
    if len(path) <= COMPONENT_MAX_BYTES and _ORDINARY.fullmatch(path):
        return None
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    flaws = (
        (not path, "it is empty"),
        (path.startswith("/"), "it is absolute"),
        (size > PATH_MAX_BYTES, f"it is longer than {PATH_MAX_BYTES} bytes"),
        ("\\" in path, "it contains a backslash"),
        (any(unicodedata.category(c) == "Cc" for c in path), "it contains a control character"),
    )
    return next((flaw for is_so, flaw in flaws if is_so), None) or _flaw_of_parts(path.split("/"))


def _flaw_of_parts(parts: list[str]) -> str | None:
    if len(parts) > DEPTH_MAX:
        return f"it is deeper than {DEPTH_MAX} directories"
    if len(parts[0]) > 1 and parts[0][1] == ":" and parts[0][0].isalpha() and parts[0].isascii():
        return "it begins with a drive letter"
    for part in parts:
        if part in {"", ".", ".."}:
            return f'it has the component "{part}"' if part else "it has an empty component"
        if len(part.encode("utf-8")) > COMPONENT_MAX_BYTES:
            return f"a component is longer than {COMPONENT_MAX_BYTES} bytes"
    return None


def flaw_of_target(path: str, target: str, prefix: str) -> str | None:
    """Return what is wrong with the text of a link at `path`, or None: it stays in the prefix.

    Whether there is something at its end is for whoever knows all members.
    """
    if target.startswith("/"):
        return "the link is absolute"
    end = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if end != prefix and not end.startswith(f"{prefix}/"):
        return "the link leads out of the archive"
    return flaw_of_path(end)


def folded(path: str) -> str:
    """Return what a path is compared by: names that some filesystem takes for one are one.

    >>> folded("R/Straße") == folded("r/STRASSE")
    True
    """
    if path.isascii():
        lowered = path.lower()
        return path if lowered == path else lowered  # one string in memory instead of two
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class Names:
    """The names that are taken in one archive; `add` says what is wrong with one more."""

    def __init__(self) -> None:
        self._others: dict[str, str] = {}  # files and links: folded -> as it was given
        self._directories: dict[str, str] = {}  # given ones, and those that something lies in
        self._seen: set[str] = set()  # the same directories, as they were given
        self._given: set[str] = set()

    def add(self, path: str, *, is_directory: bool = False) -> str | None:
        """Take a name; return what is wrong with it, or None. After a flaw, what is taken is undefined."""
        return flaw_of_path(path) or self.place(path, is_directory=is_directory)

    def place(self, path: str, *, is_directory: bool) -> str | None:
        """Do the same for a name that is known to be one."""
        if is_directory:
            if path in self._given:
                return _TWICE
            self._given.add(path)
            return self._add_directory(path)
        return self._add_directory(path.rpartition("/")[0]) or self._add_other(path)

    def __len__(self) -> int:
        """Count the names, directories that are only lain in included."""
        return len(self._others) + len(self._directories)

    def is_directory(self, path: str) -> bool:
        """Tell whether the path is one of a directory, given or lain in."""
        return path in self._seen

    def is_file_or_link(self, path: str) -> bool:
        """Tell whether the path was given, and is none of a directory."""
        return self._others.get(folded(path)) == path

    def directories(self) -> list[str]:
        """Return the paths of directories, given or lain in."""
        return list(self._seen)

    def tops(self) -> list[str]:
        """Return the names in which or as which everything lies."""
        return [path for path in (*self._seen, *self._others.values()) if "/" not in path]

    def _add_other(self, path: str) -> str | None:
        key = folded(path)
        if (known := self._others.get(key)) is not None:
            return _TWICE if known == path else _alike(known)
        self._others[key] = path
        if key in self._directories:
            return "another member lies in it, as if it were a directory"
        return None

    def _add_directory(self, path: str) -> str | None:
        while path and path not in self._seen:
            key = folded(path)
            if key in self._others:
                return f"{quoted(self._others[key])} is not a directory"
            if (known := self._directories.setdefault(key, path)) != path:
                return _alike(known)
            self._seen.add(path)
            path = posixpath.dirname(path)
        return None


_TWICE = "another member has the same name"


def _alike(known: str) -> str:
    return f"{quoted(known)} differs from it only in case or Unicode form"


def relative_path(base: str | os.PathLike[str]) -> NameOf:
    """Return the function that names a file by its path relative to `base`; Wrong for a path outside of it.

    >>> relative_path("/data/run")("/data/run/logs/1.txt")
    'logs/1.txt'
    """
    root = os.path.abspath(base)

    def name_of(path: str) -> str:
        found = os.path.relpath(os.path.abspath(path), root)
        if found == os.pardir or found.startswith(os.pardir + os.sep):
            raise Wrong("{path} does not lie in {base}", path=path, base=root)
        return found.replace(os.sep, "/")

    return name_of


def flatten_path(path: str) -> str:
    """Name a file by its last component alone, so that all lie in one directory.

    >>> flatten_path("/data/run/logs/1.txt")
    '1.txt'
    """
    return posixpath.basename(path.replace(os.sep, "/"))


def check_prefix(prefix: str) -> str:
    """Return the name of the archive's one top directory; Wrong if it cannot be that."""
    flaw = "it has more than one component" if "/" in prefix else flaw_of_path(prefix)
    if flaw is None and prefix.startswith(".."):
        flaw = 'it begins with ".."'
    if flaw is not None:
        raise Wrong("{prefix} cannot be the archive's top directory: {flaw}", prefix=prefix, flaw=Plain(flaw))
    return prefix
