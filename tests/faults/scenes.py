"""One small project, every action on it, and what the registry and the source look like before and after.

The same project is made anew for each interruption, so that states can be compared byte by byte; times, and
the numbers in event files' names, are left out.
"""

import os
import random
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from support.daemon import Answer, RunningDaemon, address
from support.documents import Event, events
from support.packing import packed
from support.places import Content, Symlink, Tree, read_tree

SETTINGS: Mapping[str, Any] = {"short_workers": 1, "long_workers": 1, "request_settle": 1.0}
SEED = int(os.environ.get("GOBBLERD_SEED", "20261120"))

_FOLDERS = {"committed", "applied", "aside", "state"}
_FILES: Tree = {"a": b"alpha", "d/b": b"beta", "d/empty": None, "link": Symlink("d/b"), "big": b"x" * 70_000}
_NEXT: Tree = {**_FILES, "more": b"more", "e/f/large": random.Random(1).randbytes(600_000)}


@dataclass(frozen=True, slots=True)
class Scene:
    """One request; `source` tells that it uploads, and that the source must be looked after.

    `packed`: the source is an archive file.
    """

    action: str
    fields: Mapping[str, Any]
    source: bool = False
    packed: bool = False


SCENES: Mapping[str, Scene] = {
    "upload": Scene("upload", address("p/a/4"), source=True),
    "upload and consume": Scene("upload", {**address("p/a/4"), "consume": True}, source=True),
    "upload to a new asset": Scene("upload", address("p/c/1"), source=True),
    "upload of an archive": Scene("upload", address("p/a/4"), source=True, packed=True),
    "upload and consume of an archive": Scene(
        "upload", {**address("p/a/4"), "consume": True}, source=True, packed=True
    ),
    "reject": Scene("reject_probation", address("p/a/3")),
    "approve": Scene("approve_probation", address("p/a/3")),
    "delete_version": Scene("delete_version", address("p/a/2")),
    "delete_project": Scene("delete_project", address("p")),
    "reroute": Scene("reroute_links", {"to_delete": [address("p/a")]}),
    "set_permissions": Scene("set_permissions", {"project": "p", "permissions": {"owners": ["x"]}}),
}


@dataclass(frozen=True, slots=True)
class State:
    """All that a request may change; `logged` is every event so far."""

    registry: Mapping[str, str]
    logged: Counter[Event]


def prepare(daemon: RunningDaemon) -> None:
    """Make the project `p` as it is before each scene."""
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", _FILES)
    daemon.upload("p/a/2", {**_FILES, "new": b"new"})
    daemon.upload("p/a/3", {"three": b"three"}, on_probation=True)
    daemon.upload("p/b/1", {"l": Symlink(daemon.path("p/a/1/a")), "own": b"own"})


def clear(daemon: RunningDaemon) -> None:
    """Take the project away again, if it is there."""
    daemon.done("delete_project", {"project": "p"})


def document(daemon: RunningDaemon, scene: Scene) -> dict[str, Any]:
    """Return the request, with a fresh source where it wants one."""
    if scene.packed:
        name = f"packed-{secrets.token_hex(4)}.tar"
        with open(os.path.join(daemon.staging, name), "wb") as file:
            file.write(packed({**_NEXT, "larger": b"y" * 1_500_000}))
        return {**scene.fields, "source": name}
    return {**scene.fields, "source": daemon.source(_NEXT)} if scene.source else dict(scene.fields)


def left_over(daemon: RunningDaemon) -> list[str]:
    """Return what is in `..transactions` of any transaction, an empty directory too (the checker lets that pass)."""
    top = daemon.path("..transactions")
    found = [name for name in os.listdir(top) if name not in _FOLDERS]
    return found + [name for folder in ("committed", "applied") for name in os.listdir(f"{top}/{folder}")]


def state_of(registry: str) -> State:
    """Return every path of the registry with what is there."""
    found: dict[str, str] = {}
    for directory, names, files in os.walk(registry):
        if directory == registry:
            names[:] = [name for name in names if name not in {"..transactions", "..logs"}]
        for name in (*names, *files):
            path = os.path.join(directory, name)
            if not name.startswith("..LOCK"):
                found[os.path.relpath(path, registry)] = _content(path, name)
    return State(found, events(registry))


def _content(path: str, name: str) -> str:
    if os.path.islink(path):
        return f"-> {os.readlink(path)}"
    if os.path.isdir(path):
        return "directory"
    with open(path, "rb") as file:
        data = file.read()
    if name == "..summary":
        return "on probation" if b"on_probation" in data else "summary"
    return data.hex()


def source_of(daemon: RunningDaemon, request: Mapping[str, Any]) -> dict[str, Content]:
    """Return what is in the request's source now; nothing if it has none."""
    name = request.get("source")
    path = os.path.join(daemon.staging, name) if name else ""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            return {"": file.read()}
    return read_tree(path) if name else {}


@dataclass(frozen=True, slots=True)
class Model:
    """What one scene does when nothing goes wrong."""

    before: State
    after: State
    source_before: Mapping[str, Content]
    source_after: Mapping[str, Content]

    def gained(self) -> Counter[Event]:
        """Return the events that the change logs."""
        return self.after.logged - self.before.logged

    def check(
        self,
        daemon: RunningDaemon,
        request: Mapping[str, Any],
        logged: Counter[Event],
        *,
        done: bool,
        faulty: bool = False,
    ) -> None:
        """Fail unless the registry is as after (`done`) or as before; `logged` was logged before it."""
        found = state_of(daemon.registry)
        expected = self.after.registry if done else self.before.registry
        different = {k for k in {*found.registry, *expected} if found.registry.get(k) != expected.get(k)}
        assert not different, f"not as {'after' if done else 'before'}: {sorted(different)}"
        gained = found.logged - logged
        assert gained == (self.gained() if done else Counter()), gained
        source = source_of(daemon, request)
        if done and faulty:  # consuming is best effort: what could not be unlinked stays
            least, most = _files(self.source_after), _files(self.source_before)
            assert least <= _files(source) <= most, "the source is not what it must be"
        else:
            expected_source = self.source_after if done else self.source_before
            assert source == expected_source, "the source is not what it must be"


def _files(tree: Mapping[str, Content]) -> set[tuple[str, Content]]:
    return {(path, content) for path, content in tree.items() if content is not None}


def rehearse(daemon: RunningDaemon, scene: Scene, perform: Any) -> Model:
    """Do the scene once undisturbed; `perform(request)` drops it and returns its answer."""
    prepare(daemon)
    request = document(daemon, scene)
    before, source_before = state_of(daemon.registry), source_of(daemon, request)
    answer: Answer = perform(request)
    assert answer.code == 200, answer
    model = Model(before, state_of(daemon.registry), source_before, source_of(daemon, request))
    clear(daemon)
    return model
