"""The tree that an archive holds: its members without the prefix, as `tree_checksum` counts them."""

import posixpath
from collections.abc import Iterable, Iterator

from gobblerd.archive.checksums import TreeEntry
from gobblerd.archive.members import Member
from gobblerd.domain.errors import Invalid, Plain

_ENTRIES_MAX = 10_000_000
_CHAIN_MAX = 64  # links that are followed one after the other


def tree_entries(members: Iterable[Member], prefix: str) -> Iterator[TreeEntry]:
    """Yield what a directory would have as its entries once the archive was taken out, in no order.

    A link counts as what it leads to, also if that is a directory. Members that are not in `prefix` are
    taken as they are. Invalid for a link to nothing, or one that comes back to where it is.

    >>> file = Member("app/a.txt", "file", 1, "00" * 32)
    >>> list(tree_entries([Member("app", "directory"), file], "app")) == [
    ...     TreeEntry("a.txt", "file", 1, "00" * 32)
    ... ]
    True
    """
    for count, entry in enumerate(_all_entries(_Tree(members), prefix)):
        if count == _ENTRIES_MAX:
            raise Invalid("links to directories multiply to more than {most} entries", most=_ENTRIES_MAX)
        yield entry


def _all_entries(tree: "_Tree", prefix: str) -> Iterator[TreeEntry]:
    top = f"{prefix}/"
    for path, member in tree.members.items():
        if path != prefix:
            yield from tree.entries(path.removeprefix(top), member, ())


class _Tree:
    """Members by path, and what lies in which directory."""

    def __init__(self, members: Iterable[Member]) -> None:
        self.members = {member.path: member for member in members}
        self._below: dict[str, list[str]] = {}
        for path in list(self.members):
            self._enter(path)

    def _enter(self, path: str) -> None:
        """Note the path in its directory, and that one in its own, unless it was noted before."""
        while path:
            directory = posixpath.dirname(path)
            is_known = directory in self._below
            self._below.setdefault(directory, []).append(path)
            if is_known or directory in self.members:
                return
            path = directory

    def entries(self, name: str, member: Member, passed: tuple[str, ...]) -> Iterator[TreeEntry]:
        """Yield the entry that a member is, called `name`; `passed` are the links that led here."""
        if member.kind == "file":
            yield TreeEntry(name, "file", member.size, member.sha256)
        elif member.kind == "directory":
            if not self._below.get(member.path):
                yield TreeEntry(name, "directory")
        else:
            yield from self._followed(name, member, passed)

    def _followed(self, name: str, link: Member, passed: tuple[str, ...]) -> Iterator[TreeEntry]:
        if link.path in passed or len(passed) > _CHAIN_MAX:
            raise Invalid("the link {path} leads back to itself", path=link.path)
        end = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), link.target))
        passed = (*passed, link.path)
        target = self.members.get(end)
        if target is not None and target.kind != "directory":
            yield from self.entries(name, target, passed)
        elif below := self._below.get(end):
            for path in below:
                yield from self._inside(f"{name}/{posixpath.basename(path)}", path, passed)
        elif target is not None:
            yield TreeEntry(name, "directory")
        else:
            raise Invalid("the link {path} leads to {what}", path=link.path, what=Plain("nothing"))

    def _inside(self, name: str, path: str, passed: tuple[str, ...]) -> Iterator[TreeEntry]:
        """Yield everything at and below a path that a link to a directory leads to."""
        member = self.members.get(path)
        below = self._below.get(path, [])
        if member is not None and member.kind != "directory":
            yield from self.entries(name, member, passed)
        elif not below:
            yield TreeEntry(name, "directory")
        for each in below:
            yield from self._inside(f"{name}/{posixpath.basename(each)}", each, passed)
