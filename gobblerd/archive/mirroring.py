"""Copying releases between any two places that keep them: verified, and only what is not there yet.

A release is copied file by file, in several threads, and published when every byte has arrived and is what
its record says. One that cannot be copied does not stop the others; a place that cannot be reached does.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from gobblerd.archive.backends.backend import Backend, Checked, Each, Unready
from gobblerd.archive.backends.choosing import get_backend
from gobblerd.client.errors import GobblerUnreachable
from gobblerd.client.parallel import Meter, Progress, Stop, for_each
from gobblerd.domain.errors import Absent, Forbidden, GobblerdError, Plain, Wrong
from gobblerd.domain.release import Release, ReleaseFile, difference
from gobblerd.domain.times import parse_time
from gobblerd.domain.version_spec import VersionSpec

COPIED, THERE, PLANNED, FAILED = "copied", "there", "planned", "failed"
_ENDS = (GobblerUnreachable, Forbidden, Unready)  # what would be the same with every release
_PARTS = 3  # project, asset, expression


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What became of one release: copied, there already, planned (a dry run), or failed, with a reason.

    `kept_as` is its version at the target, which may be spelled differently; `size` in bytes.
    """

    project: str
    asset: str
    version: str
    outcome: str
    kept_as: str
    files: int
    size: int
    reason: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def mirror(
    source: "str | Backend",
    target: "str | Backend",
    spec: str,
    *,
    max_workers: int = 4,
    dry_run: bool = False,
    progress: Progress | None = None,
    each: Each | None = None,
    told: Callable[[Mirrored], None] | None = None,
) -> list[Mirrored]:
    """Copy the releases that `spec` means, `project/asset` or `project/asset/expression`; return what became.

    Places are given as `get_backend` takes them, or made by it. Releases are copied in the order in which
    they were uploaded, where that is known, else oldest to newest by precedence. With `dry_run` nothing is
    written. `progress` is told files done, files in all, bytes done, bytes in all; `each` how far one file
    is; `told` what became of a release, at once. Absent if `spec` means nothing at the source.

    >>> import io, pathlib, tempfile
    >>> base = pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("here", "there"):
    ...     (base / name).mkdir()
    ...     (base / name / ".rmearchive").touch()
    >>> here, there = get_backend(str(base / "here")), get_backend(str(base / "there"))
    >>> release = Release("lab", "fit", "1.0.0", (ReleaseFile("result", 2),))
    >>> kept = here.put_blob(release, release.files[0], io.BytesIO(b"42"))
    >>> here.put_record(replace(release, files=(kept,)))
    ''
    >>> [(one.version, one.outcome) for one in mirror(here, there, "lab/fit/^1")]
    [('1.0.0', 'copied')]
    >>> [one.outcome for one in mirror(here, there, "lab/fit")]
    ['there']
    """
    project, asset, expression = split_spec(spec)
    here = get_backend(source) if isinstance(source, str) else source
    there = get_backend(target) if isinstance(target, str) else target
    mirroring = _Mirroring(here, there, max_workers, each)
    found = here.list_records(project, asset, VersionSpec.parse(expression))
    tasks = _in_order([mirroring.look(release) for release in found])
    if not tasks:
        raise Absent("no release at {host} is {spec}", host=here.host, spec=spec)
    pending = [task for task in tasks if task.outcome == PLANNED]
    meter = Meter(progress, sum(task.files for task in pending), sum(task.size for task in pending))
    done: list[Mirrored] = []
    for task in tasks:
        became = task if dry_run or task.outcome != PLANNED else mirroring.copy(task, meter)
        done.append(became.mirrored())
        if told is not None:
            told(done[-1])
    return done


def verify_releases(source: "str | Backend", spec: str, *, max_workers: int = 4) -> list[Mirrored]:
    """Read every byte of the releases that `spec` means, and compare it with their records.

    The outcome is "there" for one that is whole, "failed" with the first flaw for one that is not. Absent
    if `spec` means nothing there.
    """
    project, asset, expression = split_spec(spec)
    here = get_backend(source) if isinstance(source, str) else source
    found = here.list_records(project, asset, VersionSpec.parse(expression))
    done = [_verified(here, release, max_workers).mirrored() for release in found]
    if not done:
        raise Absent("no release at {host} is {spec}", host=here.host, spec=spec)
    return done


def split_spec(spec: str) -> tuple[str, str, str | None]:
    """Return project, asset and expression (None: every version) of `P/A` or `P/A/EXPRESSION`."""
    parts = spec.split("/", _PARTS - 1)
    if len(parts) < _PARTS - 1 or not all(parts[: _PARTS - 1]):
        raise Wrong("{spec} is not of the form PROJECT/ASSET or PROJECT/ASSET/EXPRESSION", spec=spec)
    return parts[0], parts[1], parts[2] if len(parts) == _PARTS and parts[2] else None


