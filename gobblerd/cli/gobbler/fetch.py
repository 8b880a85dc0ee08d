"""`gobbler fetch`: a version's files, where they are, or copied into a directory and checked.

With `-o`, files arrive in `DIR/.gobbler-fetch`, and go to DIR once they are whole and have the manifest's
checksum, so that an interrupted fetch continues. What is in DIR already is never overwritten. Of several
fetches into one DIR (the tasks of a job array, perhaps), one brings what is missing and the others wait.
Limit: where the filesystem knows no locks they may get in each other's way; who fails is to be repeated.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from gobblerd.cli.gobbler.listing import is_directory
from gobblerd.cli.gobbler.progress import Bars, bar
from gobblerd.cli.gobbler.session import Session, absent, verb
from gobblerd.cli.gobbler.text import counted
from gobblerd.domain.names import is_internal
from gobblerd.domain.where import written_in
from gobblerd.registry import layout

if TYPE_CHECKING:
    from gobblerd.client.parallel import Meter, Stop

_CONCURRENT = 4
_CHUNK = 1 << 20
_ARRIVING = ".gobbler-fetch"  # within DIR, until all is there
_TURN = f"{_ARRIVING}.lock"


@verb("fetch")
@click.argument("project")
@click.argument("asset")
@click.argument("version", metavar="[SPEC]", default="latest")
@click.option(
    "-o", "--output", metavar="DIR", type=click.Path(file_okay=False), help="Copy the files into DIR."
)
def fetch(session: Session, project: str, asset: str, version: str, output: str | None) -> None:
    """Get the files of a version of ASSET in PROJECT: of the latest, if no SPEC is given.

    SPEC is a version's name, or an expression like '>=1.2,<2' or '^0.4', of which the newest is taken.

    Prints the directory where they are: the registry's own if it can be read here, else a cache that is
    filled. With -o, copies them into DIR and checks them; run again after an interruption, it continues.
    """
    version = _newest(session, project, asset, version)
    place = f"{project}/{asset}/{version}"
    manifest = session.document(f"{place}/{layout.MANIFEST}")
    if manifest is None:
        raise absent(f"version {place}")
    with bar(f"fetching {place}") as progress:
        source = output or _fetched(session, place, None, progress)
        if output:
            _Copy(session, place, manifest, output).run(progress)
    answer = {"project": project, "asset": asset, "version": version, "path": os.path.abspath(source)}
    session.show(answer, lambda: [_said(place, manifest, source, output)])


def _said(place: str, manifest: Mapping[str, Any], source: str, output: str | None) -> str:
    return f"{place}: {counted(len(manifest), 'file')} in {output}" if output else source


def _newest(session: Session, project: str, asset: str, spec: str) -> str:
    """Return the newest version that an expression means; a name, also of one on probation, as it is."""
    if spec == "latest":
        found = session.gobbler.fetch_latest(project, asset)
        if found is None:
            raise absent(f"latest version of {project}/{asset}")
        return str(found)
    from gobblerd.client.releases import newest_version  # noqa: PLC0415 - needed only for expressions

    return newest_version(project, asset, spec, session.gobbler.registry, session.gobbler.url)


def _fetched(session: Session, place: str, cache: str | None, progress: Bars | None) -> str:
    path: str = session.gobbler.fetch_directory(
        place,
        cache=cache,
        concurrent=_CONCURRENT,
        progress=progress,
        each=progress.each if progress else None,
    )
    return path


class _Copy:
    """A version on its way into a directory."""

    def __init__(self, session: Session, place: str, manifest: Mapping[str, Any], output: str) -> None:
        self._session, self._place, self._output = session, place, output
        self._arriving = os.path.join(output, _ARRIVING)
        self._manifest = {path: entry for path, entry in manifest.items() if _is_inside(path)}

    def run(self, progress: Bars | None) -> None:
        """Have every file in the directory."""
        os.makedirs(self._output, exist_ok=True)
        missing = self._missing(self._manifest)
        if missing or {_ARRIVING, _TURN} & {*os.listdir(self._output)}:
            with written_in(self._output), self._turn():
                self._bring(self._missing(missing), progress)
                shutil.rmtree(self._arriving, ignore_errors=True)

    def _missing(self, paths: Iterable[str]) -> list[str]:
        from gobblerd.client.cache import is_same  # noqa: PLC0415 - needed only to copy

        return [path for path in paths if not self._has(path, self._manifest[path], is_same)]

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until nobody else fetches into this directory."""
        from gobblerd.client.cache import locked  # noqa: PLC0415 - needed only to copy
        from gobblerd.client.parallel import Stop  # noqa: PLC0415 - as above

        turn = locked(os.path.join(self._output, _TURN), Stop(), wait=True)
        assert turn is not None  # we waited
        try:
            yield
        finally:
            turn.discard()
            os.close(turn.fd)

    def _bring(self, missing: list[str], progress: Bars | None) -> None:
        from gobblerd.client.reading import is_local  # noqa: PLC0415 - needed only to copy

        if missing and is_local(self._session.gobbler.registry, force_remote=False):
            self._copy_all(missing, progress)
        elif missing:
            source = _fetched(self._session, self._place, self._arriving, progress)
            for path in missing:
                self._move(os.path.join(source, path), path)

    def _copy_all(self, missing: list[str], progress: Bars | None) -> None:
        """Copy from the registry."""
        from gobblerd.client.parallel import Meter, Stop, for_each  # noqa: PLC0415 - needed only to copy

        each = progress.each if progress else None

        source = str(_fetched(self._session, self._place, None, None))
        meter = Meter(progress, len(missing), sum(self._manifest[path]["size"] for path in missing), each)

        def copy(path: str, stop: Stop) -> None:
            self._copy(os.path.join(source, path), path, meter, stop)
            meter.add(1, 0)

        for_each(missing, copy, _CONCURRENT)

    def _move(self, source: str, path: str) -> None:
        """Give a file that has arrived, and was checked, its place."""
        target = os.path.join(self._output, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)

    def _has(self, path: str, entry: Mapping[str, Any], is_same: Any) -> bool:
        """Tell whether it is there; ValueError if something else is."""
        target = os.path.join(self._output, path)
        if is_directory(entry):
            os.makedirs(target, exist_ok=True)
            return True
        if not os.path.lexists(target):
            return False
        if not is_same(target, entry["size"], entry["md5sum"]):
            raise ValueError(f"{target} is there already and is something else: give another directory")
        return True

    def _copy(self, source: str, path: str, meter: "Meter", stop: "Stop") -> None:
        """Copy one file under another name, check what was copied, and rename it."""
        import hashlib  # noqa: PLC0415 - needed only to copy

        entry, target = self._manifest[path], os.path.join(self._output, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.makedirs(self._arriving, exist_ok=True)
        temporary = os.path.join(self._arriving, os.urandom(8).hex())
        try:
            digest, done = hashlib.md5(usedforsecurity=False), 0
            with open(source, "rb", buffering=0) as read, open(temporary, "xb") as write:
                while chunk := read.read(_CHUNK):
                    stop.check()
                    write.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    meter.add(0, len(chunk))
                    meter.tell(f"{self._place}/{path}", done, entry["size"])
            _require((done, digest.hexdigest()) == (entry["size"], entry["md5sum"]), source)
            os.rename(temporary, target)
        except BaseException:
            if os.path.lexists(temporary):
                os.unlink(temporary)
            raise


def _require(is_right: bool, source: str) -> None:  # noqa: FBT001 - the one thing that it is about
    if not is_right:
        raise OSError(0, "it is not what the manifest says: `gobbler validate` tells more", source)


def _is_inside(path: str) -> bool:
    return not path.startswith("/") and not any(is_internal(part) for part in path.split("/"))


COMMANDS = {"fetch": fetch}
