"""An archive file that a user drops into staging to be uploaded: opened once, and judged by its descriptor.

The staging directory is hostile (see `registry/source.py`): nothing is followed, nothing blocks, and the
bytes that become a version are those that come from this descriptor, hashed as they are written.
"""

import errno
import os
import stat
from dataclasses import dataclass

from gobblerd.archive.receipt import MAX_BYTES, Receipt, read_receipt, receipt_path
from gobblerd.domain.errors import Exceeded, Forbidden, Invalid, Plain, Wrong
from gobblerd.registry.source import Reader, Stamp
from gobblerd.storage.files import READ_FILE, opened, read_all

_NO_FILE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG})


@dataclass(frozen=True, slots=True)
class Dropped:
    """An opened archive, its name in staging, and its receipt if one lies beside it."""

    fd: int
    name: str
    reader: Reader
    stamp: Stamp
    receipt: Receipt | None


def open_dropped(staging_fd: int, name: str, reader: Reader) -> Dropped:
    """Open the archive `name` directly inside the staging directory; the caller closes `fd`.

    Wrong where it, or its receipt, cannot be used; Forbidden where the requester does not own it.
    """
    fd = _opened(staging_fd, name)
    try:
        _judge(fd, name, reader)
        return Dropped(fd, name, reader, Stamp.of(os.fstat(fd)), _receipt(staging_fd, name, reader))
    except BaseException:
        os.close(fd)
        raise


def _opened(staging_fd: int, name: str) -> int:
    try:
        return os.open(name, READ_FILE, dir_fd=staging_fd)
    except PermissionError:
        raise Wrong("the service account may not read {source}; try chmod a+r", source=name) from None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        raise Wrong(
            "the source {source} is neither a directory nor an archive file in staging", source=name
        ) from None


def _judge(fd: int, name: str, reader: Reader) -> None:
    """Raise unless the descriptor is of a regular file of the requester's own, with no other name."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise Wrong("the source {source} is neither a directory nor an archive file", source=name)
    if status.st_uid != reader.uid:
        raise Forbidden("the source {source} is not owned by the requester", source=name)
    if status.st_nlink != 1:
        raise Wrong("the source {source} has more than one hard link", source=name)


def _receipt(staging_fd: int, archive: str, reader: Reader) -> Receipt | None:
    """Read the receipt beside an archive, as the archive itself is read; None if there is none."""
    name = receipt_path(archive)
    try:
        with opened(name, READ_FILE, dir_fd=staging_fd) as fd:
            _judge(fd, name, reader)
            data = read_all(fd, MAX_BYTES)
    except FileNotFoundError:
        return None
    except PermissionError:
        raise Wrong("the service account may not read {source}; try chmod a+r", source=name) from None
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise _no_receipt(name, "it is not a regular file") from None
    if len(data) > MAX_BYTES:
        raise Exceeded("the receipt {name} is larger than {most} bytes", name=name, most=MAX_BYTES)
    try:
        return read_receipt(data)
    except Invalid as error:
        raise _no_receipt(name, error.reason) from None


def _no_receipt(name: str, why: str) -> Wrong:
    return Wrong("{name} cannot be the archive's receipt: {error}", name=name, error=Plain(why))
