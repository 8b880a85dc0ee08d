"""`gobblerd recover`: finish or discard what daemons that died left in a registry."""

import os
import pwd
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from gobblerd.domain.errors import GobblerdError, escaped, told

if TYPE_CHECKING:
    from gobblerd.registry.recovery_report import RecoveryFinding

_FAILED = "failed"  # how the account of what could not be done begins
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)  # of a staging directory
_HEADINGS = ("transaction", "state", "places", "action", "done")


def _checked(_context: click.Context, _option: click.Parameter, given: str | None) -> str | None:
    """Refuse what cannot be the id of a staging directory."""
    if given is not None and not _ID.fullmatch(given):
        raise click.BadParameter("it has 16 hexadecimal digits: see responses/.id, or how transactions begin")
    return given


@click.command("recover")
@click.argument("registry", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option(
    "--gone",
    metavar="ID",
    callback=_checked,
    help="A staging directory that is gone for good, by its id: forget what waits for its daemon.",
)
def command(registry: str, gone: str | None, *, dry_run: bool) -> None:
    """Finish or discard what daemons that died left in REGISTRY; exit code 1 if something could not be done.

    For a registry whose daemons do not run: before a Go service continues it, for instance. A daemon that
    starts does this by itself, and answers the requests in its staging directory.
    """
    path = os.path.abspath(registry)
    if not os.path.isdir(path):
        raise click.ClickException(f"the registry {path} is not there")
    if not dry_run:
        _require_no_strange_root(path)
    from gobblerd.registry.recovery_report import recover_all  # noqa: PLC0415 - only this subcommand needs the registry's rooms

    try:
        findings = recover_all(path, dry_run=dry_run, gone=gone)
    except (GobblerdError, OSError) as error:
        raise click.ClickException(told(error)) from None
    if not findings:
        click.echo(f"nothing to recover in {path}")
        return
    click.echo("\n".join([*table(findings), *_what_to_do(findings, path)]))
    if any(finding.done.startswith(_FAILED) for finding in findings):
        sys.exit(1)


def _require_no_strange_root(registry: str) -> None:
    """Refuse root where the registry is another account's: its daemon could not open what we would make."""
    owner = os.stat(registry).st_uid
    if owner and os.geteuid() == 0:
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = f"#{owner}"
        raise click.ClickException(
            f"the registry {registry} is {name}'s, and all in it must be: run this as that account "
            f"(runuser -u {name} -- ...); with --dry-run root may, too"
        )


def _what_to_do(findings: Sequence["RecoveryFinding"], registry: str) -> Iterator[str]:
    """Yield what the sysadmin can do about transactions that wait for a daemon."""
    for staging in sorted({finding.waits_for for finding in findings} - {""}):
        if _ID.fullmatch(staging):
            yield (
                f"What waits is done once the daemon of the staging directory with the id {staging} (in its "
                "responses/.id) starts. If that directory is gone for good, with all requests in it: "
                f"gobblerd recover --gone {staging} {registry}"
            )


def table(findings: Sequence["RecoveryFinding"]) -> list[str]:
    """Return the findings as aligned lines under headings."""
    rows = [
        _HEADINGS,
        *((f.transaction, f.state, ", ".join(f.places) or "-", f.action, f.done) for f in findings),
    ]
    shown = [tuple(escaped(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(_HEADINGS))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in shown]
