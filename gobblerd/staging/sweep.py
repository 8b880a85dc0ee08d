"""Listing the staging directory: the truth that events only hint at. Opens no file.

What is known already, by name, inode, mtime and size, costs one lstat.
"""

from typing import Protocol

from gobblerd.domain.messages import REQUEST_PREFIX, Identity
from gobblerd.staging.directory import Staging
from gobblerd.staging.look import Hint


class Desk(Protocol):
    """Where names are offered: the spool."""

    def knows(self, identity: Identity) -> bool:
        """Tell whether the request is answered, queued, running or waited for."""
        ...

    def has_room(self, uid: int) -> bool:
        """Tell whether a request of this user can be queued; if not, remember that some lie there."""
        ...

    def offer(self, name: str, hint: Hint) -> None:
        """Look at the file."""
        ...


def sweep(staging: Staging, desk: Desk) -> int:
    """Offer every request file that is not known, oldest first; return how many. OSError."""
    found = sorted(_unknown(staging, desk))
    full: set[int] = set()  # who found no room; their later files must not get in before
    for _, name, uid in found:
        if uid not in full and desk.has_room(uid):
            desk.offer(name, Hint.SWEPT)
        else:
            full.add(uid)
    return len(found)


def _unknown(staging: Staging, desk: Desk) -> list[tuple[int, str, int]]:
    found = []
    with staging.entries() as entries:
        for entry in entries:
            if not entry.name.startswith(REQUEST_PREFIX):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):  # somebody's upload directory
                    continue
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            identity = Identity(entry.name, status.st_ino, status.st_mtime_ns, status.st_size)
            if not desk.knows(identity):
                found.append((status.st_ctime_ns, entry.name, status.st_uid))
    return found
