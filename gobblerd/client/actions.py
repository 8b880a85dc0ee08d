# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 - names, order and defaults of the parameters are pygobbler's
"""The functions that ask the daemon for a change, one request each (spec/requests.md, "Actions").

All take `staging`, the staging directory's path, and `url`, the REST API's URL, or None to go by file
alone; `timeout` as in `drops.submit`. All raise GobblerError with code and reason if the request is
refused. `spoof` is the user on whose behalf to ask, where the service allows that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from gobblerd.client.drops import submit
from gobblerd.client.reading import fetch_permissions

Uploader = Mapping[str, Any]  # `id`, and `asset`, `version`, `until`, `trusted` where they are restricted


def create_project(
    project: str,
    staging: str,
    url: str | None,
    owners: Sequence[str] | None = None,
    uploaders: Sequence[Uploader] | None = None,
    *,
    timeout: float | None = None,
) -> None:
    """Create a project (administrators); its owner is the current user unless `owners` are given."""
    given = {"owners": owners, "uploaders": uploaders}
    permissions = {key: list(value) for key, value in given.items() if value is not None}
    fields = {"project": project, **({"permissions": permissions} if permissions else {})}
    submit(staging, url, "create_project", fields, timeout=timeout)


def set_permissions(
    project: str,
    registry: str | None,
    staging: str,
    url: str | None,
    asset: str | None = None,
    owners: Sequence[str] | None = None,
    uploaders: Sequence[Uploader] | None = None,
    global_write: bool | None = None,
    append: bool = True,
    spoof: str | None = None,
    dry_run: bool = False,
    *,
    timeout: float | None = None,
) -> dict[str, Any] | None:
    """Change who may do what in a project, or in its `asset`; None leaves a part as it is.

    With `append`, owners and uploaders are added to those there are; without, they replace them.
    `global_write` is ignored for an asset. With `dry_run`, nothing changes and the permissions that would
    be asked for are returned.
    """
    changed: dict[str, Any] = {}
    old = fetch_permissions(project, asset=asset, registry=registry, url=url) if append else {}
    if owners is not None:
        there = old.get("owners", []) if append else []
        changed["owners"] = [*there, *(owner for owner in owners if owner not in there)]
    if uploaders is not None:
        changed["uploaders"] = [*old.get("uploaders", []), *uploaders]
    if asset is None and global_write is not None:
        changed["global_write"] = global_write
    if dry_run:
        return changed
    fields = {"project": project, **({} if asset is None else {"asset": asset}), "permissions": changed}
    submit(staging, url, "set_permissions", fields, spoof=spoof, timeout=timeout)
    return None


def approve_probation(
    project: str,
    asset: str,
    version: str,
    staging: str,
    url: str | None,
    spoof: str | None = None,
    *,
    timeout: float | None = None,
) -> None:
    """Approve a version on probation (owners)."""
    fields = _version(project, asset, version)
    submit(staging, url, "approve_probation", fields, spoof=spoof, timeout=timeout)


def reject_probation(
    project: str,
    asset: str,
    version: str,
    staging: str,
    url: str | None,
    force: bool = False,
    spoof: str | None = None,
    *,
    timeout: float | None = None,
) -> None:
    """Delete a version on probation (owners, and who uploaded it); `force`: even with damaged metadata."""
    fields = {**_version(project, asset, version), "force": force}
    submit(staging, url, "reject_probation", fields, spoof=spoof, timeout=timeout)


def remove_project(project: str, staging: str, url: str | None, *, timeout: float | None = None) -> None:
    """Delete a project (administrators); `reroute_links` first keeps links into it alive."""
    submit(staging, url, "delete_project", {"project": project}, timeout=timeout)


def remove_asset(
    project: str,
    asset: str,
    staging: str,
    url: str | None,
    force: bool = False,
    *,
    timeout: float | None = None,
) -> None:
    """Delete an asset (administrators); after `force`, `refresh_usage` may be needed."""
    fields = {"project": project, "asset": asset, "force": force}
    submit(staging, url, "delete_asset", fields, timeout=timeout)


def remove_version(
    project: str,
    asset: str,
    version: str,
    staging: str,
    url: str | None,
    force: bool = False,
    *,
    timeout: float | None = None,
) -> None:
    """Delete a version (administrators); after `force`, `refresh_usage` may be needed."""
    fields = {**_version(project, asset, version), "force": force}
    submit(staging, url, "delete_version", fields, timeout=timeout)


def reroute_links(
    to_delete: Sequence[Mapping[str, str]],
    staging: str,
    url: str | None,
    dry_run: bool = False,
    *,
    timeout: float | None = None,
) -> list[dict[str, Any]]:
    """Point links into places that are to be deleted elsewhere (administrators); return the changes.

    `to_delete`: dictionaries with `project` and, where not all of it is meant, `asset` and `version`.
    A change has `path`, `source`, `copy` and `usage`; with `dry_run` it is only told.
    """
    fields = {"to_delete": [dict(place) for place in to_delete], "dry_run": dry_run}
    changes: list[dict[str, Any]] = submit(staging, url, "reroute_links", fields, timeout=timeout)["changes"]
    return changes


def refresh_usage(project: str, staging: str, url: str | None, *, timeout: float | None = None) -> int:
    """Recompute a project's usage (administrators); return it in bytes."""
    total: int = submit(staging, url, "refresh_usage", {"project": project}, timeout=timeout)["total"]
    return total


def refresh_latest(
    project: str, asset: str, staging: str, url: str | None, *, timeout: float | None = None
) -> str | None:
    """Recompute an asset's latest version (administrators); return it, None if all are on probation."""
    fields = {"project": project, "asset": asset}
    return submit(staging, url, "refresh_latest", fields, timeout=timeout).get("version")


def reindex_version(
    project: str,
    asset: str,
    version: str,
    staging: str,
    url: str | None,
    *,
    timeout: float | None = None,
) -> None:
    """Rebuild a version's manifest and links from its files (administrators)."""
    submit(staging, url, "reindex_version", _version(project, asset, version), timeout=timeout)


def validate_version(
    project: str,
    asset: str,
    version: str,
    staging: str,
    url: str | None,
    *,
    timeout: float | None = None,
) -> None:
    """Check a version against its manifest (administrators).

    GobblerError with code 422 if it has faults: the reason names the first, `answer["problems"]` all.
    """
    submit(staging, url, "validate_version", _version(project, asset, version), timeout=timeout)


def _version(project: str, asset: str, version: str) -> dict[str, str]:
    return {"project": project, "asset": asset, "version": version}