@dataclass(frozen=True, slots=True)
class _Task:
    """A release on its way, without its files: of a thousand releases they would not fit into memory."""

    release: Release  # as it is at the source
    kept_as: str  # its version at the target
    files: int
    size: int
    outcome: str
    reason: str = ""

    @classmethod
    def of(cls, release: Release, outcome: str) -> "_Task":
        bare = replace(release, files=(), directories=())
        return cls(bare, release.version, len(release.files), release.size, outcome)

    def mirrored(self) -> Mirrored:
        one = self.release
        return Mirrored(
            one.project,
            one.asset,
            one.version,
            self.outcome,
            self.kept_as,
            self.files,
            self.size,
            self.reason,
        )

    def failed(self, error: Exception) -> "_Task":
        return replace(self, outcome=FAILED, reason=_sentence(error))


def _in_order(tasks: list[_Task]) -> list[_Task]:
    """Return the tasks so that the latest is copied last, and is the latest at the target too."""
    try:
        return sorted(tasks, key=lambda task: parse_time(task.release.upload_finish))
    except ValueError:  # the place does not say when
        return tasks


def _sentence(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"there is one already, and it is not the same: {error.filename}"
    if isinstance(error, OSError) and error.strerror:
        return ": ".join(str(part) for part in (error.filename, error.strerror) if part)
    return str(getattr(error, "reason", None) or error)


class _Mirroring:
    """Two places, and how to copy between them."""

    def __init__(self, source: Backend, target: Backend, max_workers: int, each: Each | None) -> None:
        self._source, self._target = source, target
        self._max_workers, self._each = max_workers, each

    def look(self, release: Release) -> _Task:
        """Find out what has to be done."""
        task = _Task.of(release, PLANNED)
        try:
            fitted = self._target.fit(release)
            task = replace(task, kept_as=fitted.version)
            found = self._target.find_record(fitted)
            if found is None:
                return task
            flaw = difference(release, found)
            if flaw is None:
                return replace(task, kept_as=found.version, outcome=THERE)
            if found.version != fitted.version:  # another release, under another name
                return task
            raise Wrong(
                "{host} has another {place}: {flaw}",
                host=self._target.host,
                place=str(found),
                flaw=Plain(flaw),
            )
        except _ENDS:
            raise
        except (GobblerdError, OSError, ValueError) as error:
            return task.failed(error)

    def copy(self, task: _Task, meter: Meter) -> _Task:
        """Copy every file, then publish; what was put is let go if that fails."""
        try:
            release = self._source.find_record(task.release)
            if release is None:
                raise Absent("{place} has gone meanwhile", place=str(task.release))
            reason = self._copy(release, self._target.fit(release), meter)
        except _ENDS:
            raise
        except (GobblerdError, OSError, ValueError) as error:
            return task.failed(error)
        return replace(task, outcome=COPIED, reason=reason)

    def _copy(self, release: Release, fitted: Release, meter: Meter) -> str:
        try:
            kept = self._put_files(release, fitted, meter)
            return self._target.put_record(replace(fitted, files=kept))
        except BaseException:  # Ctrl-C too
            self._target.abandon(fitted)
            raise

    def _put_files(self, release: Release, fitted: Release, meter: Meter) -> tuple[ReleaseFile, ...]:
        kept: dict[str, ReleaseFile] = {}

        def put(file: ReleaseFile, stop: Stop) -> None:
            def tell(size: int) -> None:
                stop.check()
                meter.add(0, size)

            def each(path: str, done: int, size: int) -> None:
                stop.check()
                if self._each is not None:
                    self._each(path, done, size)

            content = self._source.open_blob(release, file, each)
            with Checked(content, str(release), file, tell) as checked:
                kept[file.path] = self._target.put_blob(fitted, file, checked)
            meter.add(1, 0)

        for_each(release.files, put, self._max_workers)
        return tuple(kept[file.path] for file in release.files)


def _verified(source: Backend, release: Release, max_workers: int) -> _Task:
    task = _Task.of(release, THERE)

    def read(file: ReleaseFile, stop: Stop) -> None:
        with Checked(source.open_blob(release, file), str(release), file) as checked:
            while checked.read(1 << 20):
                stop.check()

    try:
        for_each(release.files, read, max_workers)
    except _ENDS:
        raise
    except (GobblerdError, OSError, ValueError) as error:
        return task.failed(error)
    return task
