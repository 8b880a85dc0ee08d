"""`gobblerd audit`: read a registry, or a share of it, and list everything that is not as it must be."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import click

from gobblerd.archive.writing import temporary
from gobblerd.cli.audit_wanted import SHARD, Tick, Unusable, Wanted
from gobblerd.registry.layout import UNREMARKABLE

if TYPE_CHECKING:
    from gobblerd.registry.audit import Audit, Tally, Unit
    from gobblerd.registry.audit_parts import Source

_EXIT_FINDINGS = 1
_TOLD_SECONDS = 0.2


class _Audit(click.Command):
    """An audit of a registry, or with the word `merge` first, the merging of one that was shared out."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Hand `merge` its own arguments; a registry of that name is `./merge`."""
        if args[:1] == ["merge"]:
            return merge.make_context(f"{info_name} merge", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(
    "audit", cls=_Audit, epilog="gobblerd audit merge PART... [--out FILE] makes one report of all shares."
)
@click.argument("registry", type=click.Path())
@click.option("--out", metavar="FILE", help="Write the findings here, complete or not at all.")
@click.option("--whitelist", metavar="DIR", multiple=True, help="Links may leave the registry for this.")
@click.option("--project", "projects", metavar="P", multiple=True, help="Look at this project only.")
@click.option("--fast", is_flag=True, help="Look at sizes and links, and read no file's bytes.")
@click.option(
    "--shard", type=SHARD, metavar="I/N", help="Look at share I of N equal ones; FILE can continue."
)
@click.option("--plan", metavar="FILE", help="Where the shares are cut: made by the first, used by all.")
@click.option(
    "--dask", metavar="ADDRESS", help="Share it out over the workers of a dask.distributed cluster."
)
def command(
    registry: str,
    out: str | None,
    whitelist: tuple[str, ...],
    projects: tuple[str, ...],
    shard: "tuple[int, int] | None",
    plan: str | None,
    dask: str | None,
    *,
    fast: bool,
) -> None:
    """Check everything in REGISTRY that can be checked from disk, and change nothing.

    Each finding is a line of JSON; the last line on standard error says how much was looked at. Exit code 0:
    nothing is wrong (notices do not count); 1: something is; 2: wrong usage, or no registry there.
    """
    path = _registry(registry)
    directories = tuple(os.path.normpath(os.path.abspath(directory)) for directory in whitelist)
    wanted = Wanted(path, directories, projects, fast=fast)
    if plan and not shard:
        raise click.UsageError("--plan belongs to --shard")
    with _told(path):
        if dask and shard:
            raise click.UsageError("--dask shares out by itself: leave out --shard")
        if dask:
            from gobblerd.cli.audit_dask import audit_on  # noqa: PLC0415 - 1 s, for those who ask for it

            _finish(_report(path, out, audit_on(dask, wanted)), fast=fast)
        elif shard:
            _finish(_share(wanted, shard, plan, out), fast=fast)
        else:
            _finish(_whole(wanted, out), fast=fast)


@contextlib.contextmanager
def _told(path: str) -> Iterator[None]:
    """Tell what cannot be used."""
    from gobblerd.registry.audit_parts import Unmergeable  # noqa: PLC0415 - only this subcommand needs the registry's rooms

    try:
        yield
    except Unmergeable as error:
        raise Unusable(str(error)) from None
    except OSError as error:
        raise Unusable(f"{error.filename or path}: {error.strerror}") from None


def _finish(tally: "Tally", *, fast: bool) -> None:
    click.echo(summary(tally, fast=fast), err=True)
    if tally.faults:
        sys.exit(_EXIT_FINDINGS)


def _whole(wanted: Wanted, out: str | None) -> "Tally":
    done = _Done()
    audit = wanted.audit(done.add)
    chosen = wanted.units(audit.metadata)
    with _output(wanted.registry, out) as lines, _bar(done, chosen, audit, fast=wanted.fast) as told:
        for finding in audit.run(told):
            lines.write(json.dumps(finding.document()) + "\n")
            lines.flush()
    return audit.tally


def _share(wanted: Wanted, shard: tuple[int, int], plan: str | None, out: str | None) -> "Tally":
    """Audit one share, or what is left of it; the tally is of what this run looked at."""
    from gobblerd.registry.audit_parts import PartFile  # noqa: PLC0415 - as above
    from gobblerd.registry.audit_shares import chosen, pieces  # noqa: PLC0415 - as above

    if out is None:
        raise click.UsageError("--shard needs --out FILE, which it continues if it was killed")
    for each in filter(None, (out, plan)):
        _require_outside(wanted.registry, each)
        _require_file(each)
    done = _Done()
    audit = wanted.audit(done.add)
    units = wanted.units(audit.metadata)
    part = PartFile(os.path.realpath(out), wanted.header(audit.metadata, units, shard, plan))
    try:
        if part.is_done:
            click.echo(f"{out} is finished already", err=True)
            return part.tally()
        left = [p for unit in chosen(units, part.todo) for p in pieces(audit.metadata, unit)]
        with _bar(done, left, audit, fast=wanted.fast) as told:
            for examined in audit.examine(told):
                part.add(examined)
        part.finish()
        click.echo(f"share {shard[0]} of {shard[1]}, {done.bytes} bytes read", err=True)
        return part.tally()
    finally:
        part.close()


@click.command("merge")
@click.argument("parts", type=click.Path(), nargs=-1, required=True)
@click.option("--out", metavar="FILE", help="Write the report here, complete or not at all.")
def merge(parts: tuple[str, ...], out: str | None) -> None:
    """Make one report of the PARTs of an audit: the same, byte for byte, as without shares.

    All parts must be there and finished. Exit codes as those of the audit.
    """
    from gobblerd.registry.audit_parts import opened_parts  # noqa: PLC0415 - as above

    with _told(parts[0]), opened_parts(parts) as sources:
        _finish(_report(None, out, sources), fast=sources[0].header.terms.fast)


def _report(registry: str | None, out: str | None, sources: "Sequence[Source]") -> "Tally":
    from gobblerd.registry.audit import Tally  # noqa: PLC0415 - as above
    from gobblerd.registry.audit_parts import merged  # noqa: PLC0415 - as above

    tally = Tally()
    with _output(registry, out) as lines:
        for document in merged(sources, tally):
            lines.write(json.dumps(document) + "\n")
    return tally


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
        raise Unusable(f"the registry {path} is not there")
    try:
        names = os.listdir(path)
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from None
    if not set(names) - UNREMARKABLE:  # an unmounted filesystem must not pass for a sound registry
        raise Unusable(f"{path} is empty: no registry is there (is its filesystem mounted?)")
    return path


def summary(tally: "Tally", *, fast: bool) -> str:
    """Return the one line that says how much was looked at, and what came of it."""
    seen = f"{tally.projects} projects, {tally.versions} versions, {tally.files} files, {tally.size} bytes"
    return f"{seen}{' (not read)' if fast else ''}: {tally.faults} findings, {tally.notices} notices"


def _require_outside(registry: str, file: str) -> None:
    root = os.path.realpath(registry)
    if os.path.commonpath([os.path.realpath(file), root]) == root:
        raise Unusable("an audit writes nothing into the registry; name another file")


def _require_file(path: str) -> None:
    """Refuse what is no regular file: a device such as /dev/null would be replaced, or read without end."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise Unusable(
            f"{path} is there and is no regular file: name another, which appears when it is whole"
        )


@contextlib.contextmanager
def _output(registry: str | None, out: str | None) -> Iterator[TextIO]:
    """Yield where the lines go: standard output, or a file that appears when all of them are in it."""
    if out is None:
        yield sys.stdout
        return
    path = os.path.realpath(out)
    _require_file(out)
    if registry is not None:
        _require_outside(registry, out)
    with temporary(os.path.dirname(path)) as growing:
        text = io.TextIOWrapper(growing.file, encoding="utf-8", write_through=True)
        try:
            yield text
        finally:
            text.detach()
        growing.sync()
        growing.rename(path)


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
