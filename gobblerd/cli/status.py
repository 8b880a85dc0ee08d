"""`gobblerd status`: what the daemon of a staging directory is doing, from what it writes there."""

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gobblerd.cli.gobbler.text import counted, size
from gobblerd.domain.errors import escaped_line
from gobblerd.service.status import Reading, read_status

if TYPE_CHECKING:
    from gobblerd.service.shares import Figures, Share

_EXIT_NOT_RUNNING = 3
_RECENT = 10
_FULLEST = 10  # projects
_LABEL = 16  # columns
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@click.command("status")
@click.argument("staging", type=click.Path(), required=False)
@click.option("--config", "config_file", metavar="FILE", help="Take the staging directory from here.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def command(staging: str | None, config_file: str | None, *, as_json: bool) -> None:
    """Show queue, recent requests, schedules and usage of the daemon of STAGING; exit code 3 if none runs."""
    path = os.path.abspath(staging) if staging else _configured(config_file)
    try:
        reading = read_status(path)
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    if as_json:
        usage, _ = _usage(reading.document or {})
        shown = {
            "alive": reading.alive,
            "age": reading.age,
            "status": reading.document,
            "usage": usage and asdict(usage),
        }
        click.echo(json.dumps(shown, indent=2))
    else:
        click.echo("\n".join(escaped_line(line) for line in lines(path, reading)))
    if not reading.alive:
        sys.exit(_EXIT_NOT_RUNNING)


def _configured(config_file: str | None) -> str:
    from gobblerd.cli.settings import load_or_exit  # noqa: PLC0415 - 170 ms that a named directory does not need
    from gobblerd.service.settings import FILE_VARIABLE  # noqa: PLC0415 - as above

    file = config_file or os.environ.get(FILE_VARIABLE)
    if file is None:
        raise click.UsageError("name the staging directory, or the configuration with --config")
    return load_or_exit(file, {}).staging


def lines(staging: str, reading: Reading) -> Iterator[str]:
    """Yield the status for people to read."""
    document = reading.document
    if document is None:
        known = "its status cannot be read yet" if reading.alive else "and none has left a status"
        yield f"{'a' if reading.alive else 'no'} daemon serves {staging}, {known}"
        return
    state = document.get("state", "?") if reading.alive else "not running"
    yield (
        f"gobblerd {document.get('version')} is {state} "
        f"(pid {document.get('pid')} on {document.get('host')}, started {document.get('started')})"
    )
    yield _line("status", f"written {duration(reading.age)} ago")
    for key in ("staging", "registry", "url"):
        yield _line(key, document.get(key) or "-")
    watch = _mapping(document.get("watch"))
    dead = "" if watch.get("alive") else " (DEAD)"
    yield _line("watching", f"{watch.get('mode')}: {watch.get('reason')}{dead}")
    for problem in document.get("problems") or []:
        yield _line("PROBLEM", problem)
    yield from _spool(_mapping(document.get("spool")))
    yield from _schedules(document.get("schedules") or [])
    usage, problem = _usage(document)
    yield _line("usage", _sum(usage) if usage else problem)
    yield from (f"  {_share(share)}" for share in (usage.shown if usage else ()))


def _usage(document: Mapping[str, Any]) -> "tuple[Figures | None, str]":
    """Return what the projects use, by the registry itself; or None, and why that cannot be told."""
    from gobblerd.domain.times import year_of  # noqa: PLC0415 - 130 ms for one line
    from gobblerd.registry.metadata import Metadata  # noqa: PLC0415 - as above
    from gobblerd.service.shares import figures_of, shares_of  # noqa: PLC0415 - as above

    try:
        metadata = Metadata(str(document["registry"]))
        return figures_of(shares_of(metadata, year_of(time.time_ns()), enforced=True), _FULLEST), ""
    except KeyError:
        return None, "not known: the daemon does not say of which registry"
    except OSError as error:
        return None, f"cannot be read from here: {error.strerror}"


def _sum(usage: "Figures") -> str:
    return f"{size(usage.stored)} in {counted(usage.projects, 'project')}"


def _share(share: "Share") -> str:
    used = f"{share.project}  {size(share.used)}"
    if share.limit is None:
        return used
    part = f" ({share.used / share.limit:.0%})" if share.limit else ""
    return f"{used} of {size(share.limit)}{part}"


def _line(label: str, value: object) -> str:
    return f"{label:<{_LABEL}}{value}"


def _spool(spool: Mapping[str, Any]) -> Iterator[str]:
    for key, value in spool.items():
        if not isinstance(value, list | tuple):
            yield _line(key.replace("_", " "), _fact(value))
    for title, key in (("requests at hand:", "at_hand"), ("recent requests:", "recent")):
        requests = list(spool.get(key) or [])
        if requests:
            yield title
        for request in requests[-_RECENT:] if key == "recent" else requests[:_RECENT]:
            yield "  " + "  ".join(_fact(value) for value in _mapping(request).values() if value != "")


def _schedules(schedules: list[Any]) -> Iterator[str]:
    if schedules:
        yield "schedules:"
    for schedule in map(_mapping, schedules):
        last = _mapping(schedule.get("last"))
        outcome = (
            f"last {last.get('outcome')} {last.get('finish') or last.get('start')}" if last else "never run"
        )
        reason = f" ({last['reason']})" if last.get("reason") else ""
        numbers = {key: value for key, value in _mapping(last.get("numbers")).items() if value}
        reason += f": {_fact(numbers)}" if numbers and not reason else ""
        now = "running, " if schedule.get("running") else ""
        yield (
            f"  {schedule.get('name')}: {now}next {schedule.get('next_run') or 'never'}, {outcome}{reason}"
        )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _fact(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_fact(item)}" for key, item in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def duration(seconds: float | None) -> str:
    """Return a length of time in its greatest fitting unit."""
    if seconds is None:
        return "?"
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"
