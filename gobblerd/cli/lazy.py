"""Groups of subcommands whose modules are imported when one is asked for, and not before."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Knows its subcommands by name and first line, `about`, in the order of need; `load` imports one."""

    def __init__(
        self,
        name: str | None = None,
        *,
        about: Mapping[str, str],
        load: Callable[[str], click.Command],
        **attributes: Any,
    ) -> None:
        super().__init__(name, **attributes)
        self._about = about
        self._load = load

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of need."""
        return list(self._about)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a subcommand."""
        return self._load(cmd_name) if cmd_name in self._about else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the subcommands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self._about.items()))


def command_in(family: str, name: str) -> click.Command:
    """Import a module of `gobbler`'s, and return its subcommand of that name."""
    found: click.Command = importlib.import_module(f"gobblerd.cli.gobbler.{family}").COMMANDS[name]
    return found
