"""`gobblerd audit`: read a registry and list everything in it that is not as it must be."""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

import click

from gobblerd.domain.errors import quoted

if TYPE_CHECKING:
    from gobblerd.registry.audit import Audit, Tally, Unit

_EXIT_FINDINGS = 1
_TOLD_SECONDS = 0.2

Tick = Callable[[int], None]


@click.command("audit")
@click.argument("registry", type=click.Path())
@click.option("--out", metavar="FILE", help="Write the findings here, complete or not at all.")
@click.option("--whitelist", metavar="DIR", multiple=True, help="Links may leave the registry for this.")
@click.option("--project", "projects", metavar="P", multiple=True, help="Look at this project only.")
@click.option("--fast", is_flag=True, help="Look at sizes and links, and read no file's bytes.")
def command(
    registry: str, out: str | None, whitelist: tuple[str, ...], projects: tuple[str, ...], *, fast: bool
) -> None:
    """Check everything in REGISTRY that can be checked from disk, and change nothing.

    Each finding is a line of JSON; the last line on standard error says how much was looked at. Exit code 0:
    nothing is wrong (notices do not count); 1: something is; 2: wrong usage, or no registry there.
    """
    from gobblerd.registry.audit import Audit  # noqa: PLC0415 - only this subcommand needs the registry's rooms

    path = _registry(registry)
    done = _Done()
    directories = [os.path.normpath(os.path.abspath(directory)) for directory in whitelist]
    try:
        audit = Audit(path, whitelist=directories, fast=fast, tick=done.add)
        chosen = _units(audit, projects)
        with _output(path, out) as lines, _bar(done, chosen, audit, fast=fast) as told:
            for finding in audit.run(told):
                lines.write(json.dumps(finding.document()) + "\n")
                lines.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _Unusable(f"{error.filename or path}: {error.strerror}") from None
    click.echo(summary(audit.tally, fast=fast), err=True)
    if audit.tally.faults:
        sys.exit(_EXIT_FINDINGS)


class _Unusable(click.ClickException):
    """What was named cannot be used."""

    exit_code = 2


class _Done:
    """The bytes read so far, for whoever shows them."""

    def __init__(self) -> None:
        self.bytes = 0
        self.tell: Tick = lambda _: None  # told of the sum

    def add(self, size: int) -> None:
        """Count bytes that were read."""
        self.bytes += size
        self.tell(self.bytes)


def _registry(given: str) -> str:
    path = os.path.abspath(given)
    if not os.path.isdir(path):
        raise _Unusable(f"the registry {path} is not there")
    try:
        names = os.listdir(path)
    except OSError as error:
        raise _Unusable(f"{path}: {error.strerror}") from None
    from gobblerd.registry.audit_places import UNREMARKABLE  # noqa: PLC0415 - as above

    if not set(names) - UNREMARKABLE:  # an unmounted filesystem must not pass for a sound registry
        raise _Unusable(f"{path} is empty: no registry is there (is its filesystem mounted?)")
    return path


def _units(audit: "Audit", projects: Sequence[str]) -> list["Unit"]:
    from gobblerd.registry.audit import units  # noqa: PLC0415 - as above

    known = {place.project for place in audit.metadata.projects()}
    for project in projects:
        if project not in known:
            raise _Unusable(f"there is no project {quoted(project)} in the registry")
    return list(units(audit.metadata, projects))


def summary(tally: "Tally", *, fast: bool) -> str:
    """Return the one line that says how much was looked at, and what came of it."""
    seen = f"{tally.projects} projects, {tally.versions} versions, {tally.files} files, {tally.size} bytes"
    return f"{seen}{' (not read)' if fast else ''}: {tally.faults} findings, {tally.notices} notices"


@contextlib.contextmanager
def _output(registry: str, out: str | None) -> Iterator[TextIO]:
    """Yield where the lines go: standard output, or a file that appears when all of them are in it."""
    if out is None:
        yield sys.stdout
        return
    path = os.path.realpath(out)
    if os.path.commonpath([path, os.path.realpath(registry)]) == os.path.realpath(registry):
        raise _Unusable("an audit writes nothing into the registry; name another file for --out")
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.getpid()}.new")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


@contextlib.contextmanager
def _bar(done: _Done, chosen: list["Unit"], audit: "Audit", *, fast: bool) -> Iterator[Iterator["Unit"]]:
    """Yield the units, with a bar on standard error that follows them, if that is a terminal."""
    if not sys.stderr.isatty():
        yield iter(chosen)
        return
    from rich import progress as rich  # noqa: PLC0415 - 60 ms that are needed on a terminal only
    from rich.console import Console  # noqa: PLC0415 - as above

    from gobblerd.registry.audit import unit_bytes  # noqa: PLC0415 - as above

    shown = (rich.TextColumn("{task.description}", markup=False), rich.BarColumn(), rich.TaskProgressColumn())
    columns = shown if fast else (*shown, rich.DownloadColumn(), rich.TransferSpeedColumn())
    console = Console(stderr=True)
    with rich.Progress(
        *columns, console=console, transient=True, refresh_per_second=1 / _TOLD_SECONDS
    ) as bar:
        task = bar.add_task("counting", total=None)
        total = len(chosen) if fast else sum(unit_bytes(audit.metadata, unit) for unit in chosen)
        bar.update(task, total=total)

        if not fast:
            done.tell = lambda size: bar.update(task, completed=size)

        def followed() -> Iterator["Unit"]:
            for number, unit in enumerate(chosen):
                bar.update(task, description=f"audit {number}/{len(chosen)}", advance=int(fast))
                yield unit

        yield followed()
