"""`upload` in the model: from a source to a manifest (spec/requests.md, "Upload"; spec/details.md, "Links").

A source maps paths to bytes, None (an empty directory), `FIFO`, or a symbolic link: ("local", text),
("own", path) by the source's absolute path, ("registry", path), ("white", name), ("text", text).
"""

import hashlib
import posixpath
import time
from dataclasses import dataclass
from typing import Any

from model.contract import (
    LAST,
    Asset,
    Document,
    Nature,
    Place,
    Refusal,
    Request,
    Version,
    World,
    existing_project,
    place_of,
    upload_right,
)
from model.links import content_at, link_to, linkable, linked_entry, target_of

FIFO = ("fifo", "")
SOURCE = "up"  # the name of every source


def entry_of(data: bytes) -> Document:
    return {"size": len(data), "md5sum": hashlib.md5(data).hexdigest()}


@dataclass
class Taken:
    """What of a source is taken: names that are skipped are not there."""

    files: dict[str, bytes]
    links: dict[str, tuple[str, str]]
    empty: set[str]


def taken(source: Any, *, ignore_dot: bool) -> Taken:
    prefix = "." if ignore_dot else ".."
    found = Taken({}, {}, set())
    directories: set[str] = set()
    kept: set[str] = set()
    for path, content in source.items():
        parts = path.split("/")
        for depth in range(1, len(parts) + (content is None)):
            directories.add("/".join(parts[:depth]))
        if any(part.startswith(prefix) for part in parts):
            continue
        kept.add(path)
        if content == FIFO:
            raise Refusal(400)
        if isinstance(content, bytes):
            found.files[path] = content
        elif content is not None:
            found.links[path] = content
    kept |= {d for d in directories if not any(part.startswith(prefix) for part in d.split("/"))}
    parents = {posixpath.dirname(path) for path in kept}
    found.empty = {d for d in directories if d in kept and d not in parents}
    return found


class Upload:
    """One upload's manifest in the making."""

    def __init__(self, world: World, place: Place, source: Taken, nature: Nature) -> None:
        self.world = world
        self.place = place
        self.source = source
        self.nature = nature
        self.manifest: dict[str, Document] = {path: {"size": 0, "md5sum": ""} for path in source.empty}
        self.white: dict[str, str] = {}

    def run(self) -> None:
        for path, data in self.source.files.items():
            self.manifest[path] = self.deduplicated(entry_of(data))
        for path in self.source.links:
            self.settle(path, frozenset())

    def deduplicated(self, entry: Document) -> Document:
        """Link to the first equal file, by path, of the latest version, if its bytes are still there."""
        project, asset, _ = self.place
        seen = self.nature.earlier or self.world
        latest = seen.projects[project].assets[asset].latest if seen.has(project, asset) else None
        if latest is None:
            return entry
        place = (project, asset, latest)
        version, now = seen.version(place), self.world.version(place)
        assert version
        if now is None or now.on_probation or now.manifest != version.manifest:
            return entry
        for path in sorted(version.manifest):
            other = version.manifest[path]
            if (other["size"], other["md5sum"]) == (entry["size"], entry["md5sum"]):
                file = (*place, path)
                sound = content_at(self.world, file) == (entry["size"], entry["md5sum"])
                return linked_entry(file, other) if sound and self.is_alive(link_to(file, other)) else entry
        return entry

    def is_alive(self, link: Document) -> bool:
        end = self.world.version(target_of(link)[:3])
        return end is not None and not end.on_probation

    def settle(self, path: str, passed: frozenset[str]) -> Document:
        """Return the entry at a path of the source, after those that its links go to."""
        if path in self.manifest:
            if path in self.source.empty:
                raise Refusal(400)
            return self.manifest[path]
        if path in passed or path not in self.source.links:  # a cycle, or nothing
            raise Refusal(400)
        kind, text = self.source.links[path]
        if kind in {"local", "own"}:
            inside = (
                posixpath.normpath(posixpath.join(posixpath.dirname(path), text)) if kind == "local" else text
            )
            entry = linked_entry((*self.place, inside), self.settle(inside, passed | {path}))
        elif kind == "registry":
            entry = self.into_registry(text)
        elif kind == "white" and text in self.nature.white:
            entry = entry_of(self.nature.white[text])
            self.white[path] = text
        else:
            raise Refusal(400)
        self.manifest[path] = entry
        return entry

    def into_registry(self, text: str) -> Document:
        parts = text.split("/")
        if len(parts) < 4 or any(part.startswith("..") for part in parts):
            raise Refusal(400)
        parent = (parts[0], parts[1], parts[2], "/".join(parts[3:]))
        entry = linkable(self.world, parent)
        if entry is None or ("link" in entry and linkable(self.world, target_of(entry["link"])) is None):
            raise Refusal(400)
        return linked_entry(parent, entry)


def upload(world: World, request: Request, nature: Nature) -> Document:
    document, user = request.document, request.actor
    place = place_of(document)
    if request.source is None or document["source"] != SOURCE:
        raise Refusal(400)
    if request.source_user != request.user:
        raise Refusal(403)
    project = existing_project(world, place[0])
    trusted, makes_owner = upload_right(world, user, place)
    if world.version(place) is not None:
        raise Refusal(400)
    work = Upload(world, place, taken(request.source, ignore_dot=bool(document.get("ignore_dot"))), nature)
    work.run()
    on_probation = bool(document.get("on_probation")) or not trusted
    finish = nature.finish_of(place)
    version = Version(user, on_probation, LAST if finish is None else finish, work.manifest, work.white)
    quota, year = project.quota, time.gmtime().tm_year
    limit = quota["baseline"] + quota["growth_rate"] * max(0, year - quota["year"])
    if project.usage + version.stored > limit:
        raise Refusal(413)
    install(world, place, version, user if makes_owner else None)
    return {}


def install(world: World, place: Place, version: Version, owner: str | None) -> None:
    project = world.projects[place[0]]
    asset = project.assets.setdefault(place[1], Asset())
    if owner is not None:
        asset.permissions = {"owners": [owner], "uploaders": []}
    asset.versions[place[2]] = version
    project.usage += version.stored
    if not version.on_probation:
        asset.latest = place[2]
        world.log("add-version", *place, latest=True)


def left_in_source(request: Request, world: World) -> dict[str, Any]:
    """What a successful upload leaves of its source, in the world after it: stored files are consumed."""
    assert request.source is not None
    version = world.version(place_of(request.document))
    if not request.document.get("consume") or version is None:
        return dict(request.source)
    stored = {p for p, entry in version.manifest.items() if "link" not in entry and p not in version.white}
    return {p: content for p, content in request.source.items() if content is None or p not in stored}
