"""The paths of one archive together: none twice, no file where a directory must be, no stray link.

Memory: some 200 bytes a member.
"""

import posixpath
import unicodedata

from gobblerd.archive.judged import Judged
from gobblerd.archive.members import Names
from gobblerd.archive.refusals import Unsafe, unsafe

_FOLLOWED_MOST = 40  # links on the way of one path, as in Linux


class Namespace:
    """What the members of an archive occupy; `names` without regard to where links go."""

    def __init__(self) -> None:
        self.names = Names()
        self._links: dict[str, str] = {}

    def add(self, member: Judged) -> None:
        """Take a member in; Unsafe if its place is taken, or if it is a link that nothing can mend."""
        if flaw := self.names.place(member.path, is_directory=member.kind == "directory"):
            raise unsafe(member.path, flaw)
        if member.kind == "link":
            if flaw := _flaw_of_target(member):
                raise unsafe(member.path, flaw)
            self._links[member.path] = member.target

    def check_links(self) -> None:
        """Raise Unsafe for a link that dangles, goes round in a circle, or leaves the archive on its way."""
        for path in self._links:
            self._follow(path)

    def end_of(self, path: str) -> str:
        """Return the path that a path leads to: itself, unless it is a link. All links must be sound."""
        return self._follow(path) if path in self._links else path

    def _follow(self, link: str) -> str:
        """Return where a link ends, going as the kernel would below the archive's root."""
        at = link.split("/")[:-1]
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
            elif self.names.is_directory(here) or (not pending and self.names.is_file_or_link(here)):
                at.append(part)
            else:
                raise Unsafe(
                    "the archive's member {member} is refused: this symbolic link goes to {target}, which "
                    "the archive does not hold",
                    member=link,
                    target=self._links[link],
                )
        return "/".join(at)


def _parts(target: str) -> list[str]:
    return target.split("/")[::-1]


def _flaw_of_target(link: Judged) -> str | None:
    target = link.target
    if not target:
        return "this symbolic link goes nowhere"
    if target.startswith("/"):
        return "this symbolic link is absolute"
    if "\\" in target or any(unicodedata.category(character) == "Cc" for character in target):
        return "the target of this symbolic link holds a backslash or a control character"
    end = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), target))
    return "this symbolic link leaves the archive" if end.split("/")[0] == ".." else None
