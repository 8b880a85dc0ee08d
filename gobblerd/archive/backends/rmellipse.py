"""A directory of releases in the layout that rmellipse's FileSystemArchive reads and writes.

    .rmearchive                                     makes it one; empty
    <workspace>/<title>/<title>-v<version>.yml      a release record: YAML, as PyYAML's safe_dump writes it
    <workspace>/<title>/blobs/<sha[:2]>/<sha256>    the content of its files

A workspace is a project here, a title an asset. The record holds `title`, `title_versionless`, `version`
(Semantic Versioning, of three numbers: rmellipse fails on any other), `project` (a tree of what `records.py`
describes), and `workflow_config_path`, `workflow`, `requirements`, `datasets` of rmellipse's own, which are
empty in what is written here. rmellipse reads every file beside a record whose name holds the title, so
nothing else is ever put there, not even for a moment.

Known limits: who uploaded a release, and when, is not in this layout; an existing blob is believed if it has
the right size, until it is read.
"""

import contextlib
import errno
import hashlib
import io
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gobblerd.archive.backends import records
from gobblerd.archive.backends.backend import Content, Each
from gobblerd.archive.writing import Temporary, temporary
from gobblerd.domain.errors import Invalid, Plain, Wrong
from gobblerd.domain.release import Release, ReleaseFile
from gobblerd.domain.version_spec import VersionSpec
from gobblerd.storage.files import READ_FILE, opened, read_all

MARKER = ".rmearchive"
_BLOBS = "blobs"
_SUFFIX = ".yml"
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_CHUNK = 1 << 20
_RECORD_MOST = 1 << 28  # bytes of a record
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileSystemArchive:
    """An archive in a directory; Wrong if it is none.

    >>> FileSystemArchive("/nowhere")
    Traceback (most recent call last):
    gobblerd.domain.errors.Wrong: "/nowhere" is no rmellipse archive: it has no file .rmearchive
    """

    def __init__(self, host: str) -> None:
        self.host = host
        if not os.path.exists(os.path.join(host, MARKER)):
            raise Wrong(
                "{path} is no rmellipse archive: it has no file {name}", path=host, name=Plain(MARKER)
            )

    # ---- reading

    def list_records(self, project: str, asset: str, spec: VersionSpec) -> Iterator[Release]:
        """Yield the releases that an expression means, oldest to newest; `latest` is the newest release."""
        before = f"{asset}-v"
        try:
            with os.scandir(self._folder(project, asset)) as entries:
                names = [entry.name for entry in entries if entry.is_file()]
        except (FileNotFoundError, NotADirectoryError):
            return
        found = {
            name[len(before) : -len(_SUFFIX)]: name
            for name in names
            if name.startswith(before) and name.endswith(_SUFFIX)
        }
        latest = VersionSpec.parse(">=0").select(found)[-1:]
        for version in spec.select(found, latest[0] if latest else None):
            yield self._read(os.path.join(self._folder(project, asset), found[version]), project, asset)

    def _read(self, path: str, project: str, asset: str) -> Release:
        with opened(path, READ_FILE & ~os.O_NOFOLLOW) as fd:
            data = read_all(fd, _RECORD_MOST)
        release = records.release_of_record(_parsed(data, path), path, project, asset)
        if os.path.basename(path) != f"{asset}-v{release.version}{_SUFFIX}":
            raise Invalid(
                "{path} is the record of another version: {version}", path=path, version=release.version
            )
        return release

    def open_blob(self, release: Release, file: ReleaseFile, each: Each | None = None) -> Content:  # noqa: ARG002 - it is here already
        """Open a file's blob."""
        if not file.blob and not file.size:  # an archive elsewhere keeps no blobs of empty files
            return io.BytesIO()
        if not _SHA256.fullmatch(file.blob):
            raise Invalid(
                "{path} of {release} has no content here: its blob is called {blob}, which is no SHA-256",
                path=file.path,
                release=Plain(str(release)),
                blob=file.blob,
            )
        return open(self._blob(release, file.blob), "rb", buffering=0)

    # ---- writing

    def fit(self, release: Release) -> Release:
        """Return the release under a version of three numbers, which is all that rmellipse reads."""
        return records.fitting(release)

    def find_record(self, release: Release) -> Release | None:
        """Return the release of that version, if there is one."""
        path = self._record(release)
        return self._read(path, release.project, release.asset) if os.path.exists(path) else None

    def put_blob(self, release: Release, file: ReleaseFile, content: Content) -> ReleaseFile:
        """Store a file's bytes under their SHA-256; they are durable before they have that name."""
        digest = hashlib.sha256()
        with temporary(self._blobs(release)) as growing:
            while data := content.read(_CHUNK):
                digest.update(data)
                growing.file.write(data)
            growing.sync()
            name = digest.hexdigest()
            self._install(growing, self._blob(release, name), file.size)
        return replace(file, sha256=name, blob=name)

    @staticmethod
    def _install(growing: Temporary, target: str, size: int) -> None:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(target).st_size == size:
                return
        growing.rename(target)  # also over one that somebody was killed over

    def put_record(self, release: Release) -> str:
        """Write the record, whole or not at all; FileExistsError if there is one."""
        path = self._record(release)
        data = _written(records.record_of(release, {file.path: file.blob for file in release.files}))
        with temporary(self._blobs(release)) as growing:
            growing.file.write(data)
            growing.sync()
            try:
                os.link(growing.path, path)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                _write(path, data)
        return ""

    def abandon(self, release: Release) -> None:
        """Leave the blobs: the next attempt finds them, and without a record nobody looks at them."""

    # ---- the layout

    def _folder(self, project: str, asset: str) -> str:
        return os.path.join(self.host, project, asset)

    def _record(self, release: Release) -> str:
        return os.path.join(self._folder(release.project, release.asset), f"{release.title}{_SUFFIX}")

    def _blobs(self, release: Release) -> str:
        path = os.path.join(self._folder(release.project, release.asset), _BLOBS)
        os.makedirs(path, exist_ok=True)
        return path

    def _blob(self, release: Release, sha256: str) -> str:
        return os.path.join(self._folder(release.project, release.asset), _BLOBS, sha256[:2], sha256)


def _write(path: str, data: bytes) -> None:
    with open(os.open(path, _CREATE, 0o666), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def _parsed(data: bytes, path: str) -> Any:
    import yaml  # noqa: PLC0415 - 20 ms that are needed for this layout only

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(data, loader)  # noqa: S506 - both are the safe ones
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Invalid("{path} is no YAML document: {why}", path=path, why=str(error)) from None


def _written(document: Any) -> bytes:
    import yaml  # noqa: PLC0415 - as above

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: bytes = yaml.dump(document, Dumper=dumper, encoding="utf-8")
    return text
