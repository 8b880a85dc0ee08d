"""A version, or any directory, as a plain directory of one's own: nothing packed, nothing shared.

Every file is a copy, checked as it is written; no link leads out, and none is a hard link to the registry.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gobblerd.archive.checked_files import CheckedReading, Progress
from gobblerd.archive.directory_plan import plan_directory
from gobblerd.archive.plan import Extra, Plan, Planned
from gobblerd.archive.receipt import Links
from gobblerd.archive.version_plan import Version, Wish, plan_version
from gobblerd.archive.writing import permitted, temporary_directory
from gobblerd.domain.errors import Wrong
from gobblerd.storage.files import DIRECTORY_MODE, sync_directory, sync_tree

Path = str | os.PathLike[str]
RunPostinstall = Callable[[str, str], object]  # the directory, and the script's path in it

_TOP = "top"  # the plan's prefix, which no path on disk gets


@dataclass(frozen=True, slots=True)
class Portable:
    """What became of a directory's links: relative now, or replaced by what they led to. Sorted paths."""

    relative: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A directory that was written: where, how many files, of how many bytes, and what became of links."""

    path: str
    files: int
    size: int
    links: Portable


def export_directory(
    source: Version | Path,
    target: Path,
    *,
    links: Links = "preserve",
    excludes: Sequence[str] = (),
    extras: Sequence[Extra] = (),
    run_postinstall: RunPostinstall | None = None,
    script: str = "postinstall",
    progress: Progress | None = None,
) -> Exported:
    """Copy a `Version` or a directory to `target`, which must not be there, or be an empty directory.

    It appears whole, or not at all. `links`, `excludes`, `extras` and `progress` are as in `create_archive`,
    "bundle" its `bundle_links`; links that stay are relative. Then `run_postinstall`, if given, is called
    with the target and the path of `script` in it; what it raises is raised, and the directory stays.

    Raises Wrong, Absent, Invalid and OSError as `create_archive` does.

    >>> import pathlib, tempfile
    >>> work = pathlib.Path(tempfile.mkdtemp())
    >>> (work / "run").mkdir()
    >>> _ = (work / "run/out.txt").write_text("1")
    >>> (work / "run/same.txt").symlink_to(work / "run/out.txt")
    >>> export_directory(work / "run", work / "copy").links.relative
    ('same.txt',)
    >>> (work / "copy/same.txt").readlink()
    PosixPath('out.txt')
    """
    path = os.path.abspath(target)
    _check_target(path, source)
    wish = Wish(prefix=_TOP, links=links, excludes=tuple(excludes), extras=tuple(extras))
    plan = _planned(source, wish)
    try:
        with temporary_directory(os.path.dirname(path)) as staged:
            _write(plan, staged, progress)
            sync_tree(staged)
            os.rename(staged, path)
        sync_directory(os.path.dirname(path))
    finally:
        plan.opener.close()
    if run_postinstall is not None:
        run_postinstall(path, os.path.join(path, script))
    return _exported(plan, path)


def _planned(source: Version | Path, wish: Wish) -> Plan:
    if isinstance(source, Version):
        return plan_version(source, wish)
    if wish.links == "bundle":
        raise Wrong("links can be bundled of a version only")
    return plan_directory(os.fspath(source), wish)


def _check_target(path: str, source: Version | Path) -> None:
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path) or os.listdir(path)):
        raise Wrong("{path} is there already, and is no empty directory", path=path)
    if not os.path.isdir(os.path.dirname(path)):
        raise Wrong("there is no directory {path} to export into", path=os.path.dirname(path))
    root = os.path.realpath(source.registry if isinstance(source, Version) else source)
    here = os.path.realpath(path)
    if here == root or here.startswith(os.path.join(root, "")):
        raise Wrong("{path} lies in what is exported", path=path)


def _write(plan: Plan, staged: str, progress: Progress | None) -> None:
    reading = CheckedReading(plan.opener, plan.total, progress, hashed=False)
    allowed = permitted(0o777)
    for member in plan.members:  # a directory comes before what is in it
        path = _path_of(member, staged)
        if member.kind == "directory":
            os.makedirs(path, exist_ok=True)
            os.chmod(path, DIRECTORY_MODE & allowed)
        elif member.kind == "link":
            os.symlink(member.target, path)
        else:
            with open(path, "xb") as file:
                os.fchmod(file.fileno(), member.mode & allowed)
                file.writelines(reading.chunks(member.content, member.size, _inside(member)))
            os.utime(path, (member.mtime, member.mtime))
    for member in reversed(plan.members):  # what is in a directory changes its time
        if member.kind == "directory":
            os.utime(_path_of(member, staged), (member.mtime, member.mtime))


def _path_of(member: Planned, top: str) -> str:
    return os.path.join(top, _inside(member)) if member.path != _TOP else top


def _inside(member: Planned) -> str:
    return member.path[len(_TOP) + 1 :]


def _exported(plan: Plan, path: str) -> Exported:
    inside = [member for member in plan.members if member.path != _TOP]
    links = tuple(_inside(member) for member in inside if member.kind == "link")
    files = sum(member.kind == "file" for member in inside)
    return Exported(path, files, plan.total, Portable(links, tuple(sorted(plan.replaced))))


def make_portable(directory: Path, boundary: Path | None = None) -> Portable:
    """Make a directory movable: links that stay in `boundary` become relative, others are replaced.

    `boundary` is the directory itself, or one that it lies in and is moved with. A link that leads out of it
    is replaced by a copy of the file, or of the directory, that it leads to. Wrong for a link to nothing, or
    one that leads to a directory above it; nothing is changed then.
    """
    top = os.path.realpath(directory)
    edge = top if boundary is None else os.path.realpath(boundary)
    if top != edge and not top.startswith(os.path.join(edge, "")):
        raise Wrong("{path} does not lie in {boundary}", path=top, boundary=edge)
    links = [(path, _end_of(path)) for path in _links_in(top)]
    relative: list[str] = []
    replaced: list[str] = []
    for path, end in links:
        if end == edge or end.startswith(os.path.join(edge, "")):
            _relink(path, os.path.relpath(end, os.path.dirname(path)))
            relative.append(os.path.relpath(path, top))
        else:
            _replace(path, end)
            replaced.append(os.path.relpath(path, top))
    return Portable(tuple(sorted(relative)), tuple(sorted(replaced)))


def _links_in(top: str) -> list[str]:
    return [
        os.path.join(path, name)
        for path, directories, files in os.walk(top)
        for name in (*directories, *files)
        if os.path.islink(os.path.join(path, name))
    ]


def _end_of(path: str) -> str:
    end = os.path.realpath(path)
    if not os.path.exists(end):
        raise Wrong("{path} is a link to nothing", path=path)
    if os.path.isdir(end) and path.startswith(os.path.join(end, "")):
        raise Wrong("{path} is a link to a directory above it", path=path)
    if not os.path.isdir(end) and not os.path.isfile(end):
        raise Wrong("{path} is a link to what is neither a file nor a directory", path=path)
    return end


def _relink(path: str, text: str) -> None:
    if os.readlink(path) == text:
        return
    temporary = f"{path}.gobblerd-link"
    os.symlink(text, temporary)
    os.replace(temporary, path)


def _replace(path: str, end: str) -> None:
    with temporary_directory(os.path.dirname(path)) as work:
        copy = os.path.join(work, "copy")
        if os.path.isdir(end):
            shutil.copytree(end, copy)
            os.unlink(path)
        else:
            shutil.copy2(end, copy)
        os.replace(copy, path)
