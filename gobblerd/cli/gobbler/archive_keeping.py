"""`gobbler archive rename|prune`: archives that lie in a directory."""

import os
from collections.abc import Sequence
from typing import Literal

import click

from gobblerd.cli.gobbler.session import Session, verb
from gobblerd.cli.gobbler.text import counted


@verb("rename")
@click.argument(
    "archives", nargs=-1, required=True, metavar="ARCHIVE...", type=click.Path(exists=True, dir_okay=False)
)
@click.option("--version", metavar="VERSION", help="Which version it is, where no receipt says it.")
@click.option(
    "--checksum", type=click.Choice(["tree", "file"]), default="tree", help="Of what the digits are."
)
@click.option(
    "--to",
    "destdir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Into this directory.",
)
@click.option("--clean", is_flag=True, help="Remove older archives of the same asset there.")
@click.option("--keep", is_flag=True, help="Keep the original, too.")
@click.option("--name-template", metavar="TEXT", help="How archives are called.")
def rename(
    session: Session,
    archives: Sequence[str],
    *,
    version: str | None,
    checksum: Literal["tree", "file"],
    destdir: str | None,
    clean: bool,
    keep: bool,
    name_template: str | None,
) -> None:
    """Check ARCHIVEs, and name them after project, asset, version and checksum."""
    from gobblerd.archive import update_archive  # noqa: PLC0415 - not needed for help

    template = {} if name_template is None else {"name_template": name_template}
    done = [
        update_archive(
            path,
            version,
            checksum=checksum,
            destdir=destdir,
            clean=clean,
            keep=keep,
            **template,
        )
        for path in archives
    ]
    answer = {"archives": [{"path": each.path, "removed": list(each.removed)} for each in done]}
    session.show(answer, lambda: [each.path for each in done])


@verb("prune")
@click.argument("directory", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--keep-last",
    type=click.IntRange(0),
    metavar="N",
    help="Keep those of the N newest versions of each asset.",
)
@click.option("--keep-days", type=click.FloatRange(0), metavar="N", help="Keep those younger than N days.")
@click.option(
    "--pin", "pins", multiple=True, metavar="PATTERN", help="Keep these: file name or project/asset/version."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
def prune(
    session: Session,
    directory: str,
    *,
    keep_last: int | None,
    keep_days: float | None,
    pins: Sequence[str],
    dry_run: bool,
) -> None:
    """Remove the archives in DIRECTORY that no rule keeps, with their receipts.

    Archives that nobody knows the version of stay.
    """
    from gobblerd.archive import Retention, prune_archives  # noqa: PLC0415 - not needed for help

    if keep_last is None and keep_days is None:
        raise click.UsageError("give --keep-last or --keep-days, or both")
    pruned = prune_archives(directory, Retention(keep_last, keep_days, tuple(pins)), dry_run=dry_run)
    if pruned.failed:
        raise OSError(0, "could not be removed", os.path.join(directory, pruned.failed[0]))
    answer = {
        "removed": list(pruned.removed),
        "kept": list(pruned.kept),
        "unsure": list(pruned.unsure),
        "freed": pruned.freed,
        "dry_run": dry_run,
    }
    doing = "would be removed" if dry_run else "removed"
    session.show(
        answer,
        lambda: [
            *pruned.removed,
            f"{counted(len(pruned.removed), 'archive')} {doing}, {len(pruned.kept)} kept",
        ],
    )


COMMANDS = {"rename": rename, "prune": prune}
