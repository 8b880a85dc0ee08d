"""The whole contract of a registry as plain values in memory, written from spec/requests.md and details.md.

Shares no code with gobblerd: `World` is what a registry holds, and each function named like an action says
what the action answers and what it leaves behind. Uploads and links are in `uploads.py` and `links.py`.
Documents have the shape of the files on disk. Limits: the times of uploads are taken from the real thing
(`finish_of`), since no model can know them; of two equal times the greater name is the later one, which the
spec leaves open.
"""

import calendar
import time
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

ADMINISTRATORS = frozenset({"root"})
# The spoofing rules: spoofer -> (users, anyone, but).
SPOOFERS: dict[str, tuple[frozenset[str], bool, frozenset[str]]] = {
    "root": (frozenset({"olga"}), False, frozenset()),
    "portal": (frozenset(), True, frozenset({"anna"})),
}
DEFAULT_QUOTA = (1_000_000_000, 1_000_000_000)  # baseline, growth rate
LAST = 10**30  # the time of an upload that is gone again: it was later than everything

Document = dict[str, Any]
Place = tuple[str, str, str]


@dataclass
class Version:
    """A version; `white` are its links to whitelisted files (path -> name there), plain for the manifest."""

    user: str
    on_probation: bool
    finish: int
    manifest: dict[str, Document]
    white: dict[str, str] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        return sum(entry["size"] for entry in self.manifest.values() if "link" not in entry)


@dataclass
class Asset:
    permissions: Document | None = None
    latest: str | None = None
    versions: dict[str, Version] = field(default_factory=dict)

    def greatest(self) -> str | None:
        """The non-probational version with the greatest upload_finish."""
        found = [(v.finish, name) for name, v in self.versions.items() if not v.on_probation]
        return max(found)[1] if found else None


@dataclass
class Project:
    permissions: Document
    usage: int
    quota: dict[str, int]
    assets: dict[str, Asset] = field(default_factory=dict)


@dataclass
class World:
    projects: dict[str, Project] = field(default_factory=dict)
    events: Counter[tuple[tuple[str, Any], ...]] = field(default_factory=Counter)

    def version(self, place: Place) -> Version | None:
        project, asset, version = place
        return (
            self.projects[project].assets[asset].versions.get(version) if self.has(project, asset) else None
        )

    def has(self, project: str, asset: str) -> bool:
        return project in self.projects and asset in self.projects[project].assets

    def places(self) -> list[Place]:
        return [
            (p, a, v)
            for p, project in sorted(self.projects.items())
            for a, asset in sorted(project.assets.items())
            for v in sorted(asset.versions)
        ]

    def log(self, kind: str, *place: str, **facts: bool) -> None:
        named = zip(("project", "asset", "version"), place, strict=False)
        self.events[tuple(sorted([("type", kind), *named, *facts.items()]))] += 1


@dataclass(frozen=True)
class Request:
    """One request: who drops it (the request file's owner), what it says, and what `source` holds."""

    action: str
    user: str
    document: Document
    source: Mapping[str, Any] | None = None  # None: no such directory
    source_user: str = ""

    @property
    def spoof(self) -> str | None:
        return self.document.get("spoof")

    @property
    def actor(self) -> str:
        """Who counts for permissions."""
        return self.user if self.spoof is None else self.spoof

    def __str__(self) -> str:
        source = "" if self.action != "upload" else f" source of {self.source_user}: {self.source}"
        return f"{self.user}: {self.action} {self.document}{source}"


