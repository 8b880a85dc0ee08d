"""`gobblerd recover`: finish or discard what daemons that died left in a registry."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gobblerd.domain.errors import GobblerdError, escaped

if TYPE_CHECKING:
    from gobblerd.registry.recovery import RecoveryFinding

_FAILED = "failed"  # how the account of what could not be done begins
_HEADINGS = ("transaction", "state", "places", "action", "done")


@click.command("recover")
@click.argument("registry", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
def command(registry: str, *, dry_run: bool) -> None:
    """Finish or discard what daemons that died left in REGISTRY; exit code 1 if something could not be done.

    For a registry whose daemons do not run: before a Go service continues it, for instance. A daemon that
    starts does this by itself.
    """
    path = os.path.abspath(registry)
    if not os.path.isdir(path):
        raise click.ClickException(f"the registry {path} is not there")
    from gobblerd.registry.recovery import recover_all  # noqa: PLC0415 - only this subcommand needs the registry's rooms

    try:
        findings = recover_all(path, dry_run=dry_run)
    except (GobblerdError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if not findings:
        click.echo(f"nothing to recover in {path}")
        return
    click.echo("\n".join(table(findings)))
    if any(finding.done.startswith(_FAILED) for finding in findings):
        sys.exit(1)


def table(findings: Sequence["RecoveryFinding"]) -> list[str]:
    """Return the findings as aligned lines under headings."""
    rows = [
        _HEADINGS,
        *((f.transaction, f.state, ", ".join(f.places) or "-", f.action, f.done) for f in findings),
    ]
    shown = [tuple(escaped(cell) for cell in row) for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(_HEADINGS))]
    return ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in shown]
