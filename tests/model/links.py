"""Links in the model: what they say, which are broken, and what validate, reindex and reroute do with them.

From spec/registry.md ("..manifest") and spec/details.md ("Links"). A file is (project, asset, version, path).
"""

import posixpath
from collections.abc import Iterator
from typing import Any

from model.contract import (
    Document,
    Nature,
    Possible,
    Refusal,
    Request,
    World,
    attempt,
    existing_version,
    place_of,
)

File = tuple[str, str, str, str]
KEYS = ("project", "asset", "version", "path")


def named(file: File) -> Document:
    return dict(zip(KEYS, file, strict=True))


def parent_of(link: Document) -> File:
    return link["project"], link["asset"], link["version"], link["path"]


def target_of(link: Document) -> File:
    """The real file: where the symbolic link on disk goes."""
    return parent_of(link.get("ancestor") or link)


def make_link(parent: File, target: File) -> Document:
    found = named(parent)
    if target != parent:
        found["ancestor"] = named(target)
    return found


def link_to(parent: File, entry: Document) -> Document:
    """The link to a file with that manifest entry."""
    return make_link(parent, target_of(entry["link"]) if "link" in entry else parent)


def linked_entry(parent: File, entry: Document) -> Document:
    return {"size": entry["size"], "md5sum": entry["md5sum"], "link": link_to(parent, entry)}


def symlink_text(file: File, link: Document) -> str:
    return posixpath.relpath("/".join(target_of(link)), posixpath.dirname("/".join(file)))


def is_directory(entry: Document) -> bool:
    return not entry["md5sum"]


def entry_at(world: World, file: File) -> Document | None:
    version = world.version(file[:3])
    return None if version is None else version.manifest.get(file[3])


def content_at(world: World, file: File, depth: int = 20) -> tuple[int, str] | None:
    """Size and MD5 of the bytes that are read at a path of the registry, symbolic links followed."""
    entry = entry_at(world, file)
    if entry is None or is_directory(entry) or depth == 0:
        return None
    if "link" in entry:
        return content_at(world, target_of(entry["link"]), depth - 1)
    return entry["size"], entry["md5sum"]


def linkable(world: World, file: File) -> Document | None:
    """The entry of a file that a new link may go to: not on probation, in its manifest, no directory."""
    version = world.version(file[:3])
    entry = entry_at(world, file)
    return None if version is None or version.on_probation or not entry or is_directory(entry) else entry


def links(world: World) -> Iterator[tuple[File, Document]]:
    """Every link of the registry with its manifest entry."""
    for place in world.places():
        version = world.version(place)
        assert version
        for path, entry in version.manifest.items():
            if "link" in entry:
                yield (*place, path), entry


def is_broken(world: World, entry: Document) -> bool:
    """Tell whether a link does not (any more) go where it should: deletions without reroute do that."""
    link = entry["link"]
    parent = entry_at(world, parent_of(link))
    if parent is None or link != link_to(parent_of(link), parent):
        return True
    last = entry_at(world, target_of(link))
    if last is None or "link" in last or is_directory(last):
        return True
    equal = {(each["size"], each["md5sum"]) for each in (entry, parent, last)}
    return len(equal) > 1


def broken(world: World) -> set[str]:
    return {"/".join(file) for file, entry in links(world) if is_broken(world, entry)}


# -- validate and reindex --------------------------------------------------------------------------------


def validate_version(world: World, request: Request, _: Nature) -> Document:
    version = existing_version(world, place_of(request.document))
    if any(is_broken(world, entry) for entry in version.manifest.values() if "link" in entry):
        raise Refusal(422)
    return {}


def reindex_version(world: World, request: Request, _: Nature) -> Document:
    """Links get size, MD5 and ancestor afresh from their parents; nothing else can differ."""
    place = place_of(request.document)
    version = existing_version(world, place)
    linked = {path: entry["link"] for path, entry in version.manifest.items() if "link" in entry}
    rebuilt = {path: entry for path, entry in version.manifest.items() if path not in linked}

    def settle(path: str) -> Document:
        if path not in rebuilt:
            if path not in linked:
                raise Refusal(422)
            parent = parent_of(linked[path])
            entry = settle(parent[3]) if parent[:3] == place else linkable(world, parent)
            if entry is None or is_directory(entry):
                raise Refusal(422)
            rebuilt[path] = linked_entry(parent, entry)
            target = target_of(rebuilt[path]["link"])
            if target[:3] != place and linkable(world, target) is None:
                raise Refusal(422)
        return rebuilt[path]

    for path in linked:
        settle(path)
    version.manifest = rebuilt
    if not version.on_probation:
        latest = world.projects[place[0]].assets[place[1]].latest == place[2]
        world.log("reindex-version", *place, latest=latest)
    return {}


# -- reroute ---------------------------------------------------------------------------------------------


def chain(world: World, link: Document) -> Iterator[File]:
    """The existing files of a link's chain, by the manifests; where a file is missing, its known end."""
    seen: set[File] = set()
    at: Document | None = link
    while at is not None:
        parent = parent_of(at)
        here = parent if entry_at(world, parent) is not None else target_of(at)
        entry = entry_at(world, here)
        if entry is None or here in seen:
            return
        seen.add(here)
        yield here
        at = entry.get("link")


def reroute(world: World, request: Request) -> list[Document]:
    """Change the world; return the answer's `changes`."""
    doomed_places = [tuple(d[k] for k in KEYS[:3] if d.get(k)) for d in request.document["to_delete"]]

    def doomed(file: File) -> bool:
        return any(file[: len(place)] == place for place in doomed_places)

    before = {file: entry["link"] for file, entry in links(world) if not doomed(file)}
    affected = {f: k for f, k in before.items() if doomed(parent_of(k)) or doomed(target_of(k))}
    living = {f: [each for each in chain(world, k) if not doomed(each)] for f, k in affected.items()}
    changes = []
    for file, link in affected.items():
        entry = entry_at(world, file)
        assert entry is not None
        source = parent_of(link) if doomed(parent_of(link)) else target_of(link)
        if living[file]:
            entry["link"] = make_link(living[file][0], living[file][-1])
        else:
            del entry["link"]
            world.projects[file[0]].usage += entry["size"]
        usage = 0 if living[file] else entry["size"]
        shown = {"path": "/".join(file), "source": "/".join(source), "copy": not living[file], "usage": usage}
        changes.append(shown)
    return sorted(changes, key=lambda change: str(change["path"]))


def reroute_links(world: World, request: Request, nature: Nature) -> list[Possible]:
    """A copy of what is broken may be refused instead: then nothing changes."""

    def perform(after: World, request: Request, _: Nature) -> dict[str, Any]:
        return {"changes": reroute(after, request)}

    found = attempt(perform, world, request, nature)
    copied = {change["path"] for change in found.keys["changes"] if change["copy"]}
    possible = [Possible(200, found.keys, world if request.document.get("dry_run") else found.world)]
    if copied & broken(world):
        possible.append(Possible(422, {}, world))
    return possible
