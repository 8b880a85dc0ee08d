"""`gobbler archive inspect|verify|extract|install`: archives as files; no service is needed."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from gobblerd.cli.gobbler.progress import bar
from gobblerd.cli.gobbler.session import REFUSED, Session, verb
from gobblerd.cli.gobbler.text import columns, counted, exact_size, facts, shown, size

if TYPE_CHECKING:
    from gobblerd.archive.inspect import Inspection
    from gobblerd.archive.receipt import Receipt
    from gobblerd.archive.verify import Verified

_ARCHIVE = click.Path(exists=True, dir_okay=False)
_receipt = click.option(
    "--receipt", metavar="FILE", type=_ARCHIVE, help="Its receipt; default: ARCHIVE.receipt.json."
)
_require = click.option("--require-sha256", is_flag=True, help="Refuse an archive without a receipt.")
_large = click.option("--allow-large", is_flag=True, help="Take more than 4 GiB.")


@contextlib.contextmanager
def _reading(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yield what is to be told of progress."""
    with bar(doing) as display:
        yield lambda done, total: display(0, 1, done, total) if display else None


@verb("inspect")
@click.argument("archive", type=_ARCHIVE)
@click.option("-l", "--long", is_flag=True, help="List the members.")
@_receipt
@_large
def inspect(session: Session, *, archive: str, long: bool, **how: Any) -> None:
    """Say what an archive holds.

    And what extracting it would do, without extracting it. The exit code is 1 for an archive that would be
    refused.
    """
    from gobblerd.archive.inspect import inspect_archive  # noqa: PLC0415 - not needed for help

    with _reading("reading") as progress:
        found = inspect_archive(archive, progress=progress, **how)
    document = {
        "format": found.format,
        "size": found.size,
        "extracted": found.extracted,
        "files": found.count("file"),
        "directories": found.count("directory"),
        "links": found.count("link"),
        "top": found.top,
        "has_manifest": found.has_manifest,
        "summary": found.summary,
        "receipt": _described(found.receipt),
        "refusal": found.refusal,
    }
    if long:
        document["members"] = [asdict(member) for member in found.members]
    session.show(document, lambda: _inspected(found, long=long))
    if found.refusal:
        raise click.exceptions.Exit(REFUSED)


def _described(receipt: "Receipt | None") -> dict[str, Any] | None:
    if receipt is None:
        return None
    keys = ("project", "asset", "version", "sha256", "size", "tree_checksum")
    return {key: getattr(receipt, key) for key in keys}


def _inspected(found: "Inspection", *, long: bool) -> Iterator[str]:
    counts = ", ".join(
        counted(found.count(kind), kind)
        for kind in ("file", "directory", "link")
        if found.count(kind) or kind == "file"
    ).replace("directorys", "directories")
    summary, receipt = found.summary or {}, found.receipt
    version = f"{receipt.project}/{receipt.asset}/{receipt.version}" if receipt and receipt.version else ""
    yield from facts(
        (
            ("format", found.format),
            ("size", exact_size(found.size)),
            ("holds", f"{counts}, {exact_size(found.extracted)}"),
            ("top directory", found.top),
            ("manifest", "yes" if found.has_manifest else "no"),
            ("receipt", "yes" if receipt else "no"),
            ("version", version),
            ("uploaded by", str(summary.get("upload_user_id", ""))),
            ("uploaded", str(summary.get("upload_finish", ""))),
        )
    )
    if long:
        yield from columns(_row(member) for member in found.members)
    if found.refusal:
        yield shown(f"It would be refused: {found.refusal}")


def _row(member: Any) -> tuple[str, str, str]:
    to = f" -> {member.target}" if member.kind == "link" else ""
    end = "/" if member.kind == "directory" else ""
    return (
        f"{member.mode:04o}",
        size(member.size) if member.kind == "file" else "-",
        f"{member.path}{end}{to}",
    )


