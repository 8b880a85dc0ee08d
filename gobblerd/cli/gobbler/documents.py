"""`gobbler manifest`, `summary`, `latest`, `usage`: the registry's documents."""

from collections.abc import Iterable, Mapping
from typing import Any

import click

from gobblerd.cli.gobbler.listing import names
from gobblerd.cli.gobbler.session import Session, absent, verb
from gobblerd.cli.gobbler.text import columns, exact_size, facts, leads_to, size
from gobblerd.registry import layout


def version_document(session: Session, place: tuple[str, str, str], name: str) -> Mapping[str, Any]:
    """Return a version's document; GobblerError if there is no such version."""
    path = "/".join(place)
    found: Mapping[str, Any] | None = session.document(f"{path}/{name}")
    if found is None:
        raise absent(f"version {path}")
    return found


@verb("manifest")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
def manifest(session: Session, project: str, asset: str, version: str) -> None:
    """Show the files of a version: size, MD5 checksum, path, and where a link goes."""
    found = version_document(session, (project, asset, version), layout.MANIFEST)
    session.show(found, lambda: _manifest_lines(found))


def _manifest_lines(found: Mapping[str, Any]) -> Iterable[str]:
    rows = []
    for path, entry in sorted(found.items()):
        link = entry.get("link")
        rows.append((str(entry["size"]), entry["md5sum"] or "-", path, leads_to(link) if link else ""))
    return columns(rows, head=("SIZE", "MD5SUM", "PATH", ""), right=(0,))


@verb("summary")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
def summary(session: Session, project: str, asset: str, version: str) -> None:
    """Show who uploaded a version and when, and whether it is on probation."""
    found = version_document(session, (project, asset, version), layout.SUMMARY)
    session.show(found, lambda: summary_lines(found))


def summary_lines(found: Mapping[str, Any]) -> Iterable[str]:
    """Yield a summary for people."""
    return facts(
        (
            ("uploaded by", str(found.get("upload_user_id", ""))),
            ("started", str(found.get("upload_start", ""))),
            ("finished", str(found.get("upload_finish", ""))),
            ("on probation", "yes" if found.get("on_probation") else "no"),
        )
    )


@verb("latest")
@click.argument("project")
@click.argument("asset")
def latest(session: Session, project: str, asset: str) -> None:
    """Print the name of the latest version of an asset."""
    found = session.gobbler.fetch_latest(project, asset)
    if found is None:
        raise absent(f"latest version of {project}/{asset}")
    session.show({"version": found}, lambda: [found])


@verb("usage")
@click.argument("project", required=False)
def usage(session: Session, project: str | None) -> None:
    """Show what a project occupies, or all of them."""
    if project is None:
        documents = (
            (name, session.document(f"{name}/{layout.USAGE}")) for name in sorted(names(session, []))
        )
        found = {name: each["total"] for name, each in documents if each is not None}
        session.show(
            found, lambda: columns(((size(total), name) for name, total in found.items()), right=(0,))
        )
    else:
        total = _usage(session, project)
        session.show({"total": total}, lambda: [exact_size(total)])


def _usage(session: Session, project: str) -> int:
    found = session.document(f"{project}/{layout.USAGE}")
    if found is None:
        raise absent(f"project {project}")
    total: int = found["total"]
    return total


COMMANDS = {"manifest": manifest, "summary": summary, "latest": latest, "usage": usage}
