"""`gobbler archive ...`: finds the module of a subcommand when it is asked for.

`archive_making.py` has those that write archives, `archive_taking.py` those that read them.
"""

import importlib
from collections.abc import Mapping

import click

_MODULES: Mapping[str, str] = {  # subcommand -> module, in the order of need
    "create": "archive_making",
    "export": "archive_making",
    "inspect": "archive_taking",
    "verify": "archive_taking",
    "extract": "archive_taking",
    "install": "archive_taking",
    "rename": "archive_keeping",
    "prune": "archive_keeping",
}
_ABOUT: Mapping[str, str] = {
    "create": "Make an archive of a version, or of any files.",
    "export": "Have the service write an archive, or copy a version.",
    "inspect": "Say what an archive holds.",
    "verify": "Check an archive to its last byte.",
    "extract": "Extract an archive: all of it, or nothing.",
    "install": "Extract an archive and run its script.",
    "rename": "Name archives after what they are.",
    "prune": "Remove old archives from a directory.",
}


class _Group(click.Group):
    """Knows its subcommands by name and first line until one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of need."""
        return list(_MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a subcommand."""
        if cmd_name not in _MODULES:
            return None
        found: click.Command = importlib.import_module(f"gobblerd.cli.gobbler.{_MODULES[cmd_name]}").COMMANDS[
            cmd_name
        ]
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """List the subcommands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _ABOUT[name]) for name in _MODULES])


COMMANDS = {
    "archive": _Group("archive", help="Make, check and unpack archives of versions.", no_args_is_help=True)
}
