"""`gobbler do ACTION`: a subcommand for every action there is, made from its model.

The models (`gobblerd.actions`) are imported when this subcommand or its help is asked for, and not before.
Nothing is checked here that the daemon checks; the types only say how a value is written.
"""

import json
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import click

from gobblerd.cli.gobbler.session import COMMON, Session, Verb

_TAKEN = {*COMMON, "json", "help"}  # options with another meaning: such a field is --field-NAME


def _json(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not JSON: {error}") from None


class _Actions(click.Group):
    """Has a subcommand for each action."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of the actions."""
        return list(_models())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Make the subcommand of an action."""
        model = _models().get(cmd_name)
        return None if model is None else _verb_of(cmd_name, model)


def _models() -> Mapping[str, Any]:
    from gobblerd.actions.discovery import discover  # noqa: PLC0415 - pydantic and the registry: 300 ms

    return discover()


def _verb_of(name: str, model: Any) -> click.Command:
    about = (model.__doc__ or "").strip()
    who = "\n\nFor administrators only." if model.administrators_only else ""
    return Verb(name, callback=_asker(name), params=_options(model), help=f"{about}{who}")


def _asker(action: str) -> Callable[..., None]:
    @click.pass_obj
    def ask(session: Session, /, **fields: Any) -> None:
        answer = session.ask(action, **fields)
        session.print_json({"status": "SUCCESS", **answer})

    return ask


def _options(model: Any) -> list[click.Parameter]:
    """Return an option for every field."""
    options: list[click.Parameter] = []
    for name, field in model.model_fields.items():
        spelled = ("field-" if name in _TAKEN else "") + name.replace("_", "-")
        required = field.is_required()
        kind = _plain(field.annotation)
        about = {"required": required, "help": field.description or ("" if required else "Optional.")}
        if kind is bool:
            options.append(click.Option([f"--{spelled}/--no-{spelled}", name], default=None, **about))
        elif kind in {str, int, float}:
            metavar = {str: "TEXT", int: "N", float: "X"}[kind]
            options.append(click.Option([f"--{spelled}", name], type=kind, metavar=metavar, **about))
        else:
            options.append(click.Option([f"--{spelled}", name], callback=_json, metavar="JSON", **about))
    return options


def _plain(annotation: Any) -> Any:
    """Return the type without Annotated, and without None."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        rest = [_plain(each) for each in typing.get_args(annotation) if each is not types.NoneType]
        return rest[0] if len(rest) == 1 else None
    return annotation


COMMANDS: Mapping[str, click.Command] = {
    "do": _Actions(
        "do",
        help="Ask for any action by its own name.\n\n"
        "Each action takes its fields as options and prints its answer as a JSON document.",
        no_args_is_help=True,
    )
}
