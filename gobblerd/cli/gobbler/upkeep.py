"""`gobbler clone`, `validate`, `reindex`, `reroute`, `refresh usage|latest`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from gobblerd.cli.gobbler.session import Session, absent, group, verb
from gobblerd.cli.gobbler.text import columns, counted, size
from gobblerd.registry import layout

_LEVELS = ("project", "asset", "version")


@verb("clone")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def clone(session: Session, project: str, asset: str, version: str, directory: str) -> None:
    """Fill DIR with links to the files of a version, to begin a new one.

    Replace what is to change, and upload DIR: the links become links of the new version, and take no
    space. Needs the registry's directory.
    """
    if session.gobbler.registry is None:
        raise click.UsageError("links go into the registry's directory: give --registry or GOBBLER_REGISTRY")
    if session.document(f"{project}/{asset}/{version}/{layout.MANIFEST}") is None:
        raise absent(f"version {project}/{asset}/{version}")
    session.gobbler.clone_version(project, asset, version, directory)
    session.done(f"{directory} holds links to {project}/{asset}/{version}.", {"path": directory})


@verb("validate")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
def validate(session: Session, project: str, asset: str, version: str) -> None:
    """Check every file and link of a version (administrators only).

    Lists what is wrong; the exit code is then 1.
    """
    from gobblerd.client.errors import GobblerError  # noqa: PLC0415 - not needed for help

    try:
        session.ask("validate_version", project=project, asset=asset, version=version)
    except GobblerError as error:
        if not session.as_json:
            session.say(_problem_lines(error.answer.get("problems", ())))
        raise
    session.done(f"{project}/{asset}/{version} is valid.")


def _problem_lines(problems: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    keys = ("path", "kind", "expected", "found")
    return columns(
        ([_cell(each.get(key)) for key in keys] for each in problems), head=[key.upper() for key in keys]
    )


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value)


@verb("reindex")
@click.argument("project")
@click.argument("asset")
@click.argument("version")
def reindex(session: Session, project: str, asset: str, version: str) -> None:
    """Rebuild a version's manifest from its files (administrators only).

    The project's usage is not touched: `gobbler refresh usage` does that.
    """
    session.ask("reindex_version", project=project, asset=asset, version=version)
    session.done(f"{project}/{asset}/{version} is indexed anew.")


@verb("reroute")
@click.argument("places", metavar="P[/A[/V]]...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
def reroute(session: Session, places: Sequence[str], *, dry_run: bool) -> None:
    """Save links into places that will be deleted (administrators only).

    Links into the projects, assets and versions given are pointed at the nearest file that stays, or
    become copies.
    """
    to_delete = [_place(text) for text in places]
    answer = session.ask("reroute_links", to_delete=to_delete, dry_run=dry_run or None)
    changes = answer["changes"]
    if session.as_json:
        session.done("", answer)
        return
    rows = [(c["path"], c["source"], size(c["usage"]) if c["copy"] else "-") for c in changes]
    session.say(columns(rows, head=("LINK", "GOES TO", "COPIED"), right=(2,)))
    session.say([f"{counted(len(changes), 'link')} {'would change' if dry_run else 'changed'}."])


def _place(text: str) -> dict[str, str]:
    parts = [part for part in text.split("/") if part]
    if not 1 <= len(parts) <= len(_LEVELS):
        raise click.UsageError(f"{text!r} is not PROJECT, PROJECT/ASSET or PROJECT/ASSET/VERSION")
    return dict(zip(_LEVELS, parts, strict=False))


@verb("usage")
@click.argument("project")
def refresh_usage(session: Session, project: str) -> None:
    """Compute a project's usage anew (administrators only)."""
    answer = session.ask("refresh_usage", project=project)
    session.done(f"{project} occupies {size(answer['total'])}.", answer)


@verb("latest")
@click.argument("project")
@click.argument("asset")
def refresh_latest(session: Session, project: str, asset: str) -> None:
    """Find an asset's latest version anew (administrators only)."""
    answer = session.ask("refresh_latest", project=project, asset=asset)
    latest = answer.get("version")
    said = (
        f"The latest version of {project}/{asset} is {latest}." if latest else "There is no latest version."
    )
    session.done(said, answer)


COMMANDS = {
    "clone": clone,
    "validate": validate,
    "reindex": reindex,
    "reroute": reroute,
    "refresh": group("refresh", "Compute usage or latest version anew.", refresh_usage, refresh_latest),
}
