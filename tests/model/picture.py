"""A registry as one plain value, read from disk or drawn from the model, so that the two can be compared.

From disk every name is taken, known or not, but for locks, transactions, the marker and `..checksums`.
"""

import hashlib
import os
import posixpath
from collections import Counter
from typing import Any

from model.contract import Asset, Place, Version, World
from model.links import is_directory, symlink_text
from support.documents import events, nanoseconds, parse

UNSEEN = {"..LOCK", "..LOCK_NEWDIR", "..LOCK_USAGE", "..transactions", "..logs", "..gobblerd", "..checksums"}
Picture = dict[str, Any]


def of_disk(root: str) -> Picture:
    """Every path with what is there: documents parsed, files by MD5, symbolic links by their text."""
    found: Picture = {}
    for directory, names, files in os.walk(root):
        names[:] = [name for name in names if name not in UNSEEN]
        here = os.path.relpath(directory, root)
        if here != ".":
            found[here] = "directory"
        for name in (*files, *(n for n in names if os.path.islink(os.path.join(directory, n)))):
            if name not in UNSEEN:
                found[posixpath.normpath(f"{here}/{name}")] = _on_disk(os.path.join(directory, name), name)
    found["events"] = events(root)
    return found


def _on_disk(path: str, name: str) -> Any:
    if os.path.islink(path):
        return f"-> {os.readlink(path)}"
    with open(path, "rb") as file:
        data = file.read()
    if not name.startswith(".."):
        return f"{len(data)} bytes, {hashlib.md5(data).hexdigest()}"
    document = parse(data)
    if name == "..summary":
        return {"user": document["upload_user_id"], "on_probation": document.get("on_probation", False)}
    return document


def of_world(world: World, white: str) -> Picture:
    """What the model says is on disk; `white` is the whitelisted directory."""
    found: Picture = {}
    for project, held in world.projects.items():
        found[project] = "directory"
        found[f"{project}/..permissions"] = held.permissions
        found[f"{project}/..usage"] = {"total": held.usage}
        found[f"{project}/..quota"] = held.quota
        for asset, place in held.assets.items():
            _draw_asset(found, f"{project}/{asset}", place)
    for place in world.places():
        version = world.version(place)
        assert version
        _draw_version(found, place, version, white)
    found["events"] = Counter(world.events)
    return found


def _draw_asset(found: Picture, path: str, asset: Asset) -> None:
    found[path] = "directory"
    if asset.permissions is not None:
        found[f"{path}/..permissions"] = asset.permissions
    if asset.latest is not None:
        found[f"{path}/..latest"] = {"version": asset.latest}


def _draw_version(found: Picture, place: Place, version: Version, white: str) -> None:
    top = "/".join(place)
    found[top] = "directory"
    found[f"{top}/..manifest"] = version.manifest
    found[f"{top}/..summary"] = {"user": version.user, "on_probation": version.on_probation}
    for path, entry in version.manifest.items():
        parents = path.split("/")[:-1]
        for depth in range(1, len(parents) + 1):
            found[f"{top}/{'/'.join(parents[:depth])}"] = "directory"
        if "link" in entry:
            found[f"{top}/{path}"] = f"-> {symlink_text((*place, path), entry['link'])}"
            noted = posixpath.normpath(f"{top}/{posixpath.dirname(path)}/..links")
            found.setdefault(noted, {})[posixpath.basename(path)] = entry["link"]
        elif path in version.white:
            found[f"{top}/{path}"] = f"-> {white}/{version.white[path]}"
        elif is_directory(entry):
            found[f"{top}/{path}"] = "directory"
        else:
            found[f"{top}/{path}"] = f"{entry['size']} bytes, {entry['md5sum']}"


def difference(expected: Picture, found: Picture) -> list[str]:
    """One line for each path that differs."""
    return [
        f"{key}: expected {expected.get(key, 'nothing')}, found {found.get(key, 'nothing')}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]


def finish_on_disk(root: str, place: Place) -> int | None:
    """The upload_finish of a version in nanoseconds; None if it is not there."""
    try:
        with open(os.path.join(root, *place, "..summary"), "rb") as file:
            return nanoseconds(parse(file.read())["upload_finish"])
    except FileNotFoundError:
        return None
