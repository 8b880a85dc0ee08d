"""Registries of growing size, made without a server: whole, so that all can be listed, audited and refreshed.

Each version holds one file with bytes; the others are empty, so that a million of them fit on a small disk:
what grows here is the number of things.
"""

import json
import os
from dataclasses import dataclass

from benchmarks.registries import CONTENT, CONTENT_MD5, FILE_BYTES, write_project, write_version

_EMPTY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_PER_DIRECTORY = 1000


@dataclass(frozen=True, slots=True)
class Shape:
    """How many projects, versions in each, and files in each version."""

    projects: int
    versions: int
    files: int

    @property
    def entries(self) -> int:
        """The entries of all manifests."""
        return self.projects * self.versions * self.files

    @property
    def project_bytes(self) -> int:
        """The usage of each project."""
        return self.versions * FILE_BYTES


def many_projects(size: float) -> Shape:
    """Return the shape of a registry; 16 is 1,000 projects, 20,000 versions, 1,000,000 entries."""
    return Shape(max(1, round(1000 * size / 16)), 20, 50)


def one_manifest(size: float) -> Shape:
    """Return the shape of a registry of one version; 16 is 1,000,000 entries in one manifest."""
    return Shape(1, 1, max(2, round(1_000_000 * size / 16)))


def write_grown(root: str, shape: Shape) -> None:
    """Write projects `p0`... of one asset `a`, with versions `0`..., and all their files."""
    os.makedirs(root)
    names = [_name(number, shape.files) for number in range(shape.files)]
    empty = {"size": 0, "md5sum": _EMPTY_MD5}
    full = {"size": FILE_BYTES, "md5sum": CONTENT_MD5}
    manifest = json.dumps({name: empty if number else full for number, name in enumerate(names)}, indent=4)
    for project in range(shape.projects):
        write_project(root, f"p{project}", total=shape.project_bytes)
        for version in range(shape.versions):
            place = f"p{project}/a/{version}"
            write_version(root, place, manifest)
            _write_files(os.path.join(root, place), names)


def _name(number: int, files: int) -> str:
    name = f"file-{number:07}"
    return name if files <= _PER_DIRECTORY else f"directory-{number // _PER_DIRECTORY:04}/{name}"


def _write_files(top: str, names: list[str]) -> None:
    for directory in {os.path.dirname(name) for name in names} - {""}:
        os.mkdir(os.path.join(top, directory))
    dir_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names[1:]:
            os.close(os.open(name, _CREATE, 0o644, dir_fd=dir_fd))
    finally:
        os.close(dir_fd)
    with open(os.path.join(top, names[0]), "wb") as file:
        file.write(CONTENT)
