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
    """
    project, asset, expression = split_spec(spec)
    here = get_backend(source) if isinstance(source, str) else source
    there = get_backend(target) if isinstance(target, str) else target
    found = here.list_records(project, asset, VersionSpec.parse(expression))
    if not found:
        raise Absent("no release at {host} is {spec}", host=here.host, spec=spec)
    mirroring = _Mirroring(here, there, max_workers, each)
    tasks = [mirroring.look(release) for release in _in_order(found)]
    pending = [task for task in tasks if task.outcome == PLANNED]
    files = sum(len(task.release.files) for task in pending)
    meter = Meter(progress, files, sum(task.release.size for task in pending))
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
    if not found:
        raise Absent("no release at {host} is {spec}", host=here.host, spec=spec)
    return [_verified(here, release, max_workers).mirrored() for release in found]


def split_spec(spec: str) -> tuple[str, str, str | None]:
    """Return project, asset and expression (None: every version) of `P/A` or `P/A/EXPRESSION`."""
    parts = spec.split("/", _PARTS - 1)
    if len(parts) < _PARTS - 1 or not all(parts[: _PARTS - 1]):
        raise Wrong("{spec} is not of the form PROJECT/ASSET or PROJECT/ASSET/EXPRESSION", spec=spec)
    return parts[0], parts[1], parts[2] if len(parts) == _PARTS and parts[2] else None


def _in_order(releases: list[Release]) -> list[Release]:
    """Return the releases so that the latest is copied last, and is the latest at the target too."""
    if all(release.upload_finish for release in releases):
        return sorted(releases, key=lambda release: release.upload_finish)
    return releases


@dataclass(frozen=True, slots=True)
class _Task:
    """A release on its way: as it is at the source, and as it will be called at the target."""

    release: Release
    fitted: Release
    outcome: str
    reason: str = ""

    def mirrored(self) -> Mirrored:
        one = self.release
        kept = self.fitted.version
        return Mirrored(
            one.project, one.asset, one.version, self.outcome, kept, len(one.files), one.size, self.reason
        )

    def failed(self, error: Exception) -> "_Task":
        return replace(self, outcome=FAILED, reason=_sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, FileExistsError):
        return f"there is one already, and it is not the same: {error.filename}"
    return str(getattr(error, "reason", None) or error)


class _Mirroring:
    """Two places, and how to copy between them."""

    def __init__(self, source: Backend, target: Backend, max_workers: int, each: Each | None) -> None:
        self._source, self._target = source, target
        self._max_workers, self._each = max_workers, each

    def look(self, release: Release) -> _Task:
        """Find out what has to be done."""
        task = _Task(release, release, PLANNED)
        try:
            fitted = self._target.fit(release)
            task = replace(task, fitted=fitted)
            found = self._target.find_record(fitted)
            if found is None:
                return task
            flaw = difference(release, found)
            if flaw is None:
                return replace(task, fitted=found, outcome=THERE)
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
            kept = self._put_files(task, meter)
            reason = self._target.put_record(replace(task.fitted, files=kept))
        except (GobblerdError, OSError, ValueError) as error:
            self._target.abandon(task.fitted)
            if isinstance(error, _ENDS):
                raise
            return task.failed(error)
        except BaseException:  # Ctrl-C
            self._target.abandon(task.fitted)
            raise
        return replace(task, outcome=COPIED, reason=reason)

    def _put_files(self, task: _Task, meter: Meter) -> tuple[ReleaseFile, ...]:
        kept: dict[str, ReleaseFile] = {}

        def put(file: ReleaseFile, stop: Stop) -> None:
            def tell(size: int) -> None:
                stop.check()
                meter.add(0, size)

            def each(path: str, done: int, size: int) -> None:
                stop.check()
                if self._each is not None:
                    self._each(path, done, size)

            content = self._source.open_blob(task.release, file, each)
            with Checked(content, str(task.release), file, tell) as checked:
                kept[file.path] = self._target.put_blob(task.fitted, file, checked)
            meter.add(1, 0)

        for_each(task.release.files, put, self._max_workers)
        return tuple(kept[file.path] for file in task.release.files)


def _verified(source: Backend, release: Release, max_workers: int) -> _Task:
    task = _Task(release, release, THERE)

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
