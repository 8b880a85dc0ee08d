"""Small registries made by hand, and a context to perform actions on them without a daemon.

What is written here follows spec/registry.md from the files alone, so that tests of single actions need no
other action; ancestors and usage are worked out from what was written before.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gobblerd.actions.action import Context, Policy
from gobblerd.domain.permissions import Caller
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin
from gobblerd.storage.files import Durability

TIME = "2026-11-20T10:37:45.123456Z"


@dataclass(frozen=True)
class To:
    """A link to `project/asset/version/path`."""

    parent: str


@dataclass(frozen=True)
class Whitelisted:
    """An absolute symbolic link, which the manifest lists as a plain file."""

    path: str


Content = bytes | To | Whitelisted | None  # None: an empty directory


def entry_of(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "md5sum": hashlib.md5(data).hexdigest()}


def write_json(path: str, document: Any, *, ascii_only: bool = True) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, ensure_ascii=ascii_only)


def read_json(path: str) -> Any:
    with open(path, "rb") as file:
        return json.load(file)


def _address(text: str) -> dict[str, str]:
    project, asset, version, path = text.split("/", 3)
    return {"project": project, "asset": asset, "version": version, "path": path}


def _text(link: Mapping[str, str]) -> str:
    return "/".join(link[key] for key in ("project", "asset", "version", "path"))


class Book:
    """Writes a registry, version by version."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.manifests: dict[str, dict[str, Any]] = {}

    def full(self, path: str) -> str:
        return os.path.join(self.root, path)

    def version(self, place: str, contents: Mapping[str, Content], *, on_probation: bool = False) -> str:
        """Write one version; links may go to any earlier one, and to earlier paths of this one."""
        project, _, version = place.split("/")
        os.makedirs(self.full(place))
        manifest = self.manifests[place] = {}
        for path, content in contents.items():
            self._put(place, path, content, manifest)
        write_json(self.full(f"{place}/..manifest"), manifest)
        self._write_links(place, manifest)
        summary: dict[str, Any] = {"upload_user_id": "x", "upload_start": TIME, "upload_finish": TIME}
        if on_probation:
            summary["on_probation"] = True
        else:
            write_json(self.full(f"{posixpath.dirname(place)}/..latest"), {"version": version})
        write_json(self.full(f"{place}/..summary"), summary)
        write_json(self.full(f"{project}/..permissions"), {"owners": ["x"], "uploaders": []})
        write_json(self.full(f"{project}/..usage"), {"total": self.total(project)})
        return place

    def total(self, project: str) -> int:
        return sum(
            entry["size"]
            for place, manifest in self.manifests.items()
            if place.split("/")[0] == project
            for entry in manifest.values()
            if "link" not in entry
        )

    def _put(self, place: str, path: str, content: Content, manifest: dict[str, Any]) -> None:
        full = self.full(f"{place}/{path}")
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if content is None:
            os.makedirs(full)
            manifest[path] = {"size": 0, "md5sum": ""}
        elif isinstance(content, bytes):
            with open(full, "wb") as file:
                file.write(content)
            manifest[path] = entry_of(content)
        elif isinstance(content, Whitelisted):
            os.symlink(content.path, full)
            with open(content.path, "rb") as file:
                manifest[path] = entry_of(file.read())
        else:
            manifest[path] = self._linked(content.parent)
            link = manifest[path]["link"]
            os.symlink(
                posixpath.relpath(_text(link.get("ancestor", link)), os.path.dirname(f"{place}/{path}")), full
            )

    def _linked(self, parent: str) -> dict[str, Any]:
        link: dict[str, Any] = _address(parent)
        place = posixpath.join(*parent.split("/")[:3])
        entry = self.manifests[place][link["path"]]
        if "link" in entry:
            link["ancestor"] = _address(_text(entry["link"].get("ancestor", entry["link"])))
        return {"size": entry["size"], "md5sum": entry["md5sum"], "link": link}

    def _write_links(self, place: str, manifest: Mapping[str, Any]) -> None:
        links: dict[str, dict[str, Any]] = {}
        for path, entry in manifest.items():
            if "link" in entry:
                links.setdefault(os.path.dirname(path), {})[os.path.basename(path)] = entry["link"]
        for directory, found in links.items():
            write_json(self.full(os.path.join(place, directory, "..links")), found)

    def edit(self, path: str, document: Any) -> None:
        """Replace a document, as damage or another service would."""
        write_json(self.full(path), document)


def snapshot(root: str) -> dict[str, Any]:
    """Return all that lies in a registry, transactions and lock files apart."""
    found: dict[str, Any] = {}
    for directory, names, files in os.walk(root):
        if directory == root:
            names[:] = [name for name in names if name != "..transactions"]
        for name in (*names, *files):
            full = os.path.join(directory, name)
            path = os.path.relpath(full, root)
            if name.startswith("..LOCK"):
                continue
            if os.path.islink(full):
                found[path] = ("link", os.readlink(full))
            elif not os.path.isfile(full):
                found[path] = "directory" if os.path.isdir(full) else "special"
            else:
                with open(full, "rb") as file:
                    found[path] = file.read()
    return found


def make_context(
    root: str,
    *,
    whitelist: Sequence[str] = (),
    durability: Durability = Durability.PROCESS,
    lock_timeout: float = 20.0,
) -> Context:
    """Return what an administrator's action is performed with."""
    registry = Registry(root, staging="00", durability=durability, lock_timeout=lambda: lock_timeout)
    return Context(
        registry=registry,
        caller=Caller(os.getuid(), "root", "root", is_administrator=True),
        origin=Origin("00"),
        policy=Policy(whitelist=tuple(whitelist)),
        staging_fd=-1,
        staging="",
        progress=lambda _done, _total: None,
    )