class Refusal(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


@dataclass(frozen=True)
class Nature:
    """What the model takes from the real thing: upload times, and the whitelisted files (name -> bytes).

    `earlier` is the world in which an overlapping upload looked for duplicates: it reads without locks, and at
    the commit looks again only whether those that it found still live (design/architecture.md, "Locks").
    """

    finish_of: Callable[[Place], int | None]
    white: Mapping[str, bytes]
    earlier: World | None = None


@dataclass(frozen=True)
class Possible:
    """One permitted outcome: the answer (its keys, where it is a success) and the world after it."""

    code: int
    keys: Document
    world: World


# -- who may ---------------------------------------------------------------------------------------------


def is_owner(world: World, user: str, project: str, asset: str | None) -> bool:
    if user in ADMINISTRATORS or user in world.projects[project].permissions["owners"]:
        return True
    if asset is None or not world.has(project, asset):
        return False
    own = world.projects[project].assets[asset].permissions
    return own is not None and user in own["owners"]


def entry_covers(entry: Document, user: str, version: str) -> bool:
    if entry["id"] != user or entry.get("version", version) != version:
        return False
    return "until" not in entry or seconds(entry["until"]) > time.time()


def seconds(text: str) -> float:
    """Parse the times that the requests of this test use: whole seconds, with Z or an offset of hours."""
    moment = calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))
    return moment if text.endswith("Z") else moment - int(text[19:22]) * 3600


def upload_right(world: World, user: str, place: Place) -> tuple[bool, bool]:
    """Return (trusted, becomes the asset's owner), or refuse."""
    project, asset, version = place
    exists = world.has(project, asset)
    held = world.projects[project]
    if held.permissions.get("global_write") and not exists:
        return True, True
    if is_owner(world, user, project, asset):
        return True, False
    entries = [e for e in held.permissions["uploaders"] if e.get("asset", asset) == asset]
    if exists and (own := held.assets[asset].permissions):
        entries += own["uploaders"]
    matching = [e for e in entries if entry_covers(e, user, version)]
    if not matching:
        raise Refusal(403)
    return any(e.get("trusted") for e in matching), False


def require_owner(world: World, user: str, project: str, asset: str | None) -> None:
    if not is_owner(world, user, project, asset):
        raise Refusal(403)


def existing_project(world: World, name: str) -> Project:
    if name not in world.projects:
        raise Refusal(404)
    return world.projects[name]


def existing_version(world: World, place: Place) -> Version:
    found = world.version(place)
    if found is None:
        raise Refusal(404)
    return found


def place_of(document: Document) -> Place:
    return document["project"], document["asset"], document["version"]


# -- projects and permissions ----------------------------------------------------------------------------


def stored_uploaders(given: list[Document], *, of_asset: bool) -> list[Document]:
    unwanted = {"asset"} if of_asset else set()
    return [{k: v for k, v in e.items() if v is not None and k not in unwanted} for e in given]


def updated(stored: Document, given: Document, *, of_asset: bool = False) -> Document:
    """Each given key replaces the stored one; an asset's document keeps no `asset` and `global_write`."""
    found = dict(stored)
    if given.get("owners") is not None:
        found["owners"] = given["owners"]
    if given.get("uploaders") is not None:
        found["uploaders"] = stored_uploaders(given["uploaders"], of_asset=of_asset)
    if given.get("global_write") is not None and not of_asset:
        found["global_write"] = given["global_write"]
    return found


def create_project(world: World, request: Request, _: Nature) -> Document:
    name = request.document["project"]
    if name in world.projects:
        raise Refusal(400)
    default = {"owners": [request.actor], "uploaders": []}
    permissions = updated(default, request.document.get("permissions") or {})
    baseline, growth = DEFAULT_QUOTA
    quota = {"baseline": baseline, "growth_rate": growth, "year": time.gmtime().tm_year}
    world.projects[name] = Project(permissions, 0, quota)
    return {}


def set_permissions(world: World, request: Request, _: Nature) -> Document:
    document = request.document
    project = existing_project(world, document["project"])
    asset = document.get("asset")
    require_owner(world, request.actor, document["project"], asset)
    if asset is None:
        project.permissions = updated(project.permissions, document["permissions"])
        return {}
    place = project.assets.setdefault(asset, Asset())  # made if absent
    stored = place.permissions or {"owners": [], "uploaders": []}
    place.permissions = updated(stored, document["permissions"], of_asset=True)
    return {}


