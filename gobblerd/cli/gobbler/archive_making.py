"""`gobbler archive create|export`: a version, or any files, as one archive with its receipt."""

import os
import shlex
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gobblerd.cli.gobbler.progress import Bars, bar
from gobblerd.cli.gobbler.session import Session, absent, verb
from gobblerd.cli.gobbler.text import counted

if TYPE_CHECKING:
    from gobblerd.archive import Created, Extra, Version

_FORMATS = ("tar.zst", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip")
_format = click.option(
    "--format", "form", type=click.Choice(_FORMATS), help="Default: as OUT says, or tar.zst."
)
_place = [
    click.argument("project", required=False),
    click.argument("asset", required=False),
    click.argument("version", required=False),
]


def place_arguments(function: Any) -> Any:
    """Give a function the arguments PROJECT ASSET VERSION."""
    for argument in reversed(_place):
        function = argument(function)
    return function


@verb("create")
@place_arguments
@click.option(
    "-p",
    "--path",
    "paths",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="Archive a directory or file instead of a version; may be repeated.",
)
@click.option(
    "-o", "--output", metavar="OUT", default=".", help="File, or directory that gets a file; default: here."
)
@_format
@click.option("--prefix", metavar="NAME", help="The one top directory in the archive.")
@click.option(
    "--links",
    type=click.Choice(["files", "preserve", "bundle"]),
    default="files",
    help="What becomes of links: files; or kept where they stay within; or all kept, with what they lead to.",
)
@click.option("--exclude", "excludes", multiple=True, metavar="PATTERN", help="Leave out; may be repeated.")
@click.option(
    "--add", "extras", multiple=True, metavar="NAME=FILE", help="Put FILE in as NAME; may be repeated."
)
@click.option("--flatten", is_flag=True, help="All files in the top directory, by their last names.")
@click.option("--clamp-mtime", type=int, metavar="SECONDS", help="No file is later than this (since 1970).")
@click.option("--name-template", metavar="TEXT", help="What it is called where OUT is a directory.")
@click.option("--threads", type=click.IntRange(1, 64), help="Threads that compress; the bytes are the same.")
@click.option(
    "--work-dir", metavar="DIR", type=click.Path(exists=True, file_okay=False), help="Where it grows."
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("--sign-with", metavar="COMMAND", help="Run COMMAND with the receipt's path at its end.")
def create(
    session: Session, *, paths: Sequence[str], output: str, sign_with: str | None, **wish: Any
) -> None:
    """Make an archive of VERSION (default: the latest) of ASSET in PROJECT, with a receipt beside it.

    The same version gives the same bytes, anywhere and at any time. Needs the registry's directory; every
    file is checked against the manifest.
    """
    from gobblerd.archive import create_archive  # noqa: PLC0415 - not needed for help

    place = (wish.pop("project"), wish.pop("asset"), wish.pop("version"))
    source: Any = _version(session, *place) if not paths else _paths(paths, place)
    with bar("archiving") as progress:
        made = create_archive(source, output, progress=_told(progress), **_options(wish))
    if sign_with is not None:
        _sign(sign_with, made)
    answer = {
        "archive": os.path.abspath(made.path),
        "receipt": os.path.abspath(made.receipt_path),
        "size": made.size,
        "sha256": made.sha256,
        "tree_checksum": made.tree_checksum,
        "entries": len(made.members),
    }
    session.show(answer, lambda: [made.path])


def _paths(paths: Sequence[str], place: tuple[str | None, ...]) -> Any:
    if any(place):
        raise click.UsageError("give either PROJECT ASSET [VERSION] or --path, not both")
    return paths[0] if len(paths) == 1 and os.path.isdir(paths[0]) else paths


def _version(session: Session, project: str | None, asset: str | None, version: str | None) -> "Version":
    from gobblerd.archive import Version  # noqa: PLC0415 - not needed for help

    if project is None or asset is None:
        raise click.UsageError("give PROJECT ASSET [VERSION], or --path")
    registry = session.gobbler.registry
    if registry is None or not os.path.isdir(registry):
        raise ValueError(
            "the registry's directory is needed, and is not known or not there: give --registry, or let the "
            "service write the archive with `gobbler archive export`"
        )
    return Version(str(registry), project, asset, version or _latest(session, project, asset))


def _latest(session: Session, project: str, asset: str) -> str:
    found = session.gobbler.fetch_latest(project, asset)
    if found is None:
        raise absent(f"latest version of {project}/{asset}")
    return str(found)


def _options(wish: dict[str, Any]) -> dict[str, Any]:
    """Return the options of create_archive that were given."""
    from gobblerd.archive import flatten_path  # noqa: PLC0415 - not needed for help

    links, flatten, extras = wish.pop("links"), wish.pop("flatten"), wish.pop("extras")
    found = {key: value for key, value in wish.items() if value is not None}
    found["format"] = found.pop("form", None)
    found["extras"] = [_extra(text) for text in extras]
    found["name_of"] = flatten_path if flatten else None
    return {
        **found,
        "links": "preserve" if links == "preserve" else "files",
        "bundle_links": links == "bundle",
    }


def _extra(text: str) -> "Extra":
    from gobblerd.archive import Extra  # noqa: PLC0415 - not needed for help

    name, equals, path = text.partition("=")
    if not equals:
        raise click.UsageError(f"--add {text!r} is not NAME=FILE")
    return Extra(name, path)


def _told(progress: Bars | None) -> Any:
    if progress is None:
        return None
    return lambda done, total, _path: progress.whole(done, total)


def _sign(command: str, made: "Created") -> None:
    done = subprocess.run([*shlex.split(command), made.receipt_path], check=False)  # noqa: S603 - the caller's own
    if done.returncode:
        raise OSError(
            0,
            f"the archive and its receipt are there, but signing failed ({done.returncode})",
            made.receipt_path,
        )


@verb("export")
@click.argument("project")
@click.argument("asset")
@click.argument("version", required=False)
@_format
@click.option("--links", type=click.Choice(["files", "preserve", "bundle"]), help="As for `create`.")
@click.option(
    "--to", "target", metavar="DIR", help="Copy it here as a plain directory instead; DIR must not be there."
)
def export(
    session: Session,
    project: str,
    asset: str,
    version: str | None,
    form: str | None,
    links: str | None,
    target: str | None,
) -> None:
    """Have the service write an archive of VERSION (default: the latest) into its export directory.

    With --to, nothing is packed and no service is needed: the files are copied from the registry's directory
    and checked, links that stay in the version are relative, and nothing is shared with the registry.
    """
    if target is None:
        version = version or _latest(session, project, asset)
        answer = session.ask(
            "export_version", project=project, asset=asset, version=version, format=form, links=links
        )
        session.show({"status": "SUCCESS", **answer}, lambda: [answer["archive"]])
        return
    if form is not None:
        raise click.UsageError("--format is for archives: a plain directory has none")
    from gobblerd.archive import export_directory  # noqa: PLC0415 - not needed for help

    source = _version(session, project, asset, version)
    with bar("copying") as progress:
        made = export_directory(source, target, links=links or "preserve", progress=_told(progress))  # type: ignore[arg-type]
    answer = {
        "path": made.path,
        "files": made.files,
        "size": made.size,
        "links": list(made.links.relative),
        "replaced": list(made.links.replaced),
    }
    session.show(answer, lambda: [f"{counted(made.files, 'file')} in {made.path}"])


COMMANDS = {"create": create, "export": export}
