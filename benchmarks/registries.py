"""Registries made without any server: documents as spec'd for both services, of whatever number is wanted.

The files of most are not written, as nothing that is measured on these registries reads them: refreshing
and rerouting look at documents only. `write_tree` makes real, empty files, to be listed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

TIME = "2026-01-01T00:00:00.000000Z"
VERSIONS_PER_ASSET = 100
FILE_BYTES = 1000
CONTENT = b"a" * FILE_BYTES
CONTENT_MD5 = hashlib.md5(CONTENT).hexdigest()


def write_json(path: str, document: Mapping[str, Any]) -> None:
    """Write a document as the Go service does, indented by four spaces."""
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=4)


def write_project(root: str, project: str, total: int = 0) -> None:
    """Write a project without assets."""
    top = os.path.join(root, project)
    os.makedirs(top)
    os.makedirs(os.path.join(root, "..logs"), exist_ok=True)
    write_json(os.path.join(top, "..permissions"), {"owners": ["root"], "uploaders": []})
    write_json(os.path.join(top, "..usage"), {"total": total})
    write_json(os.path.join(top, "..quota"), {"baseline": 10**12, "growth_rate": 10**12, "year": 2026})


def write_version(root: str, place: str, manifest: Mapping[str, Any] | str) -> None:
    """Write the documents of a version `project/asset/version`."""
    top = os.path.join(root, place)
    os.makedirs(top)
    with open(os.path.join(top, "..manifest"), "w", encoding="utf-8") as file:
        file.write(manifest if isinstance(manifest, str) else json.dumps(manifest, indent=4))
    summary = {"upload_user_id": "root", "upload_start": TIME, "upload_finish": TIME}
    write_json(os.path.join(top, "..summary"), summary)
    write_json(os.path.join(os.path.dirname(top), "..latest"), {"version": os.path.basename(top)})


def plain_manifest(files: int) -> dict[str, Any]:
    """Return a manifest of files that are no links."""
    entry = {"size": FILE_BYTES, "md5sum": CONTENT_MD5}
    return {f"directory-{number // 10}/file-{number:06}.txt": entry for number in range(files)}


def write_versions(root: str, project: str, versions: int, files: int) -> int:
    """Write a project of so many versions with so many files each; return its usage in bytes."""
    write_project(root, project)
    manifest = json.dumps(plain_manifest(files), indent=4)
    for number in range(versions):
        asset = f"asset-{number // VERSIONS_PER_ASSET}"
        write_version(root, f"{project}/{asset}/{number % VERSIONS_PER_ASSET}", manifest)
    return versions * files * FILE_BYTES


def write_linked(root: str, versions: int, doomed: int, files: int) -> int:
    """Write versions of which each has one link into the asset `old/doomed`; return how many links.

    The first `doomed` of them are that asset's. Links and the files that they go to are really there.
    """
    write_project(root, "old")
    write_project(root, "new")
    plain = plain_manifest(files)
    target = next(iter(plain))
    for number in range(doomed):
        write_version(root, f"old/doomed/{number}", plain)
        _write_file(os.path.join(root, "old/doomed", str(number), target))
    for number in range(versions - doomed):
        link = {"project": "old", "asset": "doomed", "version": str(number % doomed), "path": target}
        place = f"new/asset-{number // VERSIONS_PER_ASSET}/{number % VERSIONS_PER_ASSET}"
        write_version(root, place, {**plain, "linked": {**plain[target], "link": link}})
        write_json(os.path.join(root, place, "..links"), {"linked": link})
        os.symlink(f"../../../old/doomed/{number % doomed}/{target}", os.path.join(root, place, "linked"))
    return versions - doomed


def write_tree(root: str, place: str, files: int, per_directory: int = 1000) -> None:
    """Write a version of empty files that are really there."""
    write_project(root, place.partition("/")[0])
    entry = {"size": 0, "md5sum": "d41d8cd98f00b204e9800998ecf8427e"}
    names = [f"directory-{number // per_directory:04}/file-{number:06}" for number in range(files)]
    write_version(root, place, dict.fromkeys(names, entry))
    for name in names:
        _write_file(os.path.join(root, place, name), b"")


def _write_file(path: str, content: bytes = CONTENT) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)
