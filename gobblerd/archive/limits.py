"""How much an archive may hold."""

from dataclasses import dataclass

from gobblerd.archive.judged import Judged
from gobblerd.archive.members import DEPTH_MAX, PATH_MAX_BYTES
from gobblerd.archive.streams import WINDOW
from gobblerd.domain.errors import Exceeded, Plain

NAMES_MAX_BYTES = 512 << 20  # of all paths together: they are kept in memory
MEMBERS = 1_000_000
SIZE = 4 << 30


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """What is taken of one archive; 0 means no limit. Bytes for sizes, paths and zstd's window."""

    members: int = MEMBERS
    size: int = SIZE
    window: int = WINDOW
    path: int = PATH_MAX_BYTES
    depth: int = DEPTH_MAX
    remedy: str = ""  # how whoever asked can have a larger one all the same

    @classmethod
    def extracting(cls, *, allow_large: bool = False, members: int = MEMBERS) -> "ArchiveLimits":
        """Return what is extracted or looked at; `allow_large` lifts the limit of 4 GiB."""
        remedy = "; allow_large (--allow-large) takes it all the same"
        return cls(members=members, size=0 if allow_large else SIZE, remedy=remedy)


class Amount:
    """How much of the limits is used; `add` raises Exceeded with the member that is too much."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._limits = limits
        self.members = 0  # directories that are only lain in included
        self.size = 0
        self._names = 0

    def add(self, member: Judged, members: int) -> None:
        """Count a member before its bytes are read; `members` are all so far, it included."""
        limits, path = self._limits, member.path
        self.members = members
        self.size += member.size
        self._names += len(path) + len(member.target)
        if self._names > NAMES_MAX_BYTES:
            raise Exceeded(
                "the names in the archive are longer than {most} bytes, counted to {path}",
                most=NAMES_MAX_BYTES,
                path=path,
            )
        if limits.members and self.members > limits.members:
            raise Exceeded(
                "the archive holds more than {most} members; the first too many is {path}",
                most=limits.members,
                path=path,
            )
        if limits.size and self.size > limits.size:
            raise Exceeded(
                "the archive holds more than {most} bytes, counted to its member {path}{remedy}",
                most=limits.size,
                path=path,
                remedy=Plain(limits.remedy),
            )
        if limits.path and len(path) * 4 > limits.path and len(path.encode()) > limits.path:
            raise Exceeded("the path {path} is longer than {most} bytes", path=path, most=limits.path)
        above = path.count("/") + (member.kind == "directory")
        if limits.depth and above > limits.depth:
            raise Exceeded("{path} is nested deeper than {most} levels", path=path, most=limits.depth)