@verb("verify")
@click.argument("archive", type=_ARCHIVE)
@_receipt
@_require
@_large
def verify(session: Session, *, archive: str, **how: Any) -> None:
    """Check an archive to its last byte.

    Against its receipt and the manifest that it holds. Lists what is wrong; the exit code is then 1. A
    receipt shows that an archive is whole, not who made it.
    """
    from gobblerd.archive.verify import verify_archive  # noqa: PLC0415 - not needed for help

    with _reading("checking") as progress:
        found = verify_archive(archive, progress=progress, **how)
    document = {"status": "SUCCESS" if found.is_sound else "ERROR", **asdict(found)}
    session.show(document, lambda: _verified(found))
    if not found.is_sound:
        if not session.as_json:
            click.echo(f"gobbler: {counted(len(found.problems), 'problem')} in {archive}", err=True)
        raise click.exceptions.Exit(REFUSED)


def _verified(found: "Verified") -> Iterator[str]:
    if found.problems:
        yield from columns(
            ((each.path, each.kind, each.expected or "-", each.found or "-") for each in found.problems),
            head=("PATH", "KIND", "EXPECTED", "FOUND"),
        )
        return
    against = [
        name
        for name, there in (("its receipt", found.has_receipt), ("its manifest", found.has_manifest))
        if there
    ]
    said = f", as {' and '.join(against)} say" if against else "; it has neither receipt nor manifest"
    yield f"{counted(found.members, 'member')}, all whole{said}."
    yield from facts((("sha256", found.sha256), ("tree", found.tree_checksum)))


@verb("extract")
@click.argument("archive", type=_ARCHIVE)
@click.argument("target", metavar="DIR", type=click.Path())
@_receipt
@_require
@_large
@click.option("--max-members", type=click.IntRange(1), default=1_000_000, help="Default 1,000,000.")
def extract(session: Session, *, archive: str, target: str, **how: Any) -> None:
    """Extract an archive: all of it, or nothing.

    DIR must not exist, or be empty. Every member is checked on the way. Refuses whatever could write outside
    of DIR, and says which member that is.
    """
    from gobblerd.archive.extract import extract_archive  # noqa: PLC0415 - not needed for help

    with _reading("extracting") as progress:
        done = extract_archive(archive, target, progress=progress, **how)
    session.done(
        f"{counted(done.files, 'file')}, {size(done.size)}, are in {shown(done.path)}.",
        {"path": done.path, "files": done.files, "size": done.size},
    )


@verb("install")
@click.argument("archive", type=_ARCHIVE)
@click.argument("target", metavar="DIR", type=click.Path())
@click.option("--environment", required=True, metavar="NAME", help="What is installed; the script is told.")
@click.option("--prefix", required=True, metavar="PATH", help="Where it will be used: an absolute path.")
@click.option("--dest", default="", metavar="PATH", help="Put PREFIX below this directory for now.")
@click.option("--postinstall", metavar="PATH", help="Then run this script; its path in the archive.")
@_receipt
@_require
@_large
def install(session: Session, *, archive: str, target: str, **how: Any) -> None:
    """Extract an archive and run its script.

    Nothing of an archive runs unless --postinstall names it. The script is told GOBBLER_ENVIRONMENT,
    GOBBLER_PREFIX and GOBBLER_RUNTIME_PREFIX. Files that still hold the path of DIR afterwards are listed.
    """
    from gobblerd.archive.install import install_archive  # noqa: PLC0415 - not needed for help

    with _reading("extracting") as progress:
        done = install_archive(archive, target, progress=progress, **how)
    document = {"status": "SUCCESS", **asdict(done)}
    session.show(document, lambda: _installed(done))


def _installed(done: Any) -> Iterator[str]:
    yield shown(f"It is extracted to {done.path}.")
    if done.references.files:
        more = ", and more" if done.references.truncated else ""
        yield f"That path is in {counted(len(done.references.files), 'file')}{more}:"
        yield from columns((path, str(count)) for path, count in done.references.files)


COMMANDS = {"inspect": inspect, "verify": verify, "extract": extract, "install": install}
