"""rmellipse's release records, as documents: the same in a directory (YAML) and in a CDCS (JSON).

`project` is a tree: the name of a file or directory -> what it is. Keys that begin with a slash tell that:
`/path/` (relative to the release, with `/`), `/item/` (`Directory`, `File`, `H5_File`; inside the latter
`H5_Group` and `H5_DATASET`), `/attrs/`, `/file-type/`, and for files `/bpid/` (the blob) and `/bytes/`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from gobblerd.domain.errors import Invalid, Plain, Wrong
from gobblerd.domain.names import check_name
from gobblerd.domain.release import Release, ReleaseFile, check_paths
from gobblerd.domain.version_spec import SemVer

_DIRECTORY = "Directory"
_FILES = frozenset({"File", "H5_File"})
_MISC = "misc"
_SHA256_LENGTH = 64
_DEPTH_MOST = 256
_FILES_MOST = 1_000_000


def fitting(release: Release) -> Release:
    """Return the release as rmellipse can read it: `1.2` becomes 1.2.0; Wrong if it has no such version."""
    check_name("project", release.project)
    check_name("asset", release.asset)
    version = SemVer.read(release.version)
    if version is None:
        raise Wrong(
            "{release} cannot be kept in rmellipse's layout, which knows semantic versions only",
            release=Plain(str(release)),
        )
    if bad := next((char for char in "<>=" if char in release.asset), None):
        raise Wrong(
            "{release} cannot be kept in rmellipse's layout: it could not be asked for with a {char} in it",
            release=Plain(str(release)),
            char=bad,
        )
    return replace(release, version=str(version))


def record_of(release: Release, blobs: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the record of a release that fits; `blobs` has what its files' contents are called."""
    tree: dict[str, Any] = {}
    for directory in release.directories:
        _directory(tree, directory)
    for file in release.files:
        parent, _, name = file.path.rpartition("/")
        _directory(tree, parent)[name] = {
            "/path/": file.path,
            "/attrs/": {},
            "/item/": "File",
            "/file-type/": _MISC,
            "/bpid/": blobs[file.path],
            "/bytes/": file.size,
        }
    return {
        "title": release.title,
        "title_versionless": release.asset,
        "version": release.version,
        "workflow_config_path": "",
        "workflow": {},
        "requirements": [],
        "project": tree,
        "datasets": {},
    }


def _directory(tree: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the directory in the tree, made with those above it where they are missing."""
    if not path:
        return tree
    parent, _, name = path.rpartition("/")
    above = _directory(tree, parent)
    found: dict[str, Any] = above.setdefault(name, {"/path/": path, "/attrs/": {}, "/item/": _DIRECTORY})
    return found


def release_of_record(record: Any, where: str, project: str, asset: str) -> Release:
    """Make the release of a record; Invalid, with `where` it is, if it is not what it should be."""
    wrong = _Wrong(where)
    if not isinstance(record, dict) or not isinstance(record.get("project"), dict):
        raise wrong("it is no release record")
    version = record.get("version")
    if not isinstance(version, str) or SemVer.read(version) is None:
        raise wrong(f"its version {version!r} is no semantic version in quotes")
    if record.get("title_versionless") != asset:
        raise wrong(f"it is of {record.get('title_versionless')!r}")
    files: list[ReleaseFile] = []
    directories: list[str] = []
    for kind, item in _items(record["project"], wrong, 0):
        path = item.get("/path/")
        if not isinstance(path, str):
            raise wrong(f"the path {path!r} is no text")
        if kind == _DIRECTORY:
            directories.append(path)
        else:
            files.append(_file(path, item, wrong))
        if len(files) + len(directories) > _FILES_MOST:
            raise wrong(f"it has more than {_FILES_MOST} files")
    try:
        check_paths(where, [file.path for file in files], directories)
    except ValueError as error:
        raise wrong(str(error)) from None
    files.sort(key=lambda file: file.path)
    return Release(project, asset, version, tuple(files), tuple(sorted(directories)))


def _items(tree: Mapping[Any, Any], wrong: "_Wrong", depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield files and empty directories with their kind."""
    if depth > _DEPTH_MOST:
        raise wrong(f"its tree is deeper than {_DEPTH_MOST}")
    for name, item in tree.items():
        if not isinstance(name, str):
            raise wrong(f"the name {name!r} is no text: it lacks quotes")
        if name.startswith("/"):
            continue
        kind = item.get("/item/") if isinstance(item, dict) else None
        if kind in _FILES:
            yield str(kind), item
        elif kind != _DIRECTORY:
            raise wrong(f"{name!r} is neither a file nor a directory")
        elif any(isinstance(key, str) and not key.startswith("/") for key in item):
            yield from _items(item, wrong, depth + 1)
        else:
            yield _DIRECTORY, item


def _file(path: str, item: Mapping[str, Any], wrong: "_Wrong") -> ReleaseFile:
    size, blob = item.get("/bytes/"), item.get("/bpid/") or ""
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or not isinstance(blob, str):
        raise wrong(f"the size {size!r} or the blob {blob!r} of {path!r} cannot be")
    is_hash = len(blob) == _SHA256_LENGTH and all(char in "0123456789abcdef" for char in blob)
    return ReleaseFile(path, size, sha256=blob if is_hash else "", blob=blob)


class _Wrong:
    """Makes the refusal of one record."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __call__(self, why: str) -> Invalid:
        return Invalid("the release record {where} is not usable: {why}", where=self._where, why=Plain(why))
