"""Taking an archive out into a directory: all of it, checked, or nothing.

It is read once to see whether it would be refused and whether there is room, and once more to write it into
a directory of its own beside the target, which then takes the target's place by one rename.
"""

import os
import stat
from dataclasses import dataclass

from gobblerd.archive.content import Content
from gobblerd.archive.judged import Judged
from gobblerd.archive.limits import MEMBERS, ArchiveLimits
from gobblerd.archive.opening import opened_archive
from gobblerd.archive.reader import Reading
from gobblerd.archive.source import ArchiveFile, Progress, silent
from gobblerd.archive.verify import Checks, digest_problems, require_sound
from gobblerd.archive.writing import permitted, temporary_directory
from gobblerd.domain.errors import Exceeded, Plain, Wrong
from gobblerd.storage.files import write_all

RESERVE = 64 << 20  # bytes that are left free
RESERVED_INODES = 1_000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was extracted: where to, how many files, how many bytes."""

    path: str
    files: int
    size: int


def extract_archive(
    archive: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    receipt: str | os.PathLike[str] | None = None,
    require_sha256: bool = False,
    allow_large: bool = False,
    max_members: int = MEMBERS,
    reserve: int = RESERVE,
    progress: Progress = silent,
) -> Extracted:
    """Extract an archive into the directory `target`, which must not exist, or be empty.

    It is checked on the way as `verify_archive` does. Unsafe, Damaged, Exceeded (the member is named), or
    Invalid where it is not what receipt and `..manifest` say: nothing is left then, nor after Ctrl-C.
    `allow_large` lifts the limit of 4 GiB; so many bytes (`reserve`) must stay free. With `require_sha256` an
    archive without a receipt is refused. `progress` is told of bytes read, of all passes together.
    """
    where = os.path.abspath(target)
    _require_free(where)
    limits = ArchiveLimits.extracting(allow_large=allow_large, members=max_members)
    with opened_archive(archive, receipt, require_sha256=require_sha256) as opened:
        passes = _Passes(progress, 2 if opened.receipt is None else 3)
        if opened.receipt is not None:
            require_sound(list(digest_problems(opened.fd, opened.name, opened.receipt, passes.next())))
        looked = _looked_through(opened.fd, limits, passes.next())
        parent = os.path.dirname(where)
        with temporary_directory(parent) as staging:  # what a killed one left goes before there must be room
            _require_room(parent, looked, reserve)
            checks = Checks(opened.receipt)
            writing = _Writing(f"{staging}/content", checks)
            reading = Reading(ArchiveFile(opened.fd, passes.next()), limits)
            for member, content in reading.members():
                writing.add(member, content)
            require_sound(list(checks.problems(reading.names)))
            writing.finish()
            _publish(f"{staging}/content", where)
        return Extracted(where, looked.files, looked.size)


class _Passes:
    """One bar for an archive that is read several times."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress = progress
        self._count = count
        self._begun = 0

    def next(self) -> Progress:
        """Return what is to be told of the next pass."""
        before, self._begun = self._begun, self._begun + 1

        def tell(done: int, total: int) -> None:
            self._progress(before * total + done, self._count * total)

        return tell


# -- before ----------------------------------------------------------------------------------------------


@dataclass
class _Looked:
    """What an archive would take. Size in bytes; `occupied` is rounded up to blocks of 4 KiB."""

    files: int = 0
    inodes: int = 0
    size: int = 0
    occupied: int = 0


def _looked_through(fd: int, limits: ArchiveLimits, progress: Progress) -> _Looked:
    looked = _Looked()
    reading = Reading(ArchiveFile(fd, progress), limits)
    for member, _ in reading.members():
        looked.files += member.kind == "file"
        looked.size += member.size
        looked.occupied += -(-member.size // 4096) * 4096
    looked.inodes = len(reading.names.names)
    return looked


def _require_free(target: str) -> None:
    """Raise Wrong unless there is nothing at the target, or an empty directory."""
    try:
        if not stat.S_ISDIR(os.lstat(target).st_mode) or os.listdir(target):
            raise Wrong("{target} is there already, and is not an empty directory", target=target)
    except FileNotFoundError:
        if not os.path.isdir(os.path.dirname(target)):
            raise Wrong(
                "there is no directory {parent} to extract into", parent=os.path.dirname(target)
            ) from None


def _require_room(parent: str, looked: _Looked, reserve: int) -> None:
    """Raise Exceeded unless bytes and inodes suffice, with something left for others."""
    found = os.statvfs(parent)
    free = found.f_bavail * found.f_frsize
    if looked.occupied + reserve > free:
        raise Exceeded(
            "the archive needs {needed} bytes, {reserve} are to stay free, and {free} are free in {parent}",
            needed=looked.occupied,
            reserve=reserve,
            free=free,
            parent=parent,
        )
    if found.f_files and looked.inodes + RESERVED_INODES > found.f_favail:
        raise Exceeded(
            "the archive needs {needed} files and directories, {parent} has room for {free}",
            needed=looked.inodes,
            free=found.f_favail,
            parent=parent,
        )


# -- writing ---------------------------------------------------------------------------------------------


class _Writing:
    """Members on their way below `root`. Links are made last, so that nothing is ever written through one."""

    def __init__(self, root: str, checks: Checks) -> None:
        self._root = root
        self._checks = checks
        self._directories: dict[str, Judged | None] = {"": None}
        self._links: list[Judged] = []
        self._permitted = permitted(0o777)
        os.mkdir(root, 0o755)

    def add(self, member: Judged, content: Content) -> None:
        """Write a member."""
        path = f"{self._root}/{member.path}"
        if member.kind == "directory":
            self._make(member.path)
            self._directories[member.path] = member
        else:
            self._make(member.path.rpartition("/")[0])
        if member.kind != "file":
            self._links += [member] if member.kind == "link" else []
            self._checks.add(member, content, lambda _: None)
            return
        fd = os.open(path, _CREATE, 0o600)
        try:
            self._checks.add(member, content, lambda piece: write_all(fd, piece))
            os.fchmod(fd, member.mode & self._permitted)
            os.utime(fd, (member.mtime, member.mtime))
        finally:
            os.close(fd)

    def _make(self, path: str) -> None:
        missing = []
        while path not in self._directories:
            missing.append(path)
            path = path.rpartition("/")[0]
        for each in reversed(missing):
            os.mkdir(f"{self._root}/{each}", 0o700)
            self._directories[each] = None

    def finish(self) -> None:
        """Make the links, and give directories the modes and times that writing into them would change."""
        for link in self._links:
            os.symlink(link.target, f"{self._root}/{link.path}")
            os.utime(f"{self._root}/{link.path}", (link.mtime, link.mtime), follow_symlinks=False)
        for path, member in reversed(self._directories.items()):
            full = f"{self._root}/{path}" if path else self._root
            os.chmod(full, (member.mode if member else 0o755) & self._permitted)
            if member:
                os.utime(full, (member.mtime, member.mtime))


def _publish(content: str, target: str) -> None:
    """Put what was extracted in its place, where by now somebody else may have put something."""
    try:
        os.rename(content, target)
    except OSError as error:
        raise Wrong(
            "{target} could not be put in its place: {error}",
            target=target,
            error=Plain(error.strerror or "it failed"),
        ) from None
