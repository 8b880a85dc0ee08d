"""`gobbler request FILE`: drop any request document; `gobbler wait NAME`: wait for the answer to one."""

import contextlib
import json
import os
from typing import Any

import click

from gobblerd.cli.gobbler.dropping import COPY_PREFIX, clear_copy, drop
from gobblerd.cli.gobbler.progress import waiting_bar
from gobblerd.cli.gobbler.session import Session, verb
from gobblerd.domain.messages import REQUEST_PREFIX, action_of

_SUFFIX = ".json"
_ERRORS_FROM = 300


@verb("request")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--action", metavar="ACTION", help="What to ask for, if neither FILE nor its name says.")
@click.option("--no-wait", is_flag=True, help="Print the request's name for `gobbler wait`.")
def request(session: Session, file: str, *, action: str | None, no_wait: bool) -> None:
    """Drop the request document in FILE (-: standard input) and print its answer.

    The action is --action, or the key "action" of the document, or told by FILE's name: ACTION.json, or
    request-ACTION-anything.
    """
    document = _read(file)
    named = document.pop("action", None) if action is None else action
    name = os.path.basename(file)
    asked = named or action_of(name) or (name.removesuffix(_SUFFIX) if name.endswith(_SUFFIX) else None)
    if not isinstance(asked, str) or not asked or "/" in asked:
        raise click.UsageError(f"which action {file} asks for is not said: give --action")
    if no_wait:
        dropped = drop(str(session.asking.staging), asked, document)
        session.show({"request": dropped}, lambda: [dropped])
        return
    answer = session.submit(asked, document)
    print_answer(session, answer)


def _read(file: str) -> dict[str, Any]:
    with click.open_file(file, encoding="utf-8") as opened:
        text = opened.read()
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{file} is not a JSON object: a request is one, {{...}}")  # noqa: TRY004 - the file's fault
    return document


def print_answer(session: Session, answer: dict[str, Any]) -> None:
    """Print the answer to a request that was done, as one JSON document."""
    session.print_json({"status": "SUCCESS", **answer})


@verb("wait")
@click.argument("name")
def wait(session: Session, name: str) -> None:
    """Wait for the answer to the request NAME and print it.

    NAME is what --no-wait printed. The request, and what `gobbler upload --no-wait` copied for it, are
    cleared away once it is answered.
    """
    from gobblerd.client import drops  # noqa: PLC0415 - not needed for help
    from gobblerd.client.errors import GobblerError, refusal  # noqa: PLC0415 - as above

    staging = str(session.asking.staging)
    if not name.startswith(REQUEST_PREFIX) or "/" in name:
        raise click.UsageError(f"{name!r} is not the name of a request: they begin with {REQUEST_PREFIX!r}")
    path = os.path.join(staging, name)
    if not os.path.lexists(path) and drops.recorded(staging, name) is None:
        raise GobblerError(None, f"there is neither a request {name} in {staging} nor an answer to it")
    with waiting_bar() as waiting:
        answer = drops.wait(staging, name, session.timeout, waiting)
    _clear_away(staging, path)
    if answer.code >= _ERRORS_FROM:
        raise refusal(answer.code, answer.body)
    print_answer(session, dict(answer.body))


def _clear_away(staging: str, path: str) -> None:
    """Remove an answered request of ours, and the copy that was made for it; if it is not ours, nothing."""
    with contextlib.suppress(OSError, ValueError):
        if os.lstat(path).st_uid != os.geteuid():
            return
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        os.unlink(path)
        source = document.get("source") if isinstance(document, dict) else None
        if isinstance(source, str) and source.startswith(COPY_PREFIX) and "/" not in source:
            clear_copy(os.path.join(staging, source))


COMMANDS = {"request": request, "wait": wait}
