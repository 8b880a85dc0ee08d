"""A version's manifest: what its files are and which of them are links (spec/registry.md, "..manifest")."""

from collections.abc import Mapping
from dataclasses import dataclass

from gobblerd.domain.names import Address


@dataclass(frozen=True, slots=True, order=True)
class FileAddress:
    """A file of a version; `path` is relative to the version directory."""

    project: str
    asset: str
    version: str
    path: str

    @classmethod
    def of(cls, version: Address, path: str) -> "FileAddress":
        """Make the address of `path` in a version."""
        return cls(version.project, version.asset, version.version, path)

    @property
    def place(self) -> Address:
        """The version that holds the file."""
        return Address(self.project, self.asset, self.version)

    def __str__(self) -> str:
        """Return the path relative to the registry."""
        return f"{self.project}/{self.asset}/{self.version}/{self.path}"


@dataclass(frozen=True, slots=True)
class Link:
    """The file that an entry links to (its parent), and the real file at the end of the chain.

    `ancestor` is None when the parent is itself the real file.
    """

    project: str
    asset: str
    version: str
    path: str
    ancestor: FileAddress | None = None

    @property
    def parent(self) -> FileAddress:
        """The file that is linked to."""
        return FileAddress(self.project, self.asset, self.version, self.path)

    @property
    def target(self) -> FileAddress:
        """Where the symbolic link on disk goes: the ancestor if there is one, else the parent."""
        return self.ancestor or self.parent

    @classmethod
    def to(cls, parent: FileAddress, ancestor: FileAddress | None = None) -> "Link":
        """Make the link to `parent`; an ancestor that is the parent itself is none."""
        return cls(
            parent.project,
            parent.asset,
            parent.version,
            parent.path,
            None if ancestor == parent else ancestor,
        )


@dataclass(frozen=True, slots=True, init=False)
class Entry:
    """One path of a manifest. Size in bytes; `md5sum` in lower case, "" for an empty directory."""

    size: int = 0
    md5sum: str = ""
    link: Link | None = None

    def __init__(self, size: int = 0, md5sum: str = "", link: Link | None = None) -> None:
        """Do what a frozen dataclass's own does in twice the time: there may be a million."""
        _set_size(self, size)
        _set_md5sum(self, md5sum)
        _set_link(self, link)

    @property
    def is_directory(self) -> bool:
        """Tell whether this is an empty directory."""
        return self.link is None and not self.md5sum and self.size == 0


_set_size, _set_md5sum, _set_link = (Entry.__dict__[name].__set__ for name in ("size", "md5sum", "link"))
Manifest = Mapping[str, Entry]


def stored_bytes(manifest: Manifest) -> int:
    """Return the bytes that a version adds to its project's usage: every entry without a link."""
    return sum(entry.size for entry in manifest.values() if entry.link is None)


def link_to(file: FileAddress, entry: Entry) -> Link:
    """Make the link to `file`, whose own manifest entry is `entry`."""
    ancestor = entry.link.target if entry.link else None
    if ancestor == file:
        ancestor = None
    return Link(file.project, file.asset, file.version, file.path, ancestor)


def links_by_directory(manifest: Manifest) -> dict[str, dict[str, Link]]:
    """Return what each `..links` file holds: directory ("" for the top) -> file name -> link."""
    found: dict[str, dict[str, Link]] = {}
    for path, entry in manifest.items():
        if entry.link is not None:
            directory, _, name = path.rpartition("/")
            found.setdefault(directory, {})[name] = entry.link
    return found
