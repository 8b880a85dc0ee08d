"""A release: a version as one document, whoever keeps it (spec/archives.md, "Releases").

Made of a version's manifest and summary, or of what another archive says of it. What comes from there is
checked here before anybody opens a file by it. Known limit: of links only the manifest's own text is kept.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from gobblerd.domain.names import is_internal
from gobblerd.domain.version_spec import SemVer

FORMAT = "gobblerd-release-1"
_PATH_LONGEST = 4096  # bytes
_PART_LONGEST = 255


@dataclass(frozen=True, slots=True)
class ReleaseFile:
    """A file of a release: size in bytes, checksums in lower case, "" for one that is not known.

    `blob` is what the archive that keeps it calls its content. `link` is the manifest's, if it has one.
    """

    path: str
    size: int
    md5sum: str = ""
    sha256: str = ""
    blob: str = ""
    link: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """A version: its files and its empty directories, sorted by path; who made it and when (RFC 3339)."""

    project: str
    asset: str
    version: str
    files: tuple[ReleaseFile, ...]
    directories: tuple[str, ...] = ()
    uploader: str = ""
    upload_start: str = ""
    upload_finish: str = ""
    on_probation: bool = False

    def __str__(self) -> str:
        """Return `project/asset/version`."""
        return f"{self.project}/{self.asset}/{self.version}"

    @property
    def title(self) -> str:
        """The name that people know it by, like `model-v1.2.0`."""
        return release_title(self.asset, self.version)

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    def document(self) -> dict[str, Any]:
        """Return the release record, a JSON document."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "title": self.title,
            "project": self.project,
            "asset": self.asset,
            "version": self.version,
            "uploader": self.uploader,
            "upload_start": self.upload_start,
            "upload_finish": self.upload_finish,
        }
        if self.on_probation:
            document["on_probation"] = True
        return {
            **document,
            "size": self.size,
            "files": [_file_document(file) for file in self.files],
            "directories": list(self.directories),
        }


def _file_document(file: ReleaseFile) -> dict[str, Any]:
    found: dict[str, Any] = {"path": file.path, "size": file.size}
    for key in ("md5sum", "sha256"):
        if value := getattr(file, key):
            found[key] = value
    if file.link is not None:
        found["link"] = dict(file.link)
    return found


def release_title(asset: str, version: str) -> str:
    """Return `asset-vversion`, without doubling the `v` of a version that has one."""
    is_prefixed = version[:1] in {"v", "V"} and SemVer.read(version) is not None
    return f"{asset}-v{version[1:] if is_prefixed else version}"


def release_of(
    project: str, asset: str, version: str, manifest: Mapping[str, Any], summary: Mapping[str, Any]
) -> Release:
    """Make the release of a version from its two documents; ValueError names what is wrong in them.

    >>> manifest = {"a/b": {"size": 3, "md5sum": "900150983cd24fb0d6963f7d28e17f72"}}
    >>> release = release_of("p", "model", "v1.2", manifest, {"upload_user_id": "anna"})
    >>> release.title, release.size, release.uploader
    ('model-v1.2', 3, 'anna')
    """
    place = f"{project}/{asset}/{version}"
    files: list[ReleaseFile] = []
    directories: list[str] = []
    for path in sorted(manifest):
        entry = manifest[path]
        size, md5sum, link = entry.get("size") or 0, entry.get("md5sum") or "", entry.get("link")
        if not md5sum and link is None:
            directories.append(path)
        else:
            files.append(ReleaseFile(path, size, md5sum, link=link))
    check_paths(place, [file.path for file in files], directories)
    return Release(
        project,
        asset,
        version,
        tuple(files),
        tuple(directories),
        str(summary.get("upload_user_id") or ""),
        str(summary.get("upload_start") or ""),
        str(summary.get("upload_finish") or ""),
        on_probation=bool(summary.get("on_probation")),
    )


def difference(one: Release, other: Release) -> str | None:
    """Return how two releases differ, as far as is known: paths, sizes, and checksums that both have."""
    ours, theirs = ({file.path: file for file in release.files} for release in (one, other))
    if odd := ours.keys() ^ theirs.keys():
        return f"only one of the two has {min(odd)!r}"
    for path, file in ours.items():
        found = theirs[path]
        if file.size != found.size:
            return f"{path!r} has {file.size} and {found.size} bytes"
        pairs = ((file.md5sum, found.md5sum), (file.sha256, found.sha256))
        if any(a and b and a != b for a, b in pairs):
            return f"{path!r} has other contents"
    if odd := set(one.directories) ^ set(other.directories):
        return f"only one of the two has the empty directory {min(odd)!r}"
    return None


def check_paths(place: str, files: Iterable[str], directories: Iterable[str]) -> None:
    """Raise ValueError if the paths of the release at `place` cannot all be files below one directory."""
    taken: set[str] = set()
    inner: set[str] = set()
    for path in (*files, *directories):
        if flaw := flaw_of_path(path):
            raise ValueError(f"{place} has a file {path!r}, which cannot be: {flaw}")
        if path in taken:
            raise ValueError(f"{place} has two files {path!r}")
        taken.add(path)
        parts = path.split("/")
        inner.update("/".join(parts[:count]) for count in range(1, len(parts)))
    if both := taken & inner:
        raise ValueError(f"{place} has {min(both)!r} both as a file and as a directory with files in it")


def flaw_of_path(path: str) -> str | None:
    """Return what keeps a path from being that of a version's file; None if nothing does."""
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > _PATH_LONGEST:
        return f"it is longer than {_PATH_LONGEST} bytes"
    for part in path.split("/"):
        if part in {"", "."}:
            return "it is absolute, or has an empty part" if not part else 'it has a part "."'
        if is_internal(part):
            return 'a part of it begins with ".."'
        if "\0" in part or len(part.encode("utf-8")) > _PART_LONGEST:
            return f"a part of it is longer than {_PART_LONGEST} bytes, or contains NUL"
    return None
