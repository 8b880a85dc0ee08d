"""`gobbler permissions show|set`."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from gobblerd.cli.gobbler.session import Session, absent, group, verb
from gobblerd.cli.gobbler.text import facts

_FLAGS = {"trusted": True, "untrusted": False}
_KEYS = ("asset", "version", "until")

F = TypeVar("F", bound=Callable[..., Any])


def uploader_option(about: str) -> Callable[[F], F]:
    """Return the option --uploader: `ID[,asset=A][,version=V][,until=TIME][,trusted]`, or a JSON object."""
    return click.option(
        "--uploader", "uploaders", multiple=True, callback=_entries, metavar="ID[,LIMITS]", help=about
    )


def _entries(_ctx: click.Context, _param: click.Parameter, given: Sequence[str]) -> list[Any]:
    return [_entry(text) for text in given]


def _entry(text: str) -> Any:
    """Return an entry of `uploaders`."""
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise click.BadParameter(f"{text} is not JSON: {error}") from None
    identity, *rest = text.split(",")
    entry: dict[str, Any] = {"id": identity}
    for part in rest:
        key, equals, value = part.partition("=")
        if equals and key in _KEYS:
            entry[key] = value
        elif part in _FLAGS:
            entry["trusted"] = _FLAGS[part]
        else:
            raise click.BadParameter(f"{part} is none of asset=..., version=..., until=..., trusted")
    return entry


@verb("show")
@click.argument("project")
@click.argument("asset", required=False)
def show(session: Session, project: str, asset: str | None) -> None:
    """Show who owns a project, or one of its assets, and who may upload to it."""
    place = project if asset is None else f"{project}/{asset}"
    found = session.permissions(place)
    if found is None:
        if asset is None:
            raise absent(f"project {project}")
        found = {"owners": [], "uploaders": []}
    session.show(found, lambda: _lines(found))


def _lines(found: Mapping[str, Any]) -> Iterable[str]:
    yield from facts(
        (
            ("owners", ", ".join(found["owners"]) or "nobody"),
            ("uploaders", "nobody" if not found["uploaders"] else ""),
            ("global write", "yes" if found.get("global_write") else ""),
        )
    )
    for entry in found["uploaders"]:
        limits = [f"{key} {entry[key]}" for key in _KEYS if entry.get(key) is not None]
        trust = "trusted" if entry.get("trusted") else "on probation"
        yield f"uploader {entry['id']}: {', '.join((*limits, trust))}"


@verb("set")
@click.argument("project")
@click.argument("asset", required=False)
@click.option("--owner", "owners", multiple=True, metavar="USER", help="An owner; may be repeated.")
@uploader_option("Who may upload, within asset=A, version=V, until=TIME; `trusted`: not on probation.")
@click.option("--global-write/--no-global-write", default=None, help="Anybody may create assets, or not.")
@click.option("--replace", is_flag=True, help="Replace owners, or uploaders, instead of adding to them.")
@click.option("--no-owners", is_flag=True, help="With --replace: leave no owners.")
@click.option("--no-uploaders", is_flag=True, help="With --replace: leave no uploaders.")
@click.option("--spoof", metavar="USER", help="Act on behalf of USER, if the service allows it.")
def set_(session: Session, project: str, asset: str | None, *, spoof: str | None, **given: Any) -> None:
    """Change who may do what in a project, or in one of its assets.

    What is not mentioned stays as it is.
    """
    change = _Change(**given)
    change.check(has_asset=asset is not None)
    place = project if asset is None else f"{project}/{asset}"
    if change.appends and session.permissions(project) is None:
        raise absent(f"project {project}")
    there = (session.permissions(place) or {}) if change.appends else {}
    session.asking.set_permissions(
        project,
        asset=asset,
        owners=change.new_owners,
        uploaders=change.uploaders_beside(there.get("uploaders", ())),
        global_write=change.global_write,
        append=change.appends,
        spoof=spoof,
    )
    session.done(f"The permissions of {place} are changed.")


@dataclass(frozen=True, slots=True)
class _Change:
    """What the options of `permissions set` ask for."""

    owners: Sequence[str]
    uploaders: Sequence[Any]
    global_write: bool | None
    replace: bool
    no_owners: bool
    no_uploaders: bool

    @property
    def new_owners(self) -> list[str] | None:
        """The owners; None: they stay."""
        return list(self.owners) if self.owners or self.no_owners else None

    @property
    def new_uploaders(self) -> list[Any] | None:
        """The uploaders; None: they stay."""
        return list(self.uploaders) if self.uploaders or self.no_uploaders else None

    def uploaders_beside(self, there: Sequence[Any]) -> list[Any] | None:
        """Return the uploaders that are not there yet, so that each is there once; None: they stay."""
        new = self.new_uploaders
        return None if new is None else [entry for entry in new if entry not in there]

    @property
    def appends(self) -> bool:
        """Tell whether what there is has to be read, and added to."""
        return not self.replace and not (self.new_owners is None and self.new_uploaders is None)

    def check(self, *, has_asset: bool) -> None:
        """Raise UsageError for what makes no sense."""
        if (self.no_owners or self.no_uploaders) and not self.replace:
            raise click.UsageError("--no-owners and --no-uploaders need --replace")
        if has_asset and self.global_write is not None:
            raise click.UsageError("--global-write is for whole projects: leave out the asset")
        if self.new_owners is None and self.new_uploaders is None and self.global_write is None:
            raise click.UsageError("nothing to change: give --owner, --uploader or --global-write")


COMMANDS = {"permissions": group("permissions", "Show or change who may do what.", show, set_)}
