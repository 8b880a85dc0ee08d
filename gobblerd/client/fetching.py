# ruff: noqa: FBT001, FBT002, PLR0913 - names, order and defaults of the parameters are pygobbler's
"""The functions that bring files of the registry to the reader: a path on disk, or a copy in a cache.

Parameters as in `reading`. A directory is checked against the manifests of its versions; what is in the
cache already is kept if it has the manifest's checksum. Once whole, a directory is marked, and from then
on returned without asking anybody, until `overwrite`, or until the manifest that lies in the cache (which
`fetch_manifest` may have renewed) is another than the one that it was checked against.
"""

import os
from typing import TYPE_CHECKING

from gobblerd.client.errors import GobblerError, failure
from gobblerd.client.reading import is_local, require_url
from gobblerd.domain.where import written_in

if TYPE_CHECKING:
    from gobblerd.client.parallel import Each, Progress


def fetch_file(
    path: str,
    registry: str | None,
    url: str | None,
    cache: str | None = None,
    force_remote: bool = False,
    overwrite: bool = False,
    *,
    progress: "Progress | None" = None,
) -> str:
    """Return where a file of the registry (`project/asset/version/...`) can be read.

    In the registry if it is there, else in `cache` (default: in the user's data directory), where it is
    fetched to unless it is there already; with `overwrite` in any case. `progress` is told files done,
    files in all, bytes done, bytes in all (0: not known).
    """
    if is_local(registry, force_remote=force_remote):
        return os.path.join(str(registry), path)
    url = require_url(registry, url)
    from gobblerd.client import download, parallel  # noqa: PLC0415 - needed only to fetch
    from gobblerd.client.cache import Cache  # noqa: PLC0415 - as above

    place = Cache(cache, url)
    target = place.target(path)
    if not overwrite and os.path.exists(target):
        return target
    want = download.Want(url, path, lambda found: not overwrite and os.path.exists(found))
    try:
        with written_in(place.root):
            download.fetch(place, want, parallel.Meter(progress, 1, 0), parallel.Stop())
    except download.Changed as error:
        raise failure(GobblerError, None, str(error)) from None
    return target


def fetch_directory(
    path: str,
    registry: str | None,
    url: str | None,
    cache: str | None = None,
    force_remote: bool = False,
    overwrite: bool = False,
    concurrent: int = 1,
    *,
    progress: "Progress | None" = None,
    each: "Each | None" = None,
) -> str:
    """Return where a directory of the registry, usually a version, can be read.

    As `fetch_file`, with everything in it; `concurrent` is the number of downloads at the same time, and
    `each` is told a file's path, its bytes done and its size (-1: not known).
    Interrupted, it goes on where it was the next time. Several processes may fetch into one cache.
    """
    if is_local(registry, force_remote=force_remote):
        return os.path.join(str(registry), path)
    url = require_url(registry, url)
    from gobblerd.client.filling import Filling  # noqa: PLC0415 - needed only to fetch

    return Filling(url, path, cache, concurrent, progress, each).fetch(overwrite=overwrite)


def version_path(project: str, asset: str, version: str, **kwargs: "str | bool | int | None") -> str:
    """Return where a version can be read; further arguments as for `fetch_directory`."""
    return fetch_directory(f"{project}/{asset}/{version}", **kwargs)  # type: ignore[arg-type]  # passed on
