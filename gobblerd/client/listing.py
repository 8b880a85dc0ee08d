# ruff: noqa: FBT001, FBT002 - names, order and defaults of the parameters are pygobbler's
"""The functions that list what the registry holds; parameters as in `reading`.

Differs from pygobbler where that is wrong: a directory that holds only directories is not taken for empty,
and a filtered list is a list, also with a `prefix`. `..checksums`, which only gobblerd has, is not listed.
"""

import os
from collections.abc import Iterator

from gobblerd.client.reading import is_local, require_url

_CHECKSUMS = "..checksums"  # gobblerd's own, for itself: what lists a version does not expect it


def list_projects(registry: str | None, url: str | None, force_remote: bool = False) -> list[str]:
    """Return the names of all projects."""
    found = list_registry_directories(".", registry, url, force_remote)
    return [name for name in found if not name.startswith("..")]


def list_assets(project: str, registry: str | None, url: str | None, force_remote: bool = False) -> list[str]:
    """Return the names of a project's assets."""
    return list_registry_directories(project, registry, url, force_remote)


def list_versions(
    project: str, asset: str, registry: str | None, url: str | None, force_remote: bool = False
) -> list[str]:
    """Return the names of an asset's versions."""
    return list_registry_directories(f"{project}/{asset}", registry, url, force_remote)


def list_registry_directories(
    path: str, registry: str | None, url: str | None, force_remote: bool
) -> list[str]:
    """Return the names of the directories in a directory of the registry."""
    if is_local(registry, force_remote=force_remote):
        with os.scandir(os.path.join(str(registry), path)) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    names = remote_names(require_url(registry, url), path, recursive=False)
    return [name[:-1] for name in names if name.endswith("/")]


def list_files(
    project: str,
    asset: str,
    version: str,
    registry: str | None,
    url: str | None,
    prefix: str | None = None,
    include_dotdot: bool = True,
    force_remote: bool = False,
) -> list[str]:
    """Return the paths of a version's files, and of its empty directories with a `/` at the end.

    Only those that begin with `prefix`, if one is given. `include_dotdot`: also the registry's own files,
    whose names begin with two dots.
    """
    directory, _, beginning = (prefix or "").rpartition("/")
    place = "/".join(part for part in (project, asset, version, directory) if part)
    if is_local(registry, force_remote=force_remote):
        names = list(_names_below(os.path.join(str(registry), place)))
    else:
        names = remote_names(require_url(registry, url), place, recursive=True)
    if not include_dotdot:
        names = [name for name in names if not name.startswith("..") and "/.." not in name]
    if not directory:
        names = [name for name in names if name != _CHECKSUMS]
    before = f"{directory}/" if directory else ""
    return [before + name for name in names if name.startswith(beginning)]


def _names_below(root: str) -> Iterator[str]:
    for directory, subdirectories, files in os.walk(root):
        here = os.path.relpath(directory, root)
        before = "" if here == "." else f"{here}/"
        links = [name for name in subdirectories if os.path.islink(os.path.join(directory, name))]
        for name in (*files, *links):
            yield before + name
        if before and not files and not subdirectories:
            yield before


def remote_names(url: str, path: str, *, recursive: bool) -> list[str]:
    """Return what the REST API lists in a directory of the registry ("." for its root)."""
    from urllib.parse import quote_plus  # noqa: PLC0415 - for readers over REST only

    from gobblerd.client import transport  # noqa: PLC0415 - as above

    asked = {"path": "" if path == "." else quote_plus(path), "recursive": "true" if recursive else ""}
    query = "&".join(f"{key}={value}" for key, value in asked.items() if value)
    names: list[str] = transport.get_json(url, f"/list?{query}" if query else "/list")
    return names
