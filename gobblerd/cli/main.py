"""The `gobblerd` command: finds the subcommand, and passes for the Go service where it is started like it.

Imports click only: each subcommand's module, and what it needs, is imported when it is asked for.
"""

import importlib
import os
import signal
import sys
from collections.abc import Mapping
from types import FrameType

import click

from gobblerd import __version__
from gobblerd.cli.go_options import is_go_option
from gobblerd.cli.lazy import LazyGroup
from gobblerd.cli.running import open_standard_streams, run
from gobblerd.service.imports import uncollected

_COMMANDS: Mapping[str, str] = {
    "serve": "gobblerd.cli.serve",
    "init": "gobblerd.cli.init",
    "check-config": "gobblerd.cli.check_config",
    "doctor": "gobblerd.cli.doctor.command",
    "recover": "gobblerd.cli.recover",
    "audit": "gobblerd.cli.audit",
    "demo": "gobblerd.cli.demo",
    "status": "gobblerd.cli.status",
}

_UNPRINTED = 2  # 1 is what doctor, recover and audit say of what they find

# The subcommands' first lines in short, so that `gobblerd --help` imports none of them and cuts none off.
_ABOUT: Mapping[str, str] = {
    "serve": "Serve a staging directory and a registry.",
    "init": "Make, or adopt, a staging directory and a registry.",
    "check-config": "Say what a configuration amounts to, or what is wrong.",
    "doctor": "Examine a deployment, before its users do.",
    "recover": "Finish or discard what dead daemons left.",
    "audit": "Check everything in a registry, to the last byte.",
    "demo": "Show gobblerd at work on temporary directories.",
    "status": "Say how the daemon of a staging directory fares.",
}


def _loaded(name: str) -> click.Command:
    with uncollected():
        found: click.Command = importlib.import_module(_COMMANDS[name]).command
    return found


class _Group(LazyGroup):
    """Passes for the Go service, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the Go service's options without a subcommand for `serve`."""
        if args and is_go_option(args[0]):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Group, about=_ABOUT, load=_loaded, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gobblerd")
def command() -> None:
    """Keep a registry of versioned data on a shared filesystem, fed by dropped request files."""


def _stop_at_once(_number: int, _frame: FrameType | None) -> None:
    """End as a daemon does that is told to stop; nothing was begun yet."""
    sys.exit(0)


def main() -> None:
    """Run the command line of this process."""
    open_standard_streams()
    first = "".join(sys.argv[1:2])
    if first == "serve" or is_go_option(first):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop_at_once)  # until the daemon takes them: to import it takes a while
    # To look for plugins, pydantic reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.exit(run("gobblerd", _command, "the output cannot be printed", _UNPRINTED))


def _command() -> object:
    return command.main(prog_name="gobblerd", standalone_mode=False)


if __name__ == "__main__":
    main()
