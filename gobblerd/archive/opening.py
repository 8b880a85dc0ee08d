"""Opening an archive of one's own by its path, with its receipt."""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.archive.receipt import Receipt, load_receipt, receipt_path
from gobblerd.domain.errors import Absent, Invalid, Wrong

_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Opened:
    """An archive that is open, the name of its file, and its receipt if there is one."""

    fd: int
    name: str
    receipt: Receipt | None


@contextlib.contextmanager
def opened_archive(
    archive: str | os.PathLike[str],
    receipt: str | os.PathLike[str] | None,
    *,
    require_sha256: bool = False,
) -> Iterator[Opened]:
    """Open an archive; Absent if there is none, Wrong if it is no file, Invalid if its receipt is none."""
    path = os.fspath(archive)
    found = _receipt(path, receipt)
    if found is None and require_sha256:
        raise Invalid(
            "{path} has no receipt, so that there is nothing to check its checksum against", path=path
        )
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise Absent("there is no archive {path}", path=path) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Wrong("{path} is not a file", path=path)
        yield Opened(fd, os.path.basename(path), found)
    finally:
        os.close(fd)


def _receipt(archive: str, receipt: str | os.PathLike[str] | None) -> Receipt | None:
    if receipt is not None:
        return load_receipt(receipt)
    try:
        return load_receipt(receipt_path(archive))
    except FileNotFoundError:
        return None
