"""`gobbler upload`: of a directory, or of an archive file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

from gobblerd.cli.gobbler.dropping import COPY_PREFIX, clear_copy, drop
from gobblerd.cli.gobbler.progress import WAITING, bar
from gobblerd.cli.gobbler.session import Session, verb
from gobblerd.domain.where import written_in
from gobblerd.registry import layout

_CONCURRENT = 4  # copies at the same time


@verb("upload")
@click.argument("source", metavar="DIR|ARCHIVE", type=click.Path(exists=True))
@click.argument("project")
@click.argument("asset")
@click.argument("version")
@click.option("--probation", is_flag=True, help="Let the version be approved before it counts.")
@click.option("--consume", is_flag=True, help="Let files in DIR go once stored, if DIR is in staging.")
@click.option("--ignore-dot", is_flag=True, help="Leave out names that begin with a dot.")
@click.option("--spoof", metavar="USER", help="Upload on behalf of USER, if the service allows it.")
@click.option("--strip", type=click.IntRange(0, 1), help="Of an archive: top directories to leave out.")
@click.option("--no-wait", is_flag=True, help="Print the request's name for `gobbler wait`.")
def upload(session: Session, *, no_wait: bool, **given: Any) -> None:
    """Make the new VERSION of ASSET in PROJECT from what is in DIR.

    Or of what is in ARCHIVE, a tar or zip file: its one top directory is left out of all paths, unless
    --strip says otherwise. What lies directly in the staging directory is taken as it is; anything else is
    copied there first, and the copy is checked and removed in the end. Symbolic links and empty directories
    stay what they are.
    """
    wanted = _Upload(**given)
    if not wanted.is_archive and not os.path.isdir(wanted.source):
        raise click.UsageError(f"{wanted.source} is neither a directory nor an archive file")
    if wanted.strip is not None and not wanted.is_archive:
        raise click.UsageError("--strip is for archives")
    if no_wait:
        name = _drop(session, wanted)
        session.show({"request": name}, lambda: [name])
        return
    with bar("copying", WAITING) as progress:
        how: dict[str, Any] = {"concurrent": _CONCURRENT}
        put = session.asking.upload_directory
        if wanted.is_archive:
            put, how = session.asking.upload_archive, {"strip": wanted.strip}
        put(
            wanted.project,
            wanted.asset,
            wanted.version,
            wanted.source,
            probation=wanted.probation,
            consume=wanted.consume or None,
            ignore_dot=wanted.ignore_dot,
            spoof=wanted.spoof,
            progress=progress,
            waiting=progress and progress.waiting,
            **how,
        )
    on_probation = wanted.probation or _is_on_probation(session, wanted.place)
    answer = {"project": wanted.project, "asset": wanted.asset, "version": wanted.version}
    said = ", on probation until an owner approves it" if on_probation else ""
    session.done(f"{wanted.place} is uploaded{said}.", {**answer, "on_probation": on_probation})


def _is_on_probation(session: Session, place: str) -> bool:
    """Tell what became of an upload: those of untrusted uploaders are on probation, asked for or not."""
    with suppress(OSError, ValueError):  # it is uploaded, whether that can be seen from here or not
        return bool((session.document(f"{place}/{layout.SUMMARY}") or {}).get("on_probation"))
    return False


@dataclass(frozen=True, slots=True)
class _Upload:
    """What is to be uploaded, where to, and how."""

    source: str
    project: str
    asset: str
    version: str
    probation: bool
    consume: bool
    ignore_dot: bool
    spoof: str | None
    strip: int | None

    @property
    def is_archive(self) -> bool:
        """Tell whether it is a file."""
        return os.path.isfile(self.source)

    @property
    def place(self) -> str:
        """The version to be."""
        return f"{self.project}/{self.asset}/{self.version}"

    def fields(self, source: str, *, consume: bool) -> dict[str, Any]:
        """Return the request's document."""
        found = {
            "project": self.project,
            "asset": self.asset,
            "version": self.version,
            "source": source,
            "on_probation": self.probation,
            "ignore_dot": self.ignore_dot,
            "consume": consume,
        }
        more = {"spoof": self.spoof, "strip": self.strip}
        return {**found, **{key: value for key, value in more.items() if value is not None}}


def _drop(session: Session, wanted: _Upload) -> str:
    """Copy if need be, drop the request, and leave both; return the request's name."""
    from gobblerd.client.uploading import name_in_staging, require_apart  # noqa: PLC0415 - not for help

    staging = str(session.asking.staging)
    name = name_in_staging(wanted.source, staging, is_archive=wanted.is_archive)
    if name is not None:
        return drop(staging, "upload", wanted.fields(name, consume=wanted.consume))
    require_apart(wanted.source, staging)
    with _copy(wanted, staging) as source:
        return drop(staging, "upload", wanted.fields(source, consume=True))


@contextmanager
def _copy(wanted: _Upload, staging: str) -> Iterator[str]:
    """Copy the directory or archive into staging; yield the copy's name. It goes if the block fails."""
    from gobblerd.client.copying import copy_archive, copy_tree  # noqa: PLC0415 - needed only to copy

    name = f"{COPY_PREFIX}{os.urandom(8).hex()}"
    copy = os.path.join(staging, name)
    try:
        with written_in(staging), bar("copying") as progress:
            if wanted.is_archive:
                copy_archive(wanted.source, copy, progress=progress)
            else:
                os.mkdir(copy)
                copy_tree(
                    wanted.source,
                    copy,
                    ignore_dot=wanted.ignore_dot,
                    concurrent=_CONCURRENT,
                    progress=progress,
                )
        yield name
    except BaseException:
        clear_copy(copy)
        raise


COMMANDS = {"upload": upload}
