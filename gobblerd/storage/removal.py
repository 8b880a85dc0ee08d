"""Removing a tree, of our own or one that others may be changing; no link is followed.

`shutil.rmtree` recurses with a descriptor per level, so a tree of 100,000 levels defeats it. Where that may
be, each directory found is first moved up into the top one under a new name, which keeps the tree two levels
deep and takes three descriptors.
Limit: what takes more than a minute, or is filled as fast as it is removed, is left to the next time.
"""

import contextlib
import errno
import itertools
import math
import os
import shutil
import stat
import time
from collections.abc import Iterator

from gobblerd.storage.files import READ_DIRECTORY, opened

_SECONDS_MOST = 60.0


def last_touched(path: str) -> int | None:
    """Return the newest ctime in a tree, in nanoseconds; None if it is gone.

    Its own would not do: what takes long to write touches only the depths.
    """
    try:
        newest = os.lstat(path).st_ctime_ns
    except FileNotFoundError:
        return None
    for directory, _, names in os.walk(path):
        for name in (".", *names):
            with contextlib.suppress(OSError):  # gone, or in a directory that may be listed and no more
                newest = max(newest, os.lstat(f"{directory}/{name}").st_ctime_ns)
    return newest


def remove_tree(path: str) -> None:
    """Remove whatever is at `path` in a directory of our own, if anything is."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        with contextlib.suppress(OSError):  # as most of ours are: empty
            os.rmdir(path)
            return
        try:
            shutil.rmtree(path)
        except RecursionError:
            with opened(os.path.dirname(path), READ_DIRECTORY) as dir_fd:
                remove_tree_beneath(dir_fd, os.path.basename(path), seconds=math.inf)
    except FileNotFoundError:
        pass


def remove_tree_beneath(dir_fd: int, name: str, seconds: float | None = None) -> None:
    """Remove the directory `name` in `dir_fd`. OSError if something in it could not be removed."""
    with opened(name, READ_DIRECTORY, dir_fd=dir_fd) as top:
        _empty(top, time.monotonic() + (_SECONDS_MOST if seconds is None else seconds))
    os.rmdir(name, dir_fd=dir_fd)


def _empty(top: int, deadline: float) -> None:
    fresh = (f".gobblerd-purged-{number}" for number in itertools.count())
    while directories := _remove_files(top):
        for name in directories:
            if time.monotonic() > deadline:
                raise OSError(errno.EBUSY, "not all could be removed in a minute; it goes on next time")
            _flatten(top, name, fresh)


def _flatten(top: int, name: str, fresh: Iterator[str]) -> None:
    """Remove a directory in `top`; the directories in it are moved up into `top`."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        with opened(name, READ_DIRECTORY, dir_fd=top) as fd:
            for child in _remove_files(fd):
                with contextlib.suppress(FileNotFoundError):
                    _move_up(fd, child, top, fresh)
        os.rmdir(name, dir_fd=top)


def _move_up(fd: int, child: str, top: int, fresh: Iterator[str]) -> None:
    for name in fresh:  # pragma: no branch
        if not _is_there(top, name):
            os.rename(child, name, src_dir_fd=fd, dst_dir_fd=top)
            return


def _is_there(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove_files(fd: int) -> list[str]:
    """Unlink all that is no directory, and return the names of the directories."""
    with opened(".", READ_DIRECTORY, dir_fd=fd) as listing, os.scandir(listing) as entries:
        names = [entry.name for entry in entries]
    directories = []
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                directories.append(name)
            else:
                os.unlink(name, dir_fd=fd)
    return directories
