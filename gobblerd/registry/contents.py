"""What lies in one directory of a version, as people want to see it: sizes, and where links go.

From the directory itself and its `..links`, so that a version of a million files costs no more than the
directory that is looked at. Opened beneath the registry as `Browser` opens everything.
"""

import os
import posixpath
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from gobblerd.domain.manifest import Link
from gobblerd.domain.names import is_internal
from gobblerd.registry import documents, layout
from gobblerd.registry.browse import Browser
from gobblerd.storage.files import READ_FILE, opened, read_all

_LINKS_MOST = 16 << 20  # bytes of a `..links` that is read


@dataclass(frozen=True, slots=True)
class Item:
    """A name in a directory: `size` in bytes (None for directories and what cannot be read).

    `link` is the file of the registry that it links to; `is_outside` says that it lies elsewhere.
    """

    name: str
    is_directory: bool
    size: int | None = None
    link: Link | None = None
    is_outside: bool = False


@dataclass(frozen=True, slots=True)
class Contents:
    """Some of the names in a directory, directories first, and how many there are in all."""

    total: int
    items: tuple[Item, ...]


def contents(browser: Browser, path: str, first: int, count: int) -> Contents:
    """Return `count` of the names in the directory `path` from the `first`; Wrong or Absent as `Browser`."""
    with browser.opened_directory(path) as fd:
        with os.scandir(fd) as entries:
            names = sorted(
                (not entry.is_dir(follow_symlinks=False), entry.name)
                for entry in entries
                if not is_internal(entry.name)
            )
        links = _links(fd)
        items = (_item(fd, name, links, is_directory=not file) for file, name in names[first : first + count])
        return Contents(len(names), tuple(items))


def _links(fd: int) -> Mapping[str, Link]:
    try:
        with opened(layout.LINKS, READ_FILE, dir_fd=fd) as links_fd:
            return documents.read_links(read_all(links_fd, _LINKS_MOST))
    except (OSError, documents.Unreadable):  # none, or one that validate_version reports
        return {}


def _item(fd: int, name: str, links: Mapping[str, Link], *, is_directory: bool) -> Item:
    if is_directory:
        return Item(name, is_directory=True)
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode) and posixpath.isabs(os.readlink(name, dir_fd=fd)):
            return Item(name, is_directory=False, is_outside=True)  # another filesystem, which may hang
        size = os.stat(name, dir_fd=fd).st_size
    except OSError:
        return Item(name, is_directory=False, link=links.get(name))
    return Item(name, is_directory=False, size=size, link=links.get(name))
