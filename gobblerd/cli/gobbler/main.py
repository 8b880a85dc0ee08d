"""The `gobbler` command: finds the subcommand, and turns how it ends into the exit code.

0 done, 1 refused, 2 wrong usage, 3 nobody to be reached, 4 no answer in time; 129, 130 and 143 after SIGHUP
(the terminal was closed), Ctrl-C and SIGTERM, 141 where the reader of the output went away. Of what is not
Python's own it imports click only.
"""

import contextlib
import json
import signal
import sys
from collections.abc import Mapping
from types import FrameType

import click

from gobblerd import __version__
from gobblerd.cli.lazy import LazyGroup, command_in
from gobblerd.cli.running import Unprintable, open_standard_streams, run

_FAMILIES: Mapping[str, str] = {  # subcommand -> module, in the order of need
    "upload": "upload",
    "fetch": "fetch",
    "ls": "listing",
    "info": "info",
    "manifest": "documents",
    "summary": "documents",
    "latest": "documents",
    "usage": "documents",
    "permissions": "permissions",
    "project": "places",
    "asset": "places",
    "version": "places",
    "probation": "probation",
    "clone": "upkeep",
    "validate": "upkeep",
    "reindex": "upkeep",
    "reroute": "upkeep",
    "refresh": "upkeep",
    "quota": "quota",
    "mirror": "mirror",
    "archive": "archive",
    "request": "requests",
    "wait": "requests",
    "do": "do",
}
# The first lines of the subcommands' help, so that `gobbler --help` imports none of them.
_ABOUT: Mapping[str, str] = {
    "upload": "Make a new version of a directory.",
    "fetch": "Get the files of a version.",
    "ls": "List projects, assets, versions or files.",
    "info": "Show a place, or which service is used.",
    "manifest": "Show a version's files, sizes and checksums.",
    "summary": "Show who uploaded a version, and when.",
    "latest": "Print an asset's latest version.",
    "usage": "Show what projects occupy.",
    "permissions": "Show or change who may do what.",
    "project": "Create or remove a project.",
    "asset": "Remove an asset.",
    "version": "Remove a version.",
    "probation": "List, approve or reject versions.",
    "clone": "Make a directory of links to a version.",
    "validate": "Check a version's files and links.",
    "reindex": "Rebuild a version's manifest and links.",
    "reroute": "Save links into what will be deleted.",
    "refresh": "Compute usage or latest version anew.",
    "quota": "Show or change a project's quota.",
    "mirror": "Copy releases between places.",
    "archive": "Make, check and unpack archives.",
    "request": "Drop a request document, print the answer.",
    "wait": "Wait for the answer to a request.",
    "do": "Ask for any action by its own name.",
}
_REFUSED = 1
_ENDING = (signal.SIGHUP, signal.SIGTERM)


@click.group(
    cls=LazyGroup,
    about=_ABOUT,
    load=lambda name: command_in(_FAMILIES[name], name),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Every command takes --staging, --registry and --url, or finds them in GOBBLER_STAGING, "
    "GOBBLER_REGISTRY and GOBBLER_URL, or in ~/.config/gobbler/config.toml.",
)
@click.version_option(__version__, prog_name="gobbler")
def command() -> None:
    """Keep versions of data in a registry: upload, fetch, look, and ask for changes."""


def main() -> None:
    """Run the command line of this process."""
    open_standard_streams()
    for number in _ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored: `nohup gobbler ...`
            signal.signal(number, _ended)
    sys.exit(run("gobbler", _answered, "done, but the answer cannot be printed", _REFUSED))


def _answered() -> object:
    try:
        return command.main(prog_name="gobbler", standalone_mode=False)
    except click.ClickException as error:
        if "--json" in sys.argv[1:]:
            answer = {"status": "ERROR", "code": None, "reason": error.format_message()}
            with contextlib.suppress(Unprintable):
                click.echo(json.dumps(answer, indent=2))
        raise


def _ended(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)  # an exception, so that what was begun in staging is cleared away
