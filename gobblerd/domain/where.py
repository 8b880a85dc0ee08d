"""Where writing failed, in a word that its user knows: what an OSError names, or does not."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def written_in(directory: str) -> Iterator[None]:
    """Have an error that tells of no room, and of no file, name the directory that is written in.

    The kernel says that a disk or a quota is full, and not which one.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = directory
        raise


@contextmanager
def made_in(directory: str) -> Iterator[None]:
    """Have what cannot be made in a directory name that one: nobody knows a temporary name."""
    try:
        yield
    except OSError as error:
        error.filename = directory
        raise
