"""Names of projects, assets and versions, and addresses made of them (spec/registry.md, "Layout")."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.domain.errors import Wrong

NAME_MAX_BYTES = 255
INTERNAL_PREFIX = ".."  # names that begin so are the registry's own


def is_internal(name: str) -> bool:
    """Tell whether a file or directory of this name is internal, never a user's."""
    return name.startswith(INTERNAL_PREFIX)


def is_utf8(text: str) -> bool:
    """Tell whether a text holds no undecodable bytes (they are unpaired surrogates in it)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _flaw_of_any_name(name: str) -> str | None:
    """Return what makes a name unusable even for something that exists already, or None."""
    if not name:
        return "it is empty"
    if name == ".":
        return 'it is "."'
    if is_internal(name):
        return 'it begins with ".."'
    if "/" in name or "\0" in name:
        return 'it contains "/" or NUL'
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    return f"it is longer than {NAME_MAX_BYTES} bytes" if size > NAME_MAX_BYTES else None


def flaw_of_name(name: str) -> str | None:
    """Return what breaks the rules for a new name, or None."""
    flaw = _flaw_of_any_name(name)
    if flaw is None and "\\" in name:
        flaw = "it contains a backslash"
    if flaw is None and any(unicodedata.category(c) == "Cc" for c in name):
        flaw = "it contains a control character"
    return flaw


def is_readable_name(name: str) -> bool:
    """Tell whether a name found on disk can be a project, asset or version (older rules included)."""
    return _flaw_of_any_name(name) is None


def check_name(what: str, name: str) -> str:
    """Return `name` if it may be given to something new; else raise Wrong naming `what` and the flaw."""
    if flaw := flaw_of_name(name):
        raise Wrong(f"invalid {what} name {{name}}: {flaw}", name=name)
    return name


def check_existing_name(what: str, name: str) -> str:
    """Return `name` if something that exists may bear it; else raise Wrong.

    Names made before the newer rules (backslash, control characters) stay readable and deletable.
    """
    if flaw := _flaw_of_any_name(name):
        raise Wrong(f"invalid {what} name {{name}}: {flaw}", name=name)
    return name


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A place in the registry: the root, a project, an asset or a version; "" where it ends."""

    project: str = ""
    asset: str = ""
    version: str = ""

    def __iter__(self) -> Iterator[str]:
        """Yield the names that are there, outermost first."""
        return filter(None, (self.project, self.asset, self.version))

    def __str__(self) -> str:
        """Return the path relative to the registry, `project/asset/version`."""
        return "/".join(self)

    @property
    def level(self) -> str:
        """What this is an address of: registry, project, asset or version."""
        return ("registry", "project", "asset", "version")[sum(1 for _ in self)]

    def of_project(self) -> "Address":
        """Return the address of this place's project."""
        return Address(self.project)

    def of_asset(self) -> "Address":
        """Return the address of this place's asset."""
        return Address(self.project, self.asset)

    def child(self, name: str) -> "Address":
        """Return the address of what is called `name` directly below this place."""
        if not self.project:
            return Address(name)
        return Address(self.project, self.asset, name) if self.asset else Address(self.project, name)


ROOT = Address()
