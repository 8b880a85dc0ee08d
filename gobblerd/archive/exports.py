"""The export directory: where requests have archives written, for everyone to read and for a while.

Its archives are known by their receipts. What has none, or a name that can be read in several ways, is
somebody's own file, and is never removed.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.archive.formats import format_of
from gobblerd.archive.naming import DEFAULT_TEMPLATE
from gobblerd.archive.receipt import RECEIPT_SUFFIX, Receipt, load_receipt, receipt_path
from gobblerd.archive.writing import is_temporary, remove_abandoned
from gobblerd.domain.errors import Exceeded, Fault, GobblerdError, Plain, Wrong
from gobblerd.domain.where import FULL


@dataclass(frozen=True, slots=True)
class ExportPolicy:
    """The part of the configuration that exports go by.

    `directory` is "" where exports are off; `max_bytes` bounds all that lies in it, 0 is no bound.
    """

    directory: str = ""
    max_bytes: int = 0
    name_template: str = DEFAULT_TEMPLATE


@dataclass(frozen=True, slots=True)
class Found:
    """An archive in a directory; `receipt` is None where there is none that can be read.

    Size in bytes, of the archive alone; `mtime_ns` is when it was written.
    """

    path: str
    size: int
    mtime_ns: int
    inode: int
    receipt: Receipt | None

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)


def archives_in(directory: str) -> Iterator[Found]:
    """Yield the archives directly in a directory, by name; links, receipts and unfinished files are none."""
    with os.scandir(directory) as entries:
        files = sorted((e for e in entries if e.is_file(follow_symlinks=False)), key=lambda e: e.name)
    for entry in files:
        if format_of(entry.name) is None or is_temporary(entry.name):
            continue
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        yield Found(entry.path, status.st_size, status.st_mtime_ns, status.st_ino, receipt_beside(entry.path))


def receipt_beside(path: str) -> Receipt | None:
    """Return the receipt of the archive at `path`, None where there is none that can be read."""
    try:
        receipt = load_receipt(receipt_path(path))
    except (GobblerdError, OSError):
        return None
    return receipt if receipt.name == os.path.basename(path) else None


def orphans_in(directory: str, before_ns: int) -> Iterator[str]:
    """Yield receipts without their archives that are older than `before_ns`: a crash came between."""
    with os.scandir(directory) as entries:
        for entry in entries:
            archive = entry.path.removesuffix(RECEIPT_SUFFIX)
            if archive == entry.path or format_of(archive) is None or os.path.lexists(archive):
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(status.st_mode) and status.st_mtime_ns < before_ns:
                yield entry.path


def check_export(policy: ExportPolicy, size: int) -> None:
    """Refuse an export of `size` bytes: Wrong if exports are off, Exceeded if there is no room.

    What a daemon left that was killed in the middle is removed before it is said that there is none.
    Fault if the directory is not there.
    """
    if not policy.directory:
        raise Wrong("this service writes no archives: its administrator has not set export_directory")
    if not os.path.isdir(policy.directory):
        raise explained(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)))
    if not policy.max_bytes:
        return
    used = _used(policy.directory)
    if used + size > policy.max_bytes and remove_abandoned(policy.directory):
        used = _used(policy.directory)
    if used + size > policy.max_bytes:
        raise Exceeded(
            "there is no room for the archive: {used} of {most} bytes of the export directory are used, and "
            "up to {size} are needed",
            used=used,
            most=policy.max_bytes,
            size=size,
        )


def _used(directory: str) -> int:
    with os.scandir(directory) as entries:
        return sum(entry.stat(follow_symlinks=False).st_size for entry in entries)


def explained(error: OSError) -> Fault:
    """Return what to answer where the export directory cannot be written."""
    if error.errno in FULL:
        return Fault("the export directory is full: {why}", why=Plain(error.strerror or ""))
    return Fault("the export directory cannot be used: {why}", why=Plain(error.strerror or str(error)))
