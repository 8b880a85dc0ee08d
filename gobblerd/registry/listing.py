"""The names below a directory, in batches: memory is bounded by a page, however large the directory.

Works on descriptors; never follows or enters a symbolic link, which is listed as a file. What readers may
not see (`layout.HIDDEN`) is left out, and so is a name that is not valid UTF-8: no client could ask for it.
A directory that holds nothing else counts as empty.

Limits: order is by name within a page of 10,000 entries (so within every ordinary directory). One
descriptor stays open per level, so a tree deeper than some 900 levels cannot be listed recursively.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import islice

from gobblerd.registry.layout import HIDDEN
from gobblerd.storage.files import READ_DIRECTORY

PAGE = 10_000


def names_in(fd: int) -> Iterator[list[str]]:
    """Yield the names directly in the directory; those of directories end with `/`."""
    for files, directories in _pages(fd):
        yield sorted([*files, *(name + "/" for name in directories)])


def names_below(fd: int, prefix: str = "") -> Iterator[list[str]]:
    """Yield the files at any depth below the directory, and the empty directories with a `/` at the end.

    Names are relative to where `prefix` ("" or ending with `/`) begins. A directory's files come before
    those of its subdirectories; one that vanishes meanwhile is left out.
    """
    for files, directories in _pages(fd):
        yield [prefix + name for name in files]
        for name in directories:
            yield from _names_of_child(fd, name, f"{prefix}{name}/")


def _names_of_child(fd: int, name: str, prefix: str) -> Iterator[list[str]]:
    try:
        child = os.open(name, READ_DIRECTORY, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):  # deleted, or replaced, since it was listed
        return
    try:
        empty = True
        for batch in names_below(child, prefix):
            empty = False
            yield batch
        if empty:
            yield [prefix]
    finally:
        os.close(child)


def _pages(fd: int) -> Iterator[tuple[list[str], list[str]]]:
    """Yield the names of files and of directories, sorted, a page at a time; no page without a name."""
    with os.scandir(fd) as entries:
        while page := list(islice(entries, PAGE)):
            files: list[str] = []
            directories: list[str] = []
            for entry in page:
                (directories if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
            del page  # it would live as long as a slow reader takes over this page's subdirectories
            files, directories = _visible(files), _visible(directories)
            if files or directories:
                yield files, directories


def _visible(names: list[str]) -> list[str]:
    """Return the names that readers may see, sorted."""
    if not HIDDEN.isdisjoint(names) or not _is_text(names):
        names = [name for name in names if name not in HIDDEN and _is_text((name,))]
    names.sort()
    return names


def _is_text(names: Sequence[str]) -> bool:
    """Tell whether all the names are valid UTF-8 on disk."""
    joined = "".join(names)
    if joined.isascii():
        return True
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return True
