"""What stands in the way of a rename although its directory may be written to; all of it needs root."""

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gobblerd.storage.attributes import IMMUTABLE
from gobblerd.storage.files import opened

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602  # FS_IOC_GETFLAGS, FS_IOC_SETFLAGS of ioctl_iflags(2)


@contextlib.contextmanager
def immutable(place: Path, flag: int = IMMUTABLE) -> Iterator[None]:
    """Let nobody, root included, move a file or a directory or change what is in it, wherever it is moved.

    With APPEND_ONLY what is there cannot be renamed or removed, but more can be added.
    """
    with opened(str(place), os.O_RDONLY) as fd:
        before = fcntl.ioctl(fd, _GET_FLAGS, bytes(8))
        flags = int.from_bytes(before, sys.byteorder) | flag
        try:
            fcntl.ioctl(fd, _SET_FLAGS, flags.to_bytes(8, sys.byteorder))
        except OSError as error:
            pytest.skip(f"NOT TESTED: nothing can be made immutable here: {error.strerror}")
        try:
            yield
        finally:
            fcntl.ioctl(fd, _SET_FLAGS, before)


@contextlib.contextmanager
def mounted(place: Path) -> Iterator[None]:
    """Have a mount point where a file or a directory is, with what is in it: a bind mount of itself."""
    subprocess.run(["mount", "--bind", place, place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)
