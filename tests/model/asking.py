"""What the machine asks for: strategies that draw requests, valid and not, by several users.

Each function draws one request of an action, aimed at what the model holds: mostly at places that are
there, so that chains of links, probation and deletion meet, and now and then astray.
"""

import posixpath
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from model.contract import Document, Place, Request, World
from model.links import links
from model.uploads import FIFO, SOURCE

Draw = Callable[[st.SearchStrategy[Any]], Any]

PROJECTS = ("p", "p", "q")
ASSETS = ("a", "a", "a", "b")
VERSIONS = tuple("12345678")
PEOPLE = ("root", "olga", "anna", "tom", "ulf", "mallory", "portal")
CONTENTS = (b"one", b"two", b"eno", b"", b"four", b"longer" * 6)
FILES = ("f", "g", "d/h", "d/e/i", ".dot", ".hid/x", "..skip", "d/..in/x")
LINKS = ("l", "m", "d/l", ".l", "n/l")
UNTIL = ("2001-02-03T04:05:06Z", "2999-12-31T23:59:59+02:00")
JUNK = (7, True, "", "..x", ".", "a/b", [], {"x": 1}, "n" * 256)

names = st.tuples(st.sampled_from(PROJECTS), st.sampled_from(ASSETS), st.sampled_from(VERSIONS))
flags = st.sampled_from((None, None, False, True))


def present(**fields: Any) -> Document:
    """A document without the fields that are None."""
    return {key: value for key, value in fields.items() if value is not None}


def rarely(draw: Draw, one_in: int) -> bool:
    return bool(draw(st.sampled_from((False,) * (one_in - 1) + (True,))))


def aimed(draw: Draw, world: World, wanted: Callable[[Place], bool] = lambda _: True) -> Place:
    """A version that is there and wanted, or with none of them, or rarely, any."""
    there = [place for place in world.places() if wanted(place)]
    return draw(names) if not there or rarely(draw, 8) else draw(st.sampled_from(there))


def near(draw: Draw, world: World) -> Place:
    """A place, there or not, in a project that mostly is."""
    project, asset, version = draw(names)
    if project not in world.projects and world.projects and not rarely(draw, 8):
        project = draw(st.sampled_from(sorted(world.projects)))
    return project, asset, version


def on_probation(world: World) -> Callable[[Place], bool]:
    return lambda place: bool((found := world.version(place)) and found.on_probation)


def holds_links(world: World) -> Callable[[Place], bool]:
    linked = {file[:3] for file, _ in links(world)}
    return lambda place: place in linked or len(linked) < 2


def somebody(draw: Draw, *likely: str) -> str:
    found: str = draw(st.sampled_from(PEOPLE if rarely(draw, 6) else likely))
    return found


def addressed(place: Place) -> Document:
    return dict(zip(("project", "asset", "version"), place, strict=True))


# -- permissions -----------------------------------------------------------------------------------------

uploaders = st.builds(
    present,
    id=st.sampled_from(("tom", "ulf", "anna", "mallory")),
    asset=st.sampled_from((None, None, "a", "b")),
    version=st.sampled_from((None, None, None, "1", "3")),
    until=st.sampled_from((None, None, *UNTIL)),
    trusted=flags,
)
permissions = st.builds(
    present,
    owners=st.sampled_from((None, ["olga"], ["olga", "anna"], ["anna"], [], ["olga", "olga"])),
    uploaders=st.none() | st.lists(uploaders, max_size=3),
    global_write=flags,
)
USUAL = {
    "owners": ["olga"],
    "uploaders": [{"id": "tom", "trusted": True}, {"id": "ulf"}, {"id": "anna", "asset": "a"}],
}


def create_project(draw: Draw, world: World) -> Request:
    given = draw(st.sampled_from((USUAL, USUAL, None)) | permissions)
    absent = [name for name in PROJECTS if name not in world.projects]
    name = draw(st.sampled_from(absent if absent and not rarely(draw, 6) else PROJECTS))
    return Request("create_project", somebody(draw, "root"), present(project=name, permissions=given))


def set_permissions(draw: Draw, world: World) -> Request:
    project, asset, _ = near(draw, world)
    given = draw(st.sampled_from((USUAL, None))) or draw(permissions)
    document = present(project=project, asset=asset if draw(st.booleans()) else None, permissions=given)
    return Request("set_permissions", somebody(draw, "root", "olga", "anna"), document)


def set_quota(draw: Draw, world: World) -> Request:
    document = present(
        project=near(draw, world)[0],
        baseline=draw(st.sampled_from((None, 10, 60, 200, 10**9, 10**9))),
        growth_rate=draw(st.sampled_from((None, 0, 100, 10**9))),
        year=draw(st.sampled_from((None, 2020, 2026, 2500))),
    )
    return Request("set_quota", somebody(draw, "root"), document)


# -- versions --------------------------------------------------------------------------------------------


def local(draw: Draw, at: str, there: list[str]) -> str:
    """The text of a link at a path to something in the same source: mostly to what is there."""
    if not there or rarely(draw, 8):
        return str(
            draw(st.sampled_from((*LINKS, "../f", "./d/../g", "h", "d", "gone", "../../outside", ".")))
        )
    return posixpath.relpath(draw(st.sampled_from(there)), posixpath.dirname(at) or ".")