def set_quota(world: World, request: Request, _: Nature) -> Document:
    project = existing_project(world, request.document["project"])
    for key in ("baseline", "growth_rate", "year"):
        if request.document.get(key) is not None:
            project.quota[key] = request.document[key]
    return {}


# -- probation -------------------------------------------------------------------------------------------


def approve_probation(world: World, request: Request, _: Nature) -> Document:
    place = place_of(request.document)
    project = existing_project(world, place[0])
    require_owner(world, request.actor, place[0], place[1])
    version = existing_version(world, place)
    if not version.on_probation:
        raise Refusal(400)
    asset = project.assets[place[1]]
    becomes = asset.latest is None or version.finish > asset.versions[asset.latest].finish
    version.on_probation = False
    if becomes:
        asset.latest = place[2]
    world.log("add-version", *place, latest=becomes)
    return {}


def reject_probation(world: World, request: Request, _: Nature) -> Document:
    place = place_of(request.document)
    project = existing_project(world, place[0])
    found = world.version(place)
    if found is None or found.user != request.actor:
        require_owner(world, request.actor, place[0], place[1])
    version = existing_version(world, place)
    if not version.on_probation:
        raise Refusal(400)
    del project.assets[place[1]].versions[place[2]]
    project.usage -= version.stored
    return {}


# -- deletion and refreshing -----------------------------------------------------------------------------


def delete_version(world: World, request: Request, _: Nature) -> Document:
    place = place_of(request.document)
    version = world.version(place)
    if version is None:
        return {}
    project = world.projects[place[0]]
    asset = project.assets[place[1]]
    was_latest = asset.latest == place[2]
    del asset.versions[place[2]]
    project.usage -= version.stored
    if was_latest:
        asset.latest = asset.greatest()
    if not version.on_probation:
        world.log("delete-version", *place, latest=was_latest)
    return {}


def delete_asset(world: World, request: Request, _: Nature) -> Document:
    project, asset = request.document["project"], request.document["asset"]
    if world.has(project, asset):
        gone = world.projects[project].assets.pop(asset)
        world.projects[project].usage -= sum(version.stored for version in gone.versions.values())
        world.log("delete-asset", project, asset)
    return {}


def delete_project(world: World, request: Request, _: Nature) -> Document:
    project = request.document["project"]
    if world.projects.pop(project, None) is not None:
        world.log("delete-project", project)
    return {}


def refresh_usage(world: World, request: Request, _: Nature) -> Document:
    project = existing_project(world, request.document["project"])
    versions = [v for asset in project.assets.values() for v in asset.versions.values()]
    project.usage = sum(version.stored for version in versions)
    return {"total": project.usage}


def refresh_latest(world: World, request: Request, _: Nature) -> Document:
    project = existing_project(world, request.document["project"])
    if request.document["asset"] not in project.assets:
        raise Refusal(404)
    asset = project.assets[request.document["asset"]]
    asset.latest = asset.greatest()
    return {} if asset.latest is None else {"version": asset.latest}


# -- performing ------------------------------------------------------------------------------------------

Perform = Callable[[World, Request, Nature], Document]

SIMPLE: dict[str, Perform] = {
    each.__name__: each
    for each in (
        create_project,
        set_permissions,
        set_quota,
        approve_probation,
        reject_probation,
        delete_version,
        delete_asset,
        delete_project,
        refresh_usage,
        refresh_latest,
    )
}


def attempt(perform: Perform, world: World, request: Request, nature: Nature) -> Possible:
    """Perform on a copy of the world; a refusal leaves the world as it was."""
    after = deepcopy(world)
    try:
        keys = perform(after, request, nature)
    except Refusal as refusal:
        return Possible(refusal.code, {}, world)
    return Possible(200, keys, after)
