"""Releases for whoever has no client at hand: the functions of `gobblerd.client`, at the configured service.

`registry` and `url` are by default those of GOBBLER_REGISTRY and GOBBLER_URL, or of the user's configuration
file, as for `gobblerd.client.Gobbler`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gobblerd.client import Gobbler
from gobblerd.domain.version_spec import VersionSpec

if TYPE_CHECKING:
    from gobblerd.client.parallel import Each, Progress

Spec = str | Sequence[str] | VersionSpec


def resolve_versions(
    project: str, asset: str, spec: Spec | None, *, registry: str | None = None, url: str | None = None
) -> list[str]:
    """Return the versions that an expression means, oldest to newest; see `gobblerd.client`."""
    found: list[str] = Gobbler("", registry, url).resolve_versions(project, asset, spec)
    return found


def release_record(
    project: str, asset: str, version: str, *, registry: str | None = None, url: str | None = None
) -> dict[str, Any]:
    """Return a version as one document, the release record; see `gobblerd.client`."""
    found: dict[str, Any] = Gobbler("", registry, url).release_record(project, asset, version)
    return found


def download_version(
    project: str,
    asset: str,
    version: Spec,
    *,
    url: str | None = None,
    max_workers: int = 4,
    cache: str | None = None,
    progress: "Progress | None" = None,
    each: "Each | None" = None,
) -> str:
    """Copy a version over REST into a cache, verified, and go on where the last attempt ended.

    Returns the directory; see `gobblerd.client`.
    """
    found: str = Gobbler("", "", url).download_version(
        project, asset, version, cache, max_workers=max_workers, progress=progress, each=each
    )
    return found
