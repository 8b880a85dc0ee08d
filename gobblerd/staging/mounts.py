"""Which filesystem a directory lies on, and whether the kernel tells us of every write to it.

Source: proc(5), /proc/self/mountinfo. Only types known to be local count as local: an unknown one may be
written to by another node, and looking too often costs less than never noticing.
"""

import os
from dataclasses import dataclass

_LOCAL = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "overlay"}
    | {"ramfs", "reiserfs", "tmpfs", "xfs", "zfs"}
)
_STACKED = frozenset({"overlay"})  # its inodes and handles are not its own
_OCTAL_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Filesystem:
    """The filesystem below a path: type and options as in mountinfo, "unknown" where that does not tell."""

    type: str
    options: frozenset[str] = frozenset()

    @property
    def is_local(self) -> bool:
        """Tell whether only this machine writes to it, so that events are complete."""
        return self.type in _LOCAL

    @property
    def has_generations(self) -> bool:
        """Tell whether a file handle there names one inode for ever, also when its number is reused."""
        return self.is_local and self.type not in _STACKED


def filesystem_of(path: str, mountinfo: str = "/proc/self/mountinfo") -> Filesystem:
    """Return the filesystem that `path` lies on."""
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as lines:
            mounts = [_mount(line) for line in lines]
    except OSError:
        return Filesystem("unknown")
    real = os.path.realpath(path)
    covering = [(len(point), at) for at, (point, _) in enumerate(mounts) if _covers(point, real)]
    return mounts[max(covering)[1]][1] if covering else Filesystem("unknown")  # the last hides its equals


def _mount(line: str) -> tuple[str, Filesystem]:
    fields, _, tail = line.rstrip("\n").partition(" - ")
    _, _, _, _, point, options, *_ = fields.split(" ")
    kind, _, above, *_ = (*tail.split(" "), "", "")
    return _unescaped(point), Filesystem(kind, frozenset((*options.split(","), *above.split(","))))


def _covers(point: str, path: str) -> bool:
    return point in {"/", path} or path.startswith(point + "/")


def _unescaped(text: str) -> str:
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:_OCTAL_DIGITS], 8)) + part[_OCTAL_DIGITS:] for part in rest)