def content(draw: Draw, world: World, at: str, there: list[str]) -> Any:
    """What a symbolic link says: mostly something good."""
    kind = draw(
        st.sampled_from(("local", "local", "own", "registry", "registry", "registry", "white", "text"))
    )
    if kind == "local":
        return kind, local(draw, at, there)
    if kind == "own":
        return kind, draw(st.sampled_from((*there, "f")))
    if kind == "white":
        return kind, draw(st.sampled_from(("one", "white") * 4 + ("gone",)))
    if kind == "text":
        return ("text", "/etc/passwd") if rarely(draw, 8) else ("local", local(draw, at, there))
    place = aimed(draw, world, lambda each: not on_probation(world)(each))
    version = world.version(place)
    paths = sorted(version.manifest) if version and version.manifest and not rarely(draw, 10) else None
    path = draw(st.sampled_from(paths or ("f", "..manifest", "d", "", "gone")))
    return kind, "/".join((*place, path)).rstrip("/")


def tree(draw: Draw, world: World) -> dict[str, Any]:
    """A source: a few files of few contents, so that there are duplicates; links; now and then a FIFO."""
    found: dict[str, Any] = {}
    for path in draw(st.lists(st.sampled_from(FILES), unique=True, min_size=1, max_size=5)):
        found[path] = draw(st.sampled_from(CONTENTS))
    if draw(st.sampled_from((True, True, False))):
        for path in draw(st.lists(st.sampled_from(LINKS), unique=True, max_size=3)):
            found[path] = content(draw, world, path, [p for p in found if not p.startswith(".")])
    for path in draw(st.lists(st.sampled_from(("empty", "d/empty", ".e", "n/o/p")), unique=True, max_size=2)):
        found[path] = None
    if rarely(draw, 20):
        found["fifo"] = FIFO
    return found


def upload(draw: Draw, world: World) -> Request:
    place = near(draw, world)
    free = [each for each in VERSIONS if world.version((*place[:2], each)) is None]
    if free and not rarely(draw, 8):
        place = (*place[:2], draw(st.sampled_from(free)))
    user = somebody(draw, "root", "root", "olga", "olga", "tom", "ulf")
    document = present(
        **addressed(place),
        source=SOURCE,
        on_probation=draw(flags),
        ignore_dot=draw(flags),
        consume=draw(flags),
    )
    source = None if rarely(draw, 25) else tree(draw, world)
    return Request("upload", user, document, source, "mallory" if rarely(draw, 25) else user)


def on_version(action: str, *likely: str, probational: bool = False) -> "Asking":
    def ask(draw: Draw, world: World) -> Request:
        place = aimed(draw, world, (on_probation if probational else holds_links)(world))
        return Request(action, somebody(draw, *likely), addressed(place))

    return ask


def on_asset(action: str) -> "Asking":
    def ask(draw: Draw, world: World) -> Request:
        project, asset, _ = aimed(draw, world)
        return Request(action, somebody(draw, "root"), {"project": project, "asset": asset})

    return ask


def on_project(action: str) -> "Asking":
    return lambda draw, world: Request(action, somebody(draw, "root"), {"project": aimed(draw, world)[0]})


def reroute_links(draw: Draw, world: World) -> Request:
    doomed = []
    for _ in range(draw(st.sampled_from((1, 1, 1, 2, 3)))):
        place = aimed(draw, world)
        levels = draw(st.sampled_from((3,) * 12 + (2, 1)))
        doomed.append(dict(list(addressed(place).items())[:levels]))
    if rarely(draw, 20):
        doomed.append({"project": "p", "version": "1"})
    return Request("reroute_links", somebody(draw, "root"), present(to_delete=doomed, dry_run=draw(flags)))


# -- any of them -----------------------------------------------------------------------------------------

Asking = Callable[[Draw, World], Request]

ASK: dict[str, Asking] = {
    "create_project": create_project,
    "set_permissions": set_permissions,
    "set_quota": set_quota,
    "upload": upload,
    "approve_probation": on_version("approve_probation", "root", "olga", "anna", probational=True),
    "reject_probation": on_version("reject_probation", "root", "olga", "ulf", "tom", probational=True),
    "delete_version": on_version("delete_version", "root"),
    "delete_asset": on_asset("delete_asset"),
    "delete_project": on_project("delete_project"),
    "refresh_usage": on_project("refresh_usage"),
    "refresh_latest": on_asset("refresh_latest"),
    "reindex_version": on_version("reindex_version", "root"),
    "validate_version": on_version("validate_version", "root"),
    "reroute_links": reroute_links,
}
SPOOFABLE = {"upload", "set_permissions", "approve_probation", "reject_probation"}
# Uploads and what leads to long histories more often than what ends them.
OFTEN = {
    "upload": 14,
    "approve_probation": 4,
    "reject_probation": 2,
    "reroute_links": 3,
    "set_permissions": 2,
}
OFTEN |= {"validate_version": 3, "reindex_version": 3, "delete_version": 3}
LIKELY = tuple(action for action in ASK for _ in range(OFTEN.get(action, 1)))


def drawn(draw: Draw, world: World, action: str) -> Request:
    """Draw a request of an action; now and then on behalf of another, with a spoilt or an unknown field."""
    asked = ASK[action](draw, world)
    document, user, source_user = dict(asked.document), asked.user, asked.source_user
    if action in SPOOFABLE and rarely(draw, 16):
        document["spoof"] = draw(st.sampled_from(PEOPLE))
        user = draw(st.sampled_from(("portal", "portal", "root", "mallory")))
        source_user = user if source_user == asked.user else source_user
    if rarely(draw, 40):
        document[draw(st.sampled_from(sorted(document)))] = draw(st.sampled_from((None, *JUNK)))
    if rarely(draw, 40):
        document["colour"] = 1
    return Request(action, user, document, asked.source, source_user)
