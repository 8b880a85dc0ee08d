"""The names below a directory as JSON, in pieces: memory is bounded by a page, however large the directory.

Works on descriptors; never follows or enters a symbolic link, which is listed as a file. What readers may
not see (`layout.HIDDEN`) is left out, and so is a name that is not valid UTF-8: no client could ask for it.
A directory that holds nothing else counts as empty. A piece is what stands between the brackets of an array;
with the C extension (`_names.c`) no name becomes an object of Python.

Limits: order is by name within a page of 10,000 entries (so within every ordinary directory). One
descriptor stays open per level, so a tree deeper than some 900 levels cannot be listed recursively.
"""

import itertools
import os
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from types import ModuleType

import msgspec

from gobblerd.domain.names import INTERNAL_PREFIX, is_internal, is_utf8
from gobblerd.registry.layout import HIDDEN
from gobblerd.storage.files import READ_DIRECTORY, opened

PAGE = 10_000


Page = tuple[bytes, list[str]]  # names as a JSON array without its brackets; directories, in order


def _loaded() -> ModuleType | None:
    try:
        from gobblerd.registry import _names  # noqa: PLC0415 - optional, so not at the top
    except ImportError:
        return None
    return _names


NAMES = _loaded()
_HIDDEN = tuple(name.encode() for name in HIDDEN)


def names_in(fd: int) -> Iterator[bytes]:
    """Yield the names directly in the directory; those of directories end with `/`."""
    for names, _ in _pages(fd, "", deep=False):
        if names:
            yield names


def names_below(fd: int, prefix: str = "") -> Iterator[bytes]:
    """Yield the files at any depth below the directory, and the empty directories with a `/` at the end.

    Names are relative to where `prefix` ("" or ending with `/`) begins. A directory's files come before
    those of its subdirectories; one that vanishes meanwhile is left out.
    """
    empty = True
    for names, directories in _pages(fd, prefix, deep=True):
        if names:
            empty = False
            yield names
        for name in directories:
            empty = False
            yield from _names_of_child(fd, name, f"{prefix}{name}/")
    if empty and prefix:
        yield msgspec.json.encode(prefix)


def directories_in(path: str) -> list[str]:
    """Return the names of the directories in the one at an absolute path, in order; OSError.

    Left out is what can be no project, asset or version: links, internal names, and what is not UTF-8.
    """
    with opened(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as fd:
        found = [directories for _, directories in _pages(fd, "", deep=True)]
    names = found[0] if len(found) == 1 else sorted(itertools.chain.from_iterable(found))
    start = bisect_left(names, INTERNAL_PREFIX)  # in order, all internal names follow each other
    end = start
    while end < len(names) and is_internal(names[end]):
        end += 1
    del names[start:end]
    return names


def _names_of_child(fd: int, name: str, prefix: str) -> Iterator[bytes]:
    try:
        child = os.open(name, READ_DIRECTORY, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):  # deleted, or replaced, since it was listed
        return
    except PermissionError:  # another account's: the rest is listed, and of this that it is there
        yield msgspec.json.encode(prefix)
        return
    try:
        yield from names_below(child, prefix)
    finally:
        os.close(child)


def _pages(fd: int, prefix: str, *, deep: bool) -> Iterator[Page]:
    """Yield a page at a time; with `deep` directories are apart from the names, else among them."""
    if NAMES is not None:
        start, directory = prefix.encode(), NAMES.opened(fd)
        while (page := NAMES.next_page(directory, start, _HIDDEN, PAGE, deep)) is not None:
            yield page
        return
    for files, directories in _scanned(fd):
        names = files if deep else sorted([*files, *(name + "/" for name in directories)])
        text = msgspec.json.encode([prefix + name for name in names])[1:-1]
        yield text, directories if deep else []


def _scanned(fd: int) -> Iterator[tuple[list[str], list[str]]]:
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
    if not HIDDEN.isdisjoint(names) or not is_utf8("".join(names)):
        names = [name for name in names if name not in HIDDEN and is_utf8(name)]
    names.sort()
    return names
