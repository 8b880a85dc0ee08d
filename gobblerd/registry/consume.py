"""Unlinking the source files whose bytes a committed upload stored (spec/requests.md, `consume`).

Best effort, relative to held descriptors, and only where the file is still the one that was read. The list
lies in the transaction's directory, so that after a crash the daemon of this staging directory finishes it.

Known limit: of several hard links to one file in a source only the first goes, since that changes its ctime.
"""

import contextlib
import itertools
import os
import posixpath
from collections.abc import Mapping

import msgspec

from gobblerd.registry.source import Stamp
from gobblerd.storage.batches import unlink_files
from gobblerd.storage.files import READ_DIRECTORY, opened

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
    for directory, paths in itertools.groupby(stored, key=posixpath.dirname):
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            fd = source_fd
            for part in directory.split("/") if directory else ():
                fd = stack.enter_context(opened(part, READ_DIRECTORY, dir_fd=fd))
            unlink_files(fd, [(posixpath.basename(path), stored[path].raw) for path in paths])
