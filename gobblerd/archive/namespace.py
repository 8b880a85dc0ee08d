"""The paths of one archive together: none twice, no file where a directory must be, no stray link.

Two paths are the same if a filesystem somewhere takes them for the same: after Unicode normalisation and
case folding. Memory: about 150 bytes a member beside its path.
"""

import posixpath
import unicodedata

from gobblerd.archive.member import Kind, Member
from gobblerd.archive.refusals import Unsafe, unsafe

_FOLLOWED_MOST = 40  # links on the way of one path, as in Linux


class Namespace:
    """What the members of an archive occupy."""

    def __init__(self) -> None:
        self._spelled: dict[str, str] = {}  # folded path -> path, directories that are only implied too
        self._directories: set[str] = set()
        self._own: set[str] = set()  # directories that have a member of their own
        self._links: dict[str, str] = {}

    def __len__(self) -> int:
        """Count paths, directories that are only implied included."""
        return len(self._spelled)

    def add(self, member: Member) -> None:
        """Take a member in; Unsafe if its place is taken."""
        path = member.path
        parent = path.rpartition("/")[0]
        if parent and parent not in self._directories:
            self._add_directory(parent, path)
        if member.kind is Kind.DIRECTORY:
            if path in self._own:
                raise unsafe(path, "the archive holds two members of this path")
            self._own.add(path)
            if path not in self._directories:
                self._add_directory(path, path)
            return
        folded = _folded(path)
        if folded in self._spelled:
            raise self._taken(path, folded)
        self._spelled[folded] = path
        if member.kind is Kind.SYMLINK:
            self._links[path] = member.target
            _check_target(path, member.target)

    def _add_directory(self, directory: str, member: str) -> None:
        """Take in a directory and those above it, that `member` needs."""
        parts = directory.split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path in self._directories:
                continue
            folded = _folded(path)
            if folded in self._spelled:
                raise self._taken(member, folded, path)
            self._spelled[folded] = path
            self._directories.add(path)

    def _taken(self, member: str, folded: str, needed: str | None = None) -> Unsafe:
        other = self._spelled[folded]
        is_same = other == (needed or member)
        if is_same and needed is not None:
            return Unsafe(
                "the archive's member {member} is refused: it needs the directory {other}, which is none",
                member=member,
                other=other,
            )
        if is_same and other not in self._directories:
            return unsafe(member, "the archive holds two members of this path")
        if is_same:
            return unsafe(member, "other members need a directory of this path")
        return Unsafe(
            "the archive's member {member} is refused: its path and that of {other} are the same where case "
            "or Unicode composition do not count",
            member=member,
            other=other,
        )

    def check_links(self) -> None:
        """Raise Unsafe for a link that dangles, goes round in a circle, or leaves the archive on its way."""
        for path in self._links:
            self._resolve(path)

    def tops(self) -> list[str]:
        """Return what lies at the top of the archive."""
        return [path for path in self._spelled.values() if "/" not in path]

    def is_directory(self, path: str) -> bool:
        """Tell whether members make a directory of the path."""
        return path in self._directories

    def _resolve(self, link: str) -> str:
        """Return where a link ends, as the kernel would find it below the archive's root."""
        at: list[str] = link.split("/")[:-1]
        pending = _parts(self._links[link])
        followed = 1
        while pending:
            part = pending.pop()
            if part in {"", "."}:
                continue
            if part == "..":
                if not at:
                    raise unsafe(link, "this symbolic link leaves the archive")
                at.pop()
                continue
            here = "/".join((*at, part))
            if here in self._links:
                followed += 1
                if followed > _FOLLOWED_MOST:
                    raise unsafe(link, "this symbolic link is part of a cycle")
                pending += _parts(self._links[here])
            elif here in self._directories or (not pending and self._is_there(here)):
                at.append(part)
            else:
                raise Unsafe(
                    "the archive's member {member} is refused: this symbolic link goes to {target}, which "
                    "the archive does not hold",
                    member=link,
                    target=self._links[link],
                )
        return "/".join(at)

    def _is_there(self, path: str) -> bool:
        return self._spelled.get(_folded(path)) == path


def _parts(target: str) -> list[str]:
    return target.split("/")[::-1]


def _check_target(path: str, target: str) -> None:
    """Refuse at once what no later member can mend."""
    if not target or "\0" in target:
        raise unsafe(path, "this symbolic link goes nowhere")
    if target.startswith("/"):
        raise unsafe(path, "this symbolic link is absolute")
    if "\\" in target or any(unicodedata.category(character) == "Cc" for character in target):
        raise unsafe(path, "the target of this symbolic link holds a backslash or a control character")
    if posixpath.normpath(posixpath.join(posixpath.dirname(path), target)).split("/")[0] == "..":
        raise unsafe(path, "this symbolic link leaves the archive")


def _folded(path: str) -> str:
    """Return what two paths share that some filesystem takes for one."""
    if path.isascii():
        lowered = path.lower()
        return path if lowered == path else lowered  # one string in memory instead of two
    folded = unicodedata.normalize("NFD", path).casefold()
    return unicodedata.normalize("NFC", folded)
