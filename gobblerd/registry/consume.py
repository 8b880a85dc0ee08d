"""Unlinking the source files whose bytes a committed upload stored (spec/requests.md, `consume`).

Best effort, relative to held descriptors, and only where the file is still the one that was read. The list
lies in the transaction's directory, so that after a crash the daemon of this staging directory finishes it.

Known limit: of several hard links to one file in a source only the first goes, since that changes its ctime.
"""

import collections
import contextlib
import os
from collections.abc import Iterator, Mapping
from functools import partial

import msgspec

from gobblerd.registry.crew import Crew, Desk, work_here
from gobblerd.registry.source import Stamp
from gobblerd.storage.batches import RawStamp, unlink_files
from gobblerd.storage.files import READ_DIRECTORY, opened

_FEW = 32  # files for which no thread is started
_FILES = 256  # that are unlinked in one go,
_BYTES = 256 << 20  # if they have no more: what the page cache has of them goes too
_Part = tuple[str, list[tuple[str, RawStamp]]]  # a directory, names and stamps
_LISTING = msgspec.json.Decoder(dict[str, Stamp])


def listing_bytes(stored: Mapping[str, Stamp]) -> bytes:
    """Return the list of files to be unlinked, as it is kept with the transaction."""
    return msgspec.json.encode(dict(stored))


def consume_listed(staging_fd: int, source: str, inode: int, listing: str) -> None:
    """Unlink what a listing names below a source directory of staging, if it is still that directory."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        with open(listing, "rb") as file:
            stored = _LISTING.decode(file.read())
        with opened(source, READ_DIRECTORY, dir_fd=staging_fd) as fd:
            if os.fstat(fd).st_ino == inode:
                consume(fd, stored)


def consume(source_fd: int, stored: Mapping[str, Stamp]) -> None:
    """Unlink each stored file that still has its inode, size, mtime and ctime; failing is no error."""
    tasks = (partial(_consume_some, source_fd, part) for part in _parts(stored))
    unlinking = work_here(tasks, 0, _untold) if len(stored) <= _FEW else Crew(tasks, 0).work(_untold)
    collections.deque(unlinking, maxlen=0)  # it yields nothing: there is nothing to tell


def _untold(_: int) -> None:
    """Tell nobody: a committed upload is not cancelled any more."""


def _parts(stored: Mapping[str, Stamp]) -> Iterator[_Part]:
    """Cut the list into parts of one directory each, that take about as long as one another."""
    directory, files, size = "", list[tuple[str, RawStamp]](), 0
    for path, stamp in stored.items():
        above, _, name = path.rpartition("/")
        if files and (above != directory or len(files) == _FILES or size >= _BYTES):
            yield directory, files
            files, size = [], 0
        directory = above
        files.append((name, stamp.raw))
        size += stamp.size
    if files:
        yield directory, files


def _consume_some(source_fd: int, part: _Part, _: Desk) -> Iterator[list[None]]:
    directory, files = part
    with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
        fd = source_fd
        for name in directory.split("/") if directory else ():
            fd = stack.enter_context(opened(name, READ_DIRECTORY, dir_fd=fd))
        unlink_files(fd, files)
    yield []
