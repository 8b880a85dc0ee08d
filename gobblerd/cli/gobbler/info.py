"""`gobbler info`: all about one place, or about the service itself."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from gobblerd.cli.gobbler.documents import summary_lines, version_document
from gobblerd.cli.gobbler.listing import names
from gobblerd.cli.gobbler.session import Session, absent, verb
from gobblerd.cli.gobbler.text import counted, facts, size
from gobblerd.registry import layout

_VERSION_DEPTH = 3


@verb("info")
@click.argument("place", metavar="[P[/A[/V]]]", default="")
def info(session: Session, place: str) -> None:
    """Show a project, an asset or a version; without any, which service is used.

    The latter drops a request and reads the registry, and so tells whether all is set up well.
    """
    parts = [part for part in place.split("/") if part]
    if len(parts) > _VERSION_DEPTH:
        raise click.UsageError("a file has no more to tell than `gobbler ls -l` does")
    about = (_service, _project, _asset, _version)[len(parts)]
    about(session, parts)


def _service(session: Session, _parts: list[str]) -> None:
    gobbler = session.gobbler
    found: dict[str, Any] = {"staging": gobbler.staging, "registry": gobbler.registry, "url": gobbler.url}
    if gobbler.url:
        served = gobbler.service_info()
        found |= {f"service_{key}": value for key, value in served.items()}
    if gobbler.staging:
        session.ask("health_check")
        found["answers"] = True
    if gobbler.registry or gobbler.url:
        found["projects"] = len(names(session, []))
    session.show(found, lambda: _service_lines(found))


def _service_lines(found: Mapping[str, Any]) -> Iterable[str]:
    answers = "yes" if found.get("answers") else ""
    names_of = {"service_staging": "its staging", "service_registry": "its registry", "answers": "it answers"}
    return facts(
        (names_of.get(key, key), answers if key == "answers" else str(value or "-"))
        for key, value in found.items()
    )


def _project(session: Session, parts: list[str]) -> None:
    (project,) = parts
    permissions = session.permissions(project)
    if permissions is None:
        raise absent(f"project {project}")
    found = {
        "project": project,
        **permissions,
        "usage": (session.document(f"{project}/{layout.USAGE}") or {}).get("total"),
        "quota": session.document(f"{project}/{layout.QUOTA}"),
        "assets": sorted(names(session, parts)),
    }
    session.show(found, lambda: facts((*_people(found), *_sizes(found), _many("assets", found["assets"]))))


def _people(permissions: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "owners", ", ".join(permissions["owners"])
    yield "uploaders", ", ".join(entry["id"] for entry in permissions["uploaders"])
    yield "global write", "yes" if permissions.get("global_write") else ""


def _sizes(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if found["usage"] is not None:
        yield "usage", size(found["usage"])
    if found["quota"]:
        yield "quota", f"{size(found['quota']['baseline'])} and {size(found['quota']['growth_rate'])} a year"


def _many(what: str, listed: list[str]) -> tuple[str, str]:
    return what, str(len(listed))


def _asset(session: Session, parts: list[str]) -> None:
    versions = sorted(names(session, parts))
    permissions = session.permissions("/".join(parts)) or {"owners": [], "uploaders": []}
    latest = (session.document("/".join((*parts, layout.LATEST))) or {}).get("version")
    found = {"project": parts[0], "asset": parts[1], "latest": latest, "versions": versions, **permissions}
    session.show(
        found, lambda: facts((("latest", latest or "none"), _many("versions", versions), *_people(found)))
    )


def _version(session: Session, parts: list[str]) -> None:
    place = (parts[0], parts[1], parts[2])
    summary = version_document(session, place, layout.SUMMARY)
    manifest = version_document(session, place, layout.MANIFEST)
    latest = (session.document(f"{parts[0]}/{parts[1]}/{layout.LATEST}") or {}).get("version") == parts[2]
    links = [entry for entry in manifest.values() if "link" in entry]
    stored = sum(entry["size"] for entry in manifest.values() if "link" not in entry)
    found = {
        **dict(zip(("project", "asset", "version"), parts, strict=True)),
        **summary,
        "latest": latest,
        "files": len(manifest),
        "links": len(links),
        "size": sum(entry["size"] for entry in manifest.values()),
        "stored": stored,
    }
    more = (
        ("latest", "yes" if latest else "no"),
        ("holds", f"{counted(len(manifest), 'file')}, {size(found['size'])}"),
        ("of that links", f"{len(links)}" if links else ""),
        ("occupies", size(stored)),
    )
    session.show(found, lambda: (*summary_lines(summary), *facts(more)))


COMMANDS = {"info": info}
