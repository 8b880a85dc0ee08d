# ruff: noqa: FBT001, FBT002 - names, order and defaults of the parameters are pygobbler's
"""The functions that read one of the registry's documents, from disk where it is there, else over REST.

`registry` is the registry's path, None for a reader who has none; it is used if it exists and
`force_remote` is not set. `url` is the REST API's, for everybody else. A document that is missing raises
FileNotFoundError where it is read from disk, and GobblerError with code 404 over REST.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from gobblerd.client.errors import GobblerUnreachable, failure

# The registry's documents (spec/registry.md, "Layout"), as every reader of the format has to spell them.
MANIFEST = "..manifest"
SUMMARY = "..summary"
LATEST = "..latest"
PERMISSIONS = "..permissions"
USAGE = "..usage"


def is_local(registry: str | None, *, force_remote: bool) -> bool:
    """Tell whether to read the registry from disk."""
    return not force_remote and registry is not None and os.path.exists(registry)


def require_url(registry: str | None, url: str | None) -> str:
    """Return the URL; GobblerUnreachable if there is none, and so nothing to read from."""
    if url:
        return url
    where = "no registry is given" if registry is None else f"the registry {registry} is not there"
    raise failure(GobblerUnreachable, None, f"{where}, and no URL to read it from")


def fetch_manifest(
    project: str,
    asset: str,
    version: str,
    registry: str | None,
    url: str | None,
    cache: str | None = None,
    force_remote: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Return a version's manifest: path -> `size` in bytes, `md5sum`, and `link` where it is one.

    Read over REST, it is kept in `cache` (as by `fetch_file`) and read from there the next time, unless
    `overwrite`.
    """
    path = f"{project}/{asset}/{version}/{MANIFEST}"
    found: dict[str, Any] = _cached(
        path, registry, url, cache, force_remote=force_remote, overwrite=overwrite
    )
    return found


def fetch_summary(
    project: str,
    asset: str,
    version: str,
    registry: str | None,
    url: str | None,
    cache: str | None = None,
    force_remote: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Return a version's summary: who uploaded it and when, and whether it is on probation.

    Kept in `cache` as by `fetch_manifest`.
    """
    path = f"{project}/{asset}/{version}/{SUMMARY}"
    found: dict[str, Any] = _cached(
        path, registry, url, cache, force_remote=force_remote, overwrite=overwrite
    )
    return found


def fetch_latest(
    project: str, asset: str, registry: str | None, url: str | None, force_remote: bool = False
) -> str | None:
    """Return the name of an asset's latest version; None if it has none, or there is no such asset."""
    path = f"{project}/{asset}/{LATEST}"
    found = document_or_none(path, registry, url, force_remote=force_remote)
    return None if found is None else str(found["version"])


def fetch_usage(project: str, registry: str | None, url: str | None, force_remote: bool = False) -> int:
    """Return what a project occupies, in bytes."""
    total: int = _document(f"{project}/{USAGE}", registry, url, force_remote=force_remote)["total"]
    return total


def fetch_permissions(
    project: str,
    registry: str | None,
    url: str | None,
    asset: str | None = None,
    force_remote: bool = False,
) -> dict[str, Any]:
    """Return who owns and may upload to a project, or to its `asset`: `owners`, `uploaders`.

    A project's may hold `global_write`; an asset without permissions of its own has no owners.
    """
    if asset is None:
        return with_lists(_document(f"{project}/{PERMISSIONS}", registry, url, force_remote=force_remote))
    path = f"{project}/{asset}/{PERMISSIONS}"
    return with_lists(document_or_none(path, registry, url, force_remote=force_remote) or {})


def with_lists(permissions: Mapping[str, Any]) -> dict[str, Any]:
    """Return permissions with both lists: a Go service writes null for one without entries."""
    return {**permissions, **{key: permissions.get(key) or [] for key in ("owners", "uploaders")}}


def service_info(url: str) -> dict[str, Any]:
    """Return where the service's `staging` and `registry` are."""
    from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

    found: dict[str, Any] = transport.get_json(require_url(None, url), "/info")
    return found


def unpack_path(path: str) -> dict[str, str | None]:
    """Return the parts of `project/asset/version/path` by name; `path` is None if nothing follows.

    ValueError if it has fewer than three.
    """
    parts = path.split("/", 3)
    if len(parts) < 3:  # noqa: PLR2004 - project, asset, version
        raise ValueError("expected at least 3 path components in 'path'")
    rest = parts[3] if len(parts) > 3 and not parts[3].startswith("/") else ""  # noqa: PLR2004 - as above
    return {"project": parts[0], "asset": parts[1], "version": parts[2], "path": rest or None}


def clone_version(project: str, asset: str, version: str, destination: str, registry: str | None) -> None:
    """Make a directory of symbolic links to a version's files in the registry, to begin a new version with.

    Uploaded, the links become links of the new version; replace those that are to change by files.
    """
    manifest = fetch_manifest(project, asset, version, registry=registry, url=None)
    assert registry is not None  # the manifest was read from it
    source = os.path.join(registry, project, asset, version)
    os.makedirs(destination, exist_ok=True)
    for path, entry in manifest.items():
        place = os.path.join(destination, path)
        if entry.get("md5sum") == "" and "link" not in entry:  # an empty directory
            os.makedirs(place, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            os.symlink(os.path.join(source, path), place)
        except OSError as error:  # which names the registry's file first, where nothing is wrong
            raise OSError(error.errno, error.strerror, place) from None


def _load(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _document(path: str, registry: str | None, url: str | None, *, force_remote: bool) -> Any:
    if is_local(registry, force_remote=force_remote):
        return _load(os.path.join(str(registry), path))
    from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

    return transport.get_json(require_url(registry, url), _fetch_path(path))


def document_or_none(path: str, registry: str | None, url: str | None, *, force_remote: bool) -> Any:
    """Read one JSON document of the registry; None if it is not there."""
    if is_local(registry, force_remote=force_remote):
        try:
            return _load(os.path.join(str(registry), path))
        except (FileNotFoundError, NotADirectoryError):
            return None
    from gobblerd.client import transport  # noqa: PLC0415 - http.client only where HTTP is spoken

    return transport.get_json_or_none(require_url(registry, url), _fetch_path(path))


def _fetch_path(path: str) -> str:
    from urllib.parse import quote  # noqa: PLC0415 - for readers over REST only

    return "/fetch/" + quote(path)


def _cached(
    path: str,
    registry: str | None,
    url: str | None,
    cache: str | None,
    *,
    force_remote: bool,
    overwrite: bool,
) -> Any:
    if is_local(registry, force_remote=force_remote):
        return _load(os.path.join(str(registry), path))
    from gobblerd.client.fetching import fetch_file  # noqa: PLC0415 - it needs this module's names

    return _load(fetch_file(path, registry, require_url(registry, url), cache, True, overwrite))
