"""An rmellipse archive by hand: written, and read as that program does, without a line of ours."""

import hashlib
import os
import re
from pathlib import Path
from typing import Any

import yaml

SEMVER = re.compile(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")
RECORD = """\
datasets:
  spectrum: data/spectrum.csv
project:
  README.md:
    /attrs/: {{}}
    /bpid/: {readme}
    /bytes/: 6
    /file-type/: misc
    /item/: File
    /path/: README.md
  data:
    /attrs/: {{}}
    /item/: Directory
    /path/: data
    measured.h5:
      /attrs/:
        unit: V
      /bpid/: {hdf}
      /bytes/: 4
      /file-type/: misc
      /item/: H5_File
      /path/: data/measured.h5
      values:
        /attrs/: {{}}
        /item/: H5_DATASET
        /path/: data/measured.h5/values
    spectrum.csv:
      /attrs/: {{}}
      /bpid/: {csv}
      /bytes/: 4
      /file-type/: dataset
      /item/: File
      /path/: data/spectrum.csv
  empty.txt:
    /attrs/: {{}}
    /bpid/: {empty}
    /bytes/: 0
    /file-type/: misc
    /item/: File
    /path/: empty.txt
  logs:
    /attrs/: {{}}
    /item/: Directory
    /path/: logs
requirements: []
title: {title}-v{version}
title_versionless: {title}
version: {version}
workflow:
  jobs: {{}}
workflow_config_path: fit.rme.yml
"""
CONTENT = {"readme": b"hello\n", "hdf": b"\x89HDF", "csv": b"1,2\n", "empty": b""}
TREE = {
    "README.md": b"hello\n",
    "data/measured.h5": b"\x89HDF",
    "data/spectrum.csv": b"1,2\n",
    "empty.txt": b"",
    "logs": None,
}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_archive(
    root: Path, workspace: str, title: str, *versions: str, content: dict[str, bytes] = CONTENT
) -> None:
    """Write releases as the layout is documented, without the code that is tried."""
    root.mkdir(exist_ok=True)
    (root / ".rmearchive").touch()
    folder = root / workspace / title
    folder.mkdir(parents=True, exist_ok=True)
    for data in content.values():
        write_blob(folder, data)
    hashes = {name: sha256(data) for name, data in content.items()}
    for version in versions:
        text = RECORD.format(title=title, version=version, **hashes)
        (folder / f"{title}-v{version}.yml").write_text(text, encoding="utf-8")


def write_blob(folder: Path, data: bytes) -> Path:
    name = sha256(data)
    place = folder / "blobs" / name[:2]
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)
    return place / name


def read_archive(root: Path, workspace: str, title: str) -> dict[str, dict[str, bytes | None]]:
    """Return version -> tree, reading as rmellipse does: every file that has the title in its name."""
    assert (root / ".rmearchive").exists()
    folder = root / workspace / title
    found: dict[str, dict[str, bytes | None]] = {}
    for path in folder.iterdir() if folder.exists() else ():
        if not path.is_file() or title not in path.name:
            continue
        record = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert SEMVER.fullmatch(record["version"])
        assert path.name == f"{title}-v{record['version']}.yml"
        assert record["title"] == f"{title}-v{record['version']}"
        assert record["title_versionless"] == title
        assert set(record) == {
            "datasets",
            "project",
            "requirements",
            "title",
            "title_versionless",
            "version",
            "workflow",
            "workflow_config_path",
        }
        found[record["version"]] = dict(_files(record["project"], folder))
    return found


def _files(tree: dict[str, Any], folder: Path) -> list[tuple[str, bytes | None]]:
    found: list[tuple[str, bytes | None]] = []
    for name, item in tree.items():
        if name[0] == "/":
            continue
        if item["/item/"] in {"File", "H5_File"}:
            blob = item["/bpid/"]
            data = (folder / "blobs" / blob[:2] / blob).read_bytes()
            assert (len(data), sha256(data)) == (item["/bytes/"], blob)
            assert set(item) >= {"/attrs/", "/file-type/", "/item/", "/path/"}
            found.append((item["/path/"], data))
        else:
            assert item["/item/"] == "Directory"
            inside = _files(item, folder)
            found += inside or [(item["/path/"], None)]
    return found


def strays(root: Path) -> list[str]:
    """Return what is neither the marker, nor a record, nor a blob under its hash."""
    odd = []
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            is_blob = path.parent.parent.name == "blobs" and path.name == sha256(path.read_bytes())
            if not is_blob and name != ".rmearchive" and not name.endswith(".yml"):
                odd.append(str(path.relative_to(root)))
    return odd
