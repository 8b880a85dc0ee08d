"""`gobbler ls`: projects, assets, versions, files."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from gobblerd.cli.gobbler.session import Session, absent, verb
from gobblerd.cli.gobbler.text import columns, leads_to, shown, size
from gobblerd.registry import layout

_LEVELS = ("project", "asset", "version")
_HEADS: Mapping[str, tuple[str, ...]] = {  # the keys of a row, in the order of the columns
    "project": ("usage", "owners", "name"),
    "asset": ("latest", "name"),
    "version": ("uploaded", "by", "state", "name"),
    "file": ("size", "md5sum", "name", "link"),
}


@verb("ls")
@click.argument("place", metavar="[P[/A[/V[/PATH]]]]", default="")
@click.option("-l", "--long", "is_long", is_flag=True, help="Say more about each.")
@click.option("-R", "--recursive", is_flag=True, help="List all files below.")
def ls(session: Session, place: str, *, is_long: bool, recursive: bool) -> None:
    """List projects; a project's assets; an asset's versions; a version's files.

    Files are listed as the manifest has them: directories end in a slash.
    """
    parts = [part for part in place.split("/") if part]
    level = "file" if recursive else (*_LEVELS, "file")[min(len(parts), len(_LEVELS))]
    if recursive:
        rows = list(_files_below(session, parts))
    elif level == "file":
        rows = list(_files(session, parts))
    else:
        rows = [_row(session, level, parts, name, is_long=is_long) for name in sorted(names(session, parts))]
    if not rows and not is_long and len(parts) > len(_LEVELS):
        raise absent("/".join(parts))
    session.show(
        rows if is_long else [row["name"] for row in rows],
        lambda: _lines(level, rows) if is_long else (shown(row["name"]) for row in rows),
    )


def names(session: Session, parts: list[str]) -> list[str]:
    """Return the names directly in the registry, a project or an asset; absent if that is not there."""
    from gobblerd.client.errors import GobblerError  # noqa: PLC0415 - not needed for help

    gobbler = session.gobbler
    try:
        match parts:
            case []:
                found = gobbler.list_projects()
            case [project]:
                found = gobbler.list_assets(project)
            case [project, asset, *_]:
                found = gobbler.list_versions(project, asset)
    except (FileNotFoundError, NotADirectoryError):
        raise absent(f"{_LEVELS[len(parts) - 1]} {'/'.join(parts)}") from None
    except GobblerError as error:
        if error.code == 404:  # noqa: PLR2004 - not found
            raise absent(f"{_LEVELS[len(parts) - 1]} {'/'.join(parts)}") from None
        raise
    return [name for name in found if not name.startswith("..")]


def _row(session: Session, level: str, parts: list[str], name: str, *, is_long: bool) -> dict[str, Any]:
    if not is_long:
        return {"name": name}
    return {"name": name, **_about(session, level, "/".join((*parts, name)), parts)}


def _about(session: Session, level: str, place: str, parts: list[str]) -> dict[str, Any]:
    if level == "project":
        usage = session.document(f"{place}/{layout.USAGE}") or {}
        permissions = session.permissions(place) or {}
        return {"usage": usage.get("total"), "owners": permissions.get("owners", [])}
    if level == "asset":
        return {"latest": (session.document(f"{place}/{layout.LATEST}") or {}).get("version")}
    summary = session.document(f"{place}/{layout.SUMMARY}") or {}
    latest = (session.document(f"{'/'.join(parts)}/{layout.LATEST}") or {}).get("version")
    state = "probation" if summary.get("on_probation") else "latest" if place.endswith(f"/{latest}") else ""
    return {"uploaded": summary.get("upload_finish"), "by": summary.get("upload_user_id"), "state": state}


# ---- files


def _files(session: Session, parts: list[str]) -> Iterator[dict[str, Any]]:
    """Yield what is directly in a directory of a version."""
    version, directory = parts[: len(_LEVELS)], "/".join(parts[len(_LEVELS) :])
    before, seen = (f"{directory}/" if directory else ""), set()
    for path, entry in sorted(_manifest(session, version).items()):
        if path == directory and not is_directory(entry):
            yield _file(path.rpartition("/")[2], entry)
        elif path.startswith(before):
            name, slash, _ = path[len(before) :].partition("/")
            if slash and name not in seen:
                yield {"name": f"{name}/"}
            elif not slash:
                yield _file(name, entry)
            seen.add(name)


def _files_below(session: Session, parts: list[str]) -> Iterator[dict[str, Any]]:
    """Yield every file below, by its path from there; none of what is no version (any more)."""
    above = len(_LEVELS) - 1  # that many names are an asset's, which holds versions
    if len(parts) > above:
        before = "/".join((*parts[len(_LEVELS) :], ""))
        yield from _files_of(_manifest(session, parts[: len(_LEVELS)]), before)
        return
    for name in sorted(names(session, parts)):
        below = [*parts, name]
        found = (
            _files_of(session.document("/".join((*below, layout.MANIFEST))) or {}, "")
            if len(parts) == above
            else _files_below(session, below)
        )
        for row in found:
            yield {**row, "name": f"{name}/{row['name']}"}


def _files_of(manifest: Mapping[str, Any], before: str) -> Iterator[dict[str, Any]]:
    for path, entry in sorted(manifest.items()):
        if path.startswith(before):
            yield _file(path[len(before) :], entry)


def _manifest(session: Session, version: list[str]) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = session.document("/".join((*version, layout.MANIFEST)))
    if found is None:
        raise absent(f"version {'/'.join(version)}")
    return found


def is_directory(entry: Mapping[str, Any]) -> bool:
    """Tell whether a manifest's entry is an empty directory."""
    return not entry["md5sum"] and "link" not in entry


def _file(name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    if is_directory(entry):
        return {"name": f"{name}/"}
    return {"name": name, **entry}


# ---- for people


def _lines(level: str, rows: list[dict[str, Any]]) -> Iterable[str]:
    keys = _HEADS[level]
    return columns(
        ([_cell(key, row.get(key)) for key in keys] for row in rows),
        head=[key.upper() for key in keys],
        right=(0,) if keys[0] in {"usage", "size"} else (),
    )


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "" if key == "link" else "-"
    if key in {"usage", "size"}:
        return size(value)
    if key == "link":
        return leads_to(value)
    return ", ".join(value) if isinstance(value, list) else str(value)


COMMANDS = {"ls": ls}
