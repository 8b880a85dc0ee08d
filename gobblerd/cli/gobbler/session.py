"""What every subcommand has: the options that say where the service is, one way to answer, one to fail.

A `Verb` is a subcommand: its function gets the `Session` as its first argument. Errors of the client become
a sentence on standard error and an exit code here, and nowhere else.
"""

import contextlib
import itertools
import json
import os
import sys
import typing
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from gobblerd.cli.gobbler.progress import waiting_bar
from gobblerd.cli.running import Unprintable
from gobblerd.domain.errors import GobblerdError
from gobblerd.registry import layout

if TYPE_CHECKING:
    from gobblerd.client import Gobbler

REFUSED, WRONG_USAGE, UNREACHABLE, TIMED_OUT = 1, 2, 3, 4
DEBUG_VARIABLE = "GOBBLER_DEBUG"  # set: errors with a traceback
COMMON = ("staging", "registry", "url", "timeout", "as_json")
_READABLE = 0o055  # the daemon, who is another user, must be able to read what is dropped
_NOT_FOUND = 404
_LINES = 100  # that are printed at once

F = TypeVar("F", bound=Callable[..., Any])


def common_options() -> list[click.Parameter]:
    """Return the options that every subcommand has."""
    return [
        click.Option(["--staging"], metavar="DIR", help="Staging directory.  [env: GOBBLER_STAGING]"),
        click.Option(["--registry"], metavar="DIR", help="Registry's directory.  [env: GOBBLER_REGISTRY]"),
        click.Option(["--url"], metavar="URL", help="REST API; '' for none.  [env: GOBBLER_URL]"),
        click.Option(
            ["--timeout"],
            callback=_seconds,
            metavar="SECONDS",
            envvar="GOBBLER_TIMEOUT",
            help="Longest wait; default: while the daemon lives.  [env: GOBBLER_TIMEOUT]",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document and nothing else."),
    ]


def _seconds(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise click.BadParameter(f"{value!r} is not a number of seconds")
    return seconds


class Verb(click.Command):
    """A subcommand."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options())

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, with the session as `ctx.obj`."""
        session = ctx.obj = Session({name: ctx.params.pop(name) for name in COMMON})
        try:
            return super().invoke(ctx)
        except (OSError, ValueError, GobblerdError) as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            session.fail(error)


def verb(name: str) -> Callable[[F], click.Command]:
    """Make a subcommand of a function that takes the session first; its docstring is the help."""

    def decorate(function: F) -> click.Command:
        return click.command(name, cls=Verb)(click.pass_obj(function))

    return decorate


def group(name: str, about: str, *verbs: click.Command) -> click.Group:
    """Return a subcommand that has subcommands."""
    return click.Group(name, help=about, commands=list(verbs), no_args_is_help=True)


class Session:
    """One call of `gobbler`: the service it is for, and how it answers."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self.as_json: bool = given["as_json"]
        self.timeout: float | None = given["timeout"]

    @property
    def given_staging(self) -> str | None:
        """The staging directory if it was given as an option: for commands that know several services."""
        staging: str | None = self._given["staging"]
        return staging

    @cached_property
    def gobbler(self) -> "Gobbler":
        """The client; ValueError if the user's configuration file is wrong."""
        from gobblerd.client import Gobbler  # noqa: PLC0415 - not needed for help

        places = (self._given["staging"], self._given["registry"], self._given["url"])
        return Gobbler(*places, timeout=self.timeout)

    @cached_property
    def asking(self) -> "Gobbler":
        """The client for whoever drops a request: it knows a staging directory, which is there."""
        from gobblerd.client.errors import GobblerUnreachable  # noqa: PLC0415 - not needed for help

        gobbler = self.gobbler
        if not gobbler.staging and gobbler.url:
            gobbler.staging = gobbler.service_info().get("staging")
        if not gobbler.staging:
            raise GobblerUnreachable(
                None,
                "no staging directory is known: give --staging, or set GOBBLER_STAGING, "
                'or write staging = "..." into ~/.config/gobbler/config.toml',
            )
        if not os.path.isdir(gobbler.staging):
            raise GobblerUnreachable(
                None,
                f"there is no staging directory {gobbler.staging} on this machine: is it spelled right, "
                "and is its filesystem mounted here?",
            )
        self.let_the_daemon_read()
        return gobbler

    @staticmethod
    def let_the_daemon_read() -> None:
        """Make what this process writes from now on readable to others."""
        os.umask(os.umask(0) & ~_READABLE)

    # ---- asking

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        """Ask for an action; fields that are None are left out. Return the answer's own keys."""
        return self.submit(action, {key: value for key, value in fields.items() if value is not None})

    def submit(self, action: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for an action by its request's document; return the answer's own keys."""
        from gobblerd.client import submit  # noqa: PLC0415 - not needed for help

        staging, url = self.asking.staging, self.asking.url
        with waiting_bar() as waiting:
            return submit(staging, url, action, document, timeout=self.timeout, waiting=waiting)

    def document(self, path: str) -> Any:
        """Read one JSON document of the registry; None if it is not there."""
        from gobblerd.client.reading import document_or_none  # noqa: PLC0415 - not needed for help

        return document_or_none(path, self.gobbler.registry, self.gobbler.url, force_remote=False)

    def permissions(self, place: str) -> dict[str, Any] | None:
        """Read the permissions of a project or an asset; None if it has none."""
        from gobblerd.client.reading import with_lists  # noqa: PLC0415 - not needed for help

        found = self.document(f"{place}/{layout.PERMISSIONS}")
        return None if found is None else with_lists(found)

    # ---- answering

    def done(self, sentence: str, answer: Mapping[str, Any] | None = None) -> None:
        """Report that an action was done; `answer` holds its own keys."""
        if self.as_json:
            self.print_json({"status": "SUCCESS", **(answer or {})})
        else:
            self.say([sentence])

    def show(self, document: Any, lines: Callable[[], typing.Iterable[str]]) -> None:
        """Print a document: as it is with --json, else as lines for people."""
        if self.as_json:
            self.print_json(document)
        else:
            self.say(lines())

    @staticmethod
    def say(lines: typing.Iterable[str]) -> None:
        """Print lines as they are (click would take escape sequences out of names)."""
        rest = iter(lines)
        while some := [f"{line}\n" for line in itertools.islice(rest, _LINES)]:
            sys.stdout.writelines(some)

    def print_json(self, document: Any) -> None:
        """Print one JSON document."""
        self.say([json.dumps(document, indent=2, ensure_ascii=not _prints_unicode())])

    # ---- failing

    def fail(self, error: Exception) -> NoReturn:
        """Say what is wrong, and end with the exit code for that."""
        code, sentence, details = self._judge(error)
        if self.as_json:
            with contextlib.suppress(Unprintable):
                self.print_json({"status": "ERROR", "code": None, **details, "reason": sentence})
                sys.stdout.flush()
        click.echo(f"gobbler: {sentence}", err=True)
        raise click.exceptions.Exit(code)

    def _judge(self, error: Exception) -> tuple[int, str, dict[str, Any]]:
        """Return exit code, sentence, and what else a JSON document should say."""
        from gobblerd.client.errors import GobblerError, GobblerTimeout, GobblerUnreachable  # noqa: PLC0415 - as above

        if isinstance(error, GobblerTimeout):  # without --timeout: the daemon has been silent for long
            return UNREACHABLE if self.timeout is None else TIMED_OUT, error.reason, {}
        if isinstance(error, GobblerUnreachable):
            return UNREACHABLE, error.reason, {}
        if isinstance(error, GobblerError):
            return REFUSED, error.reason, {"code": error.code, **error.answer}
        if isinstance(error, GobblerdError):  # what is done without a daemon, by the rules of the daemon
            return REFUSED, error.reason, dict(error.details())
        if isinstance(error, OSError):
            return REFUSED, _sentence_of(error), {}
        return WRONG_USAGE, str(error), {}


def absent(what: str) -> Exception:
    """Return the error to be raised for a place that is not there."""
    from gobblerd.client.errors import GobblerError  # noqa: PLC0415 - not needed for help

    return GobblerError(_NOT_FOUND, f"there is no {what}: `gobbler ls` shows what there is")


def _sentence_of(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _prints_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
