"""The registry that a Go service (0.5.0) wrote, and the exchanges that made it (tests/data/corpus).

The corpus names the users alice, bob and carol, and the paths REGISTRY, STAGING and WHITELISTED.
"""

import json
import os
import tarfile
from typing import Any, NamedTuple

DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "corpus")
WHITELISTED_FILE = "big.bin"
WHITELISTED_BYTES = b"whitelisted\n"
WHITELISTED_LINK = "alpha/b/1/w"
NULL_UPLOADERS = "open/mine/..permissions: uploaders: None is no array"  # Go's, the one finding in it


class Corpus(NamedTuple):
    """Where the unpacked registry is, and the directory that its whitelisted link goes to."""

    registry: str
    whitelisted: str


def make_whitelisted(base: str) -> str:
    """Create the whitelisted directory with its one file; return its path."""
    path = os.path.join(base, "whitelisted")
    os.mkdir(path, 0o755)
    with open(os.path.join(path, WHITELISTED_FILE), "wb") as file:
        file.write(WHITELISTED_BYTES)
    return path


def as_it_is(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    """Extract a member as it is: what `filter="fully_trusted"` does, which Python 3.11.2 does not have."""
    return member


def unpack(base: str) -> Corpus:
    """Unpack the registry below `base`, its whitelisted link going to a directory there."""
    registry = os.path.join(base, "corpus")
    os.mkdir(registry, 0o755)
    with tarfile.open(os.path.join(DATA, "go-registry.tar.gz")) as archive:
        archive.extraction_filter = as_it_is  # an absolute link is inside; our own data
        archive.extractall(registry)
    os.chmod(registry, 0o755)
    whitelisted = make_whitelisted(base)
    link = os.path.join(registry, WHITELISTED_LINK)
    os.unlink(link)
    os.symlink(os.path.join(whitelisted, WHITELISTED_FILE), link)
    return Corpus(registry, whitelisted)


def exchanges() -> dict[str, list[dict[str, Any]]]:
    """Return `requests` and `reads`, in order."""
    with open(os.path.join(DATA, "exchanges.json"), encoding="utf-8") as file:
        return json.load(file)


def versions(registry: str) -> list[tuple[str, str, str]]:
    """Return project, asset, version of every version on disk, sorted."""
    return sorted(
        (project, asset, version)
        for project in _directories(registry)
        for asset in _directories(registry, project)
        for version in _directories(registry, project, asset)
    )


def _directories(*parts: str) -> list[str]:
    with os.scandir(os.path.join(*parts)) as found:
        return [entry.name for entry in found if entry.is_dir() and not entry.name.startswith("..")]
