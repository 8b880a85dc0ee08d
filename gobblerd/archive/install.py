"""Installing an archive: extract it, let somebody else's code act on it, and see what it left behind.

gobblerd runs nothing that an archive brings along unless the caller names it.
"""

import os
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict, Unpack

from gobblerd.archive.extract import extract_archive
from gobblerd.archive.members import flaw_of_path
from gobblerd.archive.source import Progress
from gobblerd.domain.errors import Plain, Wrong, quoted
from gobblerd.storage.removal import remove_tree

SHOWN = 20  # files that `path_references` lists unless told otherwise
_CHUNK = 1 << 20

# Extracted path, environment, physical prefix, and the prefix that will hold at run time if that is another.
Handler = Callable[[str, str, str, str | None], int]


class HowToExtract(TypedDict, total=False):
    """Keywords of `extract_archive` that `install_archive` hands on."""

    receipt: str | os.PathLike[str] | None
    require_sha256: bool
    allow_large: bool
    max_members: int
    reserve: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class PathReferences:
    """Files that hold a path: each with how often; `truncated` if there are more than were asked for."""

    files: tuple[tuple[str, int], ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class Installed:
    """What was installed: the extracted directory, the physical prefix, files that hold the former's path."""

    path: str
    prefix: str
    references: PathReferences


def install_archive(
    archive: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    environment: str,
    prefix: str,
    dest: str = "",
    handler: Handler | None = None,
    postinstall: str | None = None,
    **how: Unpack["HowToExtract"],
) -> Installed:
    """Extract an archive to `target`, run the handler, and look for paths that should not have stayed.

    `prefix` (absolute) is where what is installed will be used; with `dest` it is put below that directory
    for now, as packagers do. The handler is called with the extracted directory, `environment`, the physical
    prefix and, with `dest`, the prefix at run time. `postinstall` is the path within the archive of a script
    that is run instead, in the extracted directory, with GOBBLER_ENVIRONMENT, GOBBLER_PREFIX (physical) and
    GOBBLER_RUNTIME_PREFIX set; no script runs unless it is named here. `how` are keywords of
    `extract_archive`. Wrong if either does not end with 0;
    what was extracted stays then, to be looked at. Else raises what `extract_archive` raises.
    """
    if not os.path.isabs(prefix):
        raise Wrong("the prefix {prefix} is not absolute", prefix=prefix)
    if handler is not None and postinstall is not None:
        raise Wrong("either a handler or a postinstall script, not both")
    physical = os.path.join(os.path.abspath(dest), prefix.lstrip("/")) if dest else prefix
    runtime = prefix if dest else None
    run = handler if postinstall is None else _script(postinstall)
    extracted = extract_archive(archive, target, **how)
    if postinstall is not None:
        _require_script(extracted.path, postinstall)
    if run is not None and (code := run(extracted.path, environment, physical, runtime)):
        what = "the handler" if postinstall is None else "the postinstall script"
        raise Wrong(
            "{what} ended with exit code {code}; what was extracted is in {path}",
            what=Plain(what),
            code=code,
            path=extracted.path,
        )
    where = physical if os.path.isdir(physical) else extracted.path
    return Installed(extracted.path, physical, path_references(where, extracted.path))


def _script(path: str) -> Handler:
    """Return the handler that runs a script of the archive."""
    if flaw := flaw_of_path(path):
        raise Wrong("{path} cannot be the path of a script: {flaw}", path=path, flaw=Plain(flaw))

    def run(extracted: str, environment: str, physical: str, runtime: str | None) -> int:
        script = os.path.join(extracted, path)
        said = {
            "GOBBLER_ENVIRONMENT": environment,
            "GOBBLER_PREFIX": physical,
            "GOBBLER_RUNTIME_PREFIX": runtime or physical,
        }
        command = [script] if os.access(script, os.X_OK) else ["/bin/sh", script]
        done = subprocess.run(command, cwd=extracted, env={**os.environ, **said}, check=False)  # noqa: S603 - the caller asked for it
        return done.returncode

    return run


def _require_script(extracted: str, path: str) -> None:
    """Raise Wrong if the script is not there, and remove what was extracted: it is to be tried again."""
    if os.path.isfile(os.path.join(extracted, path)):
        return
    below = [f"{top}/{path}" for top in sorted(os.listdir(extracted))]
    meant = next((each for each in below if os.path.isfile(os.path.join(extracted, each))), "")
    remove_tree(extracted)
    hint = Plain(f": is {quoted(meant)} meant?" if meant else "")
    raise Wrong("the archive holds no script {path}{hint}", path=path, hint=hint)


def path_references(
    directory: str | os.PathLike[str], path: str | os.PathLike[str], limit: int = SHOWN
) -> PathReferences:
    """Find the regular files below a directory that hold a path as bytes, in order of their names.

    The first `limit` are listed by their path relative to the directory, each with how often it occurs. Links
    are not followed; files that cannot be read are passed over.
    """
    needle = os.fsencode(path)
    found: list[tuple[str, int]] = []
    for parent, names, files in os.walk(directory):
        names.sort()
        for name in sorted(files):
            full = os.path.join(parent, name)
            count = _occurrences(full, needle)
            if count:
                if len(found) == limit:
                    return PathReferences(tuple(found), truncated=True)
                found.append((os.path.relpath(full, directory), count))
    return PathReferences(tuple(found), truncated=False)


def _occurrences(path: str, needle: bytes) -> int:
    """Count the occurrences in one file, a piece of it in memory at a time."""
    try:
        if not needle or not stat.S_ISREG(os.lstat(path).st_mode):
            return 0
        with open(path, "rb") as file:
            count, tail = 0, b""
            while piece := file.read(_CHUNK):
                data = tail + piece
                count += data.count(needle)
                keep = len(needle) - 1
                rest = data[data.rfind(needle) + len(needle) :] if needle in data else data
                tail = rest[-keep:] if keep else b""
            return count
    except OSError:
        return 0
