"""A registry as a place that keeps releases: read from disk or over REST, written by requests.

Reading needs the registry's directory or a URL; putting needs a staging directory whose daemon serves this
very registry, which is made sure of before the first file goes there. Files that come over REST arrive in a
cache of their own, where an interrupted one is continued, and leave it once they were passed on.

Known limit: a release that has to be approved is kept, but not listed before it is.
"""

import contextlib
import io
import json
import os
import shutil
import threading
from collections.abc import Iterator
from typing import Any

from gobblerd.archive.backends.backend import Content, Each, Unready
from gobblerd.client import Gobbler
from gobblerd.client.errors import GobblerError
from gobblerd.domain.errors import Absent, Plain, Wrong
from gobblerd.domain.names import check_name
from gobblerd.domain.release import Release, ReleaseFile, check_paths, difference, release_of
from gobblerd.domain.version_spec import SemVer, VersionSpec
from gobblerd.registry import layout

_CHUNK = 1 << 20
_NOT_FOUND = 404
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class GobblerArchive:
    """A registry. `gobbler` knows its places; `host` is what it is called in messages."""

    def __init__(self, gobbler: Gobbler, host: str, cache: str | None = None) -> None:
        self.host = host
        self._gobbler = gobbler
        self._cache = cache or _default_cache()
        self._staged: dict[str, str] = {}  # release -> its directory in staging
        self._lock = threading.Lock()
        self._unready: Unready | None = None  # why nothing can be put, once that is known
        self._is_ready = False

    # ---- reading

    def list_records(self, project: str, asset: str, spec: VersionSpec) -> Iterator[Release]:
        """Yield the releases that an expression means, oldest to newest; none on probation."""
        gobbler = self._gobbler
        for name in _or_none(lambda: gobbler.resolve_versions(project, asset, spec)) or []:
            if (release := self._record(project, asset, name)) is not None:
                yield release

    def _record(self, project: str, asset: str, version: str) -> Release | None:
        place = f"{project}/{asset}/{version}"
        manifest = self._document(f"{place}/{layout.MANIFEST}")
        summary = self._document(f"{place}/{layout.SUMMARY}")
        if manifest is None or summary is None:
            return None
        return release_of(project, asset, version, manifest, summary)

    def _document(self, path: str) -> Any:
        from gobblerd.client.reading import document_or_none  # noqa: PLC0415 - beside its one use

        return document_or_none(path, self._gobbler.registry, self._gobbler.url, force_remote=False)

    def open_blob(self, release: Release, file: ReleaseFile, each: Each | None = None) -> Content:
        """Open a file in the registry, or bring it into the cache and open it there."""
        if self._gobbler.registry:
            return open(os.path.join(self._gobbler.registry, str(release), file.path), "rb", buffering=0)
        from gobblerd.client import download, parallel  # noqa: PLC0415 - needed only over REST
        from gobblerd.client.cache import Cache, is_same  # noqa: PLC0415 - as above

        url = str(self._gobbler.url)
        cache, path = Cache(self._cache, url), f"{release}/{file.path}"
        expected = download.Expected(file.size, file.md5sum)
        want = download.Want(url, path, lambda found: is_same(found, file.size, file.md5sum), expected)
        download.fetch(cache, want, parallel.Meter(None, 1, file.size, each), parallel.Stop())
        return _Passing(cache.target(path))

    # ---- writing

    def fit(self, release: Release) -> Release:
        """Return the release itself; Wrong if it cannot be a version, Absent if there is no such project.

        Better now than after all of its bytes are in staging.
        """
        check_name("project", release.project)
        check_name("asset", release.asset)
        check_name("version", release.version)
        try:
            check_paths(str(release), [file.path for file in release.files], release.directories)
        except ValueError as error:
            raise Wrong("{why}", why=error) from None
        if self._document(f"{release.project}/{layout.PERMISSIONS}") is None:
            raise Absent("there is no project {project} at {host}", project=release.project, host=self.host)
        return release

    def find_record(self, release: Release) -> Release | None:
        """Return the version of that name, also on probation; else one that reads as the same version."""
        found = self._record(release.project, release.asset, release.version)
        version = SemVer.read(release.version)
        if found is not None or version is None:
            return found
        same = self.list_records(
            release.project, release.asset, VersionSpec.parse([f"=={version}", ">=0.0.0-0"])
        )
        return next(
            (one for one in same if (SemVer.read(one.version) or version).build == version.build), None
        )

    def put_blob(self, release: Release, file: ReleaseFile, content: Content) -> ReleaseFile:
        """Write a file into the directory in staging that will be uploaded."""
        path = os.path.join(self._directory(release), file.path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(os.open(path, _CREATE, 0o666), "wb") as out:
            while data := content.read(_CHUNK):
                out.write(data)
        return file

    def _directory(self, release: Release) -> str:
        with self._lock:
            if str(release) not in self._staged:
                self._require_staging()
                staging = str(self._gobbler.staging)
                self._staged[str(release)] = self._gobbler.allocate_upload_directory(staging=staging)
            return self._staged[str(release)]

    def put_record(self, release: Release) -> str:
        """Upload what was put, and compare what the registry then has; the directory is removed."""
        directory = self._directory(release)
        try:
            for empty in release.directories:
                os.makedirs(os.path.join(directory, empty), exist_ok=True)
            self._gobbler.upload_directory(
                release.project, release.asset, release.version, directory, consume=True, ignore_dot=False
            )
        finally:
            self.abandon(release)
        kept = self._record(release.project, release.asset, release.version)
        if kept is None or (flaw := difference(release, kept)) is not None:
            why = "it is not there" if kept is None else flaw
            raise Absent("{place} was uploaded, but {why}", place=str(release), why=Plain(str(why)))
        return "it is on probation until an owner approves it" if kept.on_probation else ""

    def abandon(self, release: Release) -> None:
        """Remove the directory in staging."""
        with self._lock:
            directory = self._staged.pop(str(release), None)
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _require_staging(self) -> None:
        """Raise Unready unless there is a staging directory, and its daemon serves this registry."""
        if self._is_ready:
            return
        try:
            if self._unready is None:
                self._look_at_staging(self._gobbler.staging)
        except Unready as error:
            self._unready = error  # asking again takes seconds, and there are several threads
        if self._unready is not None:
            raise self._unready
        self._is_ready = True

    def _look_at_staging(self, staging: str | None) -> None:
        if not staging or not os.path.isdir(staging):
            named = f"{staging} is not on this machine" if staging else "none is known"
            raise Unready(
                "releases cannot be put into {host} without its staging directory: {named}",
                host=self.host,
                named=Plain(named),
            )
        if self._gobbler.url:
            self._require_answer(staging, self._gobbler.url)
        else:
            _require_registry(staging, str(self._gobbler.registry))

    def _require_answer(self, staging: str, url: str) -> None:
        """Ask the service at the URL for what is dropped in the directory: only the right one finds it."""
        try:
            Gobbler(staging, "", url, timeout=self._gobbler.timeout).submit("health_check")
        except GobblerError as error:
            raise Unready(
                "the service at {host} does not see what is dropped in {staging} on this machine: {why}",
                host=self.host,
                staging=staging,
                why=Plain(error.reason),
            ) from None


def _require_registry(staging: str, registry: str) -> None:
    """Raise Wrong unless the daemon of the staging directory says that it serves the registry."""
    status = os.path.join(staging, "responses", ".status.json")
    served = None
    with contextlib.suppress(OSError, ValueError), open(status, encoding="utf-8") as file:
        served = json.load(file).get("registry")
    if not isinstance(served, str) or os.path.realpath(served) != os.path.realpath(registry):
        raise Unready(
            "{staging} is not the staging directory of {registry}: its daemon serves {served}",
            staging=staging,
            registry=registry,
            served=served or Plain("nothing that it tells of"),
        )


class _Passing(io.FileIO):
    """A file of the cache that is removed when it was passed on."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "rb")
        self._path = path

    def close(self) -> None:
        """Close it, and remove it."""
        if not self.closed:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        super().close()


def _default_cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "gobbler", "mirror")


def _or_none(read: Any) -> Any:
    """Return what reading gives; None where there is nothing."""
    try:
        return read()
    except FileNotFoundError:
        return None
    except GobblerError as error:
        if error.code == _NOT_FOUND:
            return None
        raise
