"""The plan of an archive of any directory, or of any paths: venvs, results, whatever lies on disk.

Names that begin with `..` are left out, as an upload leaves them out. Times stay as they are, in whole
seconds, unless `clamp_mtime` makes the later ones earlier. A symbolic link becomes what it leads to; with
`links="preserve"` those that stay in the directory remain (relative) links.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gobblerd.archive.checked_files import File, PathOpener
from gobblerd.archive.members import EXECUTABLE_MODE, FILE_MODE, check_prefix, relative_path
from gobblerd.archive.plan import Excluded, Plan, Planned, arranged, planned_extras
from gobblerd.archive.version_plan import Wish
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.names import is_internal
from gobblerd.domain.times import NANOSECONDS

Above = tuple[tuple[int, int], ...]  # device and inode of the directories that a walk is in


def plan_directory(root: str, wish: Wish) -> Plan:
    """Walk a directory and plan its archive; Wrong for what cannot be archived, OSError if unreadable."""
    if not os.path.isdir(root):
        raise Wrong("{path} is not a directory", path=root)
    top = os.path.abspath(root)
    return _Walk(top, wish).plan([top])


def plan_paths(paths: Iterable[str | os.PathLike[str]], wish: Wish) -> Plan:
    """Plan an archive of files and whole directories.

    They are named relative to the directory that all of them are in, unless `name_of` says otherwise.
    """
    found = [os.path.abspath(path) for path in paths]
    if not found:
        raise Wrong("there are no paths to archive")
    for path in found:
        if not os.path.lexists(path):
            raise Wrong("{path} does not exist", path=path)
    return _Walk(os.path.commonpath([os.path.dirname(path) for path in found]), wish).plan(found)


@dataclass(slots=True)
class _Walk:
    top: str
    wish: Wish
    prefix: str = field(init=False)
    times: dict[str, int] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)

    def plan(self, paths: list[str]) -> Plan:
        wish = self.wish
        name = os.path.basename(self.top) if wish.prefix is None else wish.prefix
        self.prefix = check_prefix(name)
        members = [member for path in paths for member in self._at(path, ())]
        newest = max([member.mtime for member in members], default=0)
        default = newest if wish.clamp_mtime is None else wish.clamp_mtime
        members += planned_extras(wish.extras, self.prefix, default)
        return Plan(
            members=arranged(members, self.prefix, self.times, default),
            opener=PathOpener(),
            prefix=self.prefix,
            links=wish.links,
            excludes=wish.excludes,
            added=tuple(extra.path for extra in wish.extras),
            replaced=tuple(sorted(self.replaced)),
            clamp_mtime=wish.clamp_mtime,
        )

    def _at(self, path: str, above: Above) -> Iterator[Planned]:
        """Plan what is at a path."""
        if os.path.islink(path):
            target = self._target_within(path, above) if self.wish.links != "files" else None
            if target is not None:
                end, name = self._member(target), self._member(path)
                text = os.path.relpath(end, os.path.dirname(name))
                yield Planned(name, "link", self._time(os.lstat(path)), mode=EXECUTABLE_MODE, target=text)
                return
            self.replaced.append(os.path.relpath(path, self.top))
        try:
            status = os.stat(path)
        except FileNotFoundError:
            raise Wrong("{path} is a link to nothing", path=path) from None
        if stat.S_ISDIR(status.st_mode):
            yield from self._in(path, status, above)
        elif stat.S_ISREG(status.st_mode):
            mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else FILE_MODE
            yield Planned(self._member(path), "file", self._time(status), status.st_size, mode, File(path))
        else:
            raise Wrong("{path} is {what}", path=path, what=Plain("neither a file, a directory nor a link"))

    def _in(self, path: str, status: os.stat_result, above: Above) -> Iterator[Planned]:
        """Plan what is in a directory; the directory itself where that is nothing."""
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise Wrong("{path} is a link to a directory above it", path=path)
        holds = False
        for name in os.listdir(path):
            below = os.path.join(path, name)
            if not is_internal(name) and os.path.relpath(below, self.top) not in Excluded(self.wish.excludes):
                yield from self._at(below, (*above, here))
                holds = True
        if path != self.top:
            if not holds:
                yield Planned(self._member(path), "directory", self._time(status), mode=EXECUTABLE_MODE)
            elif self.wish.name_of is None:
                self.times[self._member(path)] = self._time(status)
        else:
            self.times[self.prefix] = self._time(status)

    def _target_within(self, path: str, above: Above) -> str | None:
        """Return the path in the top directory that a link leads to, if it can stay a link."""
        target, top = os.path.realpath(path), os.path.realpath(self.top)
        inside = os.path.relpath(target, top)
        parts = inside.split(os.sep)
        is_directory = os.path.isdir(target)
        if (
            any(is_internal(part) for part in parts)
            or inside in Excluded(self.wish.excludes)
            or not os.path.exists(target)
            or (is_directory and self.wish.name_of is not None)
        ):
            return None
        if is_directory and (_identity(target) in above or inside == os.curdir):
            raise Wrong("{path} is a link to a directory above it", path=path)
        return os.path.join(self.top, inside)

    def _member(self, path: str) -> str:
        name_of = self.wish.name_of or relative_path(self.top)
        return f"{self.prefix}/{name_of(path)}"

    def _time(self, status: os.stat_result) -> int:
        seconds = max(0, status.st_mtime_ns // NANOSECONDS)
        return seconds if self.wish.clamp_mtime is None else min(seconds, self.wish.clamp_mtime)


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return (status.st_dev, status.st_ino)
