"""`gobbler mirror`: releases from one place to another, whatever keeps them there."""

from typing import TYPE_CHECKING

import click

from gobblerd.cli.gobbler.progress import bar
from gobblerd.cli.gobbler.session import REFUSED, Session, verb
from gobblerd.cli.gobbler.text import counted, shown, size

if TYPE_CHECKING:
    from gobblerd.archive.mirroring import Mirrored


@verb("mirror")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.argument("spec")
@click.option("--dry-run", is_flag=True, help="Only say what would be copied.")
@click.option("--workers", type=click.IntRange(1, 64), default=4, help="Files at the same time; default 4.")
@click.option("--store-password", is_flag=True, help="Keep a typed password in the keyring.")
def mirror(
    session: Session,
    source: str,
    target: str,
    spec: str,
    dry_run: bool,  # noqa: FBT001 - click passes it by name
    workers: int,
    store_password: bool,  # noqa: FBT001 - as above
) -> None:
    """Copy releases FROM one place TO another: every byte checked, what is there left alone.

    SPEC is PROJECT/ASSET for all releases, or PROJECT/ASSET/EXPRESSION, like 'p/a/>=1.2,<2'. A place is the
    directory of a registry or of an rmellipse archive, or the URL of a gobblerd or a CDCS. To put releases
    into a registry, its staging directory is needed (--staging).
    """
    from gobblerd.archive.backends.choosing import get_backend  # noqa: PLC0415 - not needed for help
    from gobblerd.archive.mirroring import FAILED  # noqa: PLC0415 - as above
    from gobblerd.archive.mirroring import mirror as copy_releases  # noqa: PLC0415 - as above

    session.let_the_daemon_read()
    here = get_backend(source, ask=True, store=store_password)
    there = get_backend(target, staging=session.given_staging, ask=True, store=store_password)
    with bar(f"mirroring {spec}") as progress:
        each = progress.each if progress else None
        done = copy_releases(
            here, there, spec, max_workers=workers, dry_run=dry_run, progress=progress, each=each
        )
    failed = [one for one in done if one.outcome == FAILED]
    document = {
        "status": "ERROR" if failed else "SUCCESS",
        "from": here.host,
        "to": there.host,
        "releases": [one.document() for one in done],
    }
    session.show(document, lambda: [_line(one) for one in done])
    if failed:
        if not session.as_json:
            click.echo(f"gobbler: {counted(len(failed), 'release')} could not be copied", err=True)
        raise click.exceptions.Exit(REFUSED)


def _line(one: "Mirrored") -> str:
    place = f"{one.project}/{one.asset}/{one.version}"
    renamed = f" as {one.kept_as}" if one.kept_as != one.version else ""
    said = {
        "copied": f"copied{renamed}: {counted(one.files, 'file')}, {size(one.size)}",
        "there": f"is there already{renamed}",
        "planned": f"would be copied{renamed}: {counted(one.files, 'file')}, {size(one.size)}",
        "failed": "failed",
    }[one.outcome]
    return shown(f"{place} {said}" + (f": {one.reason}" if one.reason else ""))


COMMANDS = {"mirror": mirror}
