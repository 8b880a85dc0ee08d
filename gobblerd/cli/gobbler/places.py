"""`gobbler project create|remove`, `asset remove`, `version remove`."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from gobblerd.cli.gobbler.permissions import uploader_option
from gobblerd.cli.gobbler.session import Session, group, verb

_NOTE = (
    "Administrators only. It cannot be undone, and links from elsewhere into it break: `gobbler reroute` "
    "points them elsewhere first. Asks before, on a terminal."
)
_yes = click.option("--yes", is_flag=True, help="Do not ask.")
_force = click.option("--force", is_flag=True, help="Also with damaged metadata; usage then stays as it is.")


@verb("create")
@click.argument("project")
@click.option("--owner", "owners", multiple=True, metavar="USER", help="An owner; may be repeated.")
@uploader_option("As in `gobbler permissions set`.")
@click.option("--global-write", is_flag=True, default=None, help="Anybody may create assets.")
def create(
    session: Session,
    project: str,
    *,
    owners: Sequence[str],
    uploaders: Sequence[Mapping[str, Any]],
    global_write: bool | None,
) -> None:
    """Create a project (administrators only).

    Without --owner, it is yours.
    """
    given = {"owners": list(owners), "uploaders": list(uploaders), "global_write": global_write}
    permissions = {key: value for key, value in given.items() if value}
    session.ask("create_project", project=project, permissions=permissions or None)
    session.done(f"The project {project} is there.")


def _remove(session: Session, level: str, place: Sequence[str], *, force: bool, yes: bool) -> None:
    path = "/".join(place)
    if not (yes or session.as_json) and sys.stdin.isatty():
        click.confirm(f"Remove the {level} {path} for ever?", abort=True, err=True)
    fields = dict(zip(("project", "asset", "version"), place, strict=False))
    session.ask(f"delete_{level}", **fields, force=force or None)
    session.done(f"The {level} {path} is gone.")


def _removal(level: str, levels: Sequence[str]) -> click.Command:
    """Return the subcommand `remove` of a level."""

    def remove(session: Session, *, force: bool, yes: bool, **place: str) -> None:
        _remove(session, level, [place[each] for each in levels], force=force, yes=yes)

    remove.__doc__ = f"Remove the whole {level.upper()}.\n\n{_NOTE}"
    decorated: Callable[..., Any] = _yes(_force(remove))
    for each in reversed(levels):
        decorated = click.argument(each)(decorated)
    return verb("remove")(decorated)


COMMANDS = {
    "project": group("project", "Create or remove a project.", create, _removal("project", ["project"])),
    "asset": group("asset", "Remove an asset.", _removal("asset", ["project", "asset"])),
    "version": group("version", "Remove a version.", _removal("version", ["project", "asset", "version"])),
}
