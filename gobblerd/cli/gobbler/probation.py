"""`gobbler probation list|approve|reject`."""

from collections.abc import Iterator
from typing import Any

import click

from gobblerd.cli.gobbler.listing import names
from gobblerd.cli.gobbler.session import Session, group, verb
from gobblerd.cli.gobbler.text import columns
from gobblerd.registry import layout

_spoof = click.option("--spoof", metavar="USER", help="Act on behalf of USER, if the service allows it.")


@verb("list")
@click.argument("project", required=False)
@click.argument("asset", required=False)
def list_(session: Session, project: str | None, asset: str | None) -> None:
    """List the versions on probation, everywhere or in a project or an asset."""
    parts = [part for part in (project, asset) if part is not None]
    found = list(_on_probation(session, parts))
    keys = ("uploaded", "by", "version")
    rows = [
        (row["uploaded"], row["by"], f"{row['project']}/{row['asset']}/{row['version']}") for row in found
    ]
    session.show(found, lambda: columns(rows, head=[key.upper() for key in keys]))


def _on_probation(session: Session, parts: list[str]) -> Iterator[dict[str, Any]]:
    if len(parts) < 3:  # noqa: PLR2004 - project, asset, version
        for name in sorted(names(session, parts)):
            yield from _on_probation(session, [*parts, name])
        return
    summary = session.document("/".join((*parts, layout.SUMMARY))) or {}
    if summary.get("on_probation"):
        project, asset, version = parts
        yield {
            "project": project,
            "asset": asset,
            "version": version,
            "uploaded": str(summary.get("upload_finish", "")),
            "by": str(summary.get("upload_user_id", "")),
        }


@verb("approve")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
@_spoof
def approve(session: Session, project: str, asset: str, version: str, *, spoof: str | None) -> None:
    """Approve a version: it counts from now on (owners)."""
    session.ask("approve_probation", project=project, asset=asset, version=version, spoof=spoof)
    session.done(f"{project}/{asset}/{version} is approved.")


@verb("reject")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
@click.option("--force", is_flag=True, help="Also with damaged metadata; usage then stays as it is.")
@_spoof
def reject(
    session: Session, project: str, asset: str, version: str, *, force: bool, spoof: str | None
) -> None:
    """Reject a version, which deletes it (owners, and who uploaded it)."""
    fields = {"project": project, "asset": asset, "version": version}
    session.ask("reject_probation", **fields, force=force or None, spoof=spoof)
    session.done(f"{project}/{asset}/{version} is rejected and gone.")


COMMANDS = {"probation": group("probation", "List, approve or reject versions.", list_, approve, reject)}
