"""Actions performed without a daemon: a registry, a staging directory, and a function for each request.

The real registry and the real actions; only the spool is left out. `run` performs one request as some user
and finishes its transaction as a worker would.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gobblerd.actions.action import Context, Policy
from gobblerd.actions.discovery import discover
from gobblerd.domain.messages import Identity, Outcome, Response, success_body
from gobblerd.domain.permissions import Caller
from gobblerd.registry.registry import Registry
from gobblerd.registry.transaction import Origin
from gobblerd.storage.files import Durability


def no_progress(done: int, total: int) -> None:
    """Take note of nothing."""


STAGING_ID = "0123456789abcdef"
ADMIN = "root"


@dataclass
class Bench:
    """A registry and a staging directory below `base`."""

    base: Path
    policy: Policy = field(default_factory=Policy)
    durability: Durability = Durability.FULL
    progress: Callable[[int, int], None] = field(default=no_progress)

    def __post_init__(self) -> None:
        self.root = self.base / "registry"
        self.staging = self.base / "staging"
        self.root.mkdir(exist_ok=True)
        self.staging.mkdir(exist_ok=True)
        (self.root / "..logs").mkdir(exist_ok=True)
        self.staging_fd = os.open(self.staging, os.O_RDONLY)
        self.registry = self.open_registry()
        self.actions = discover()

    def open_registry(self) -> Registry:
        """Open the registry as a daemon that starts does."""
        return Registry(
            str(self.root), staging=STAGING_ID, durability=self.durability, lock_timeout=lambda: 5.0
        )

    def close(self) -> None:
        """Let go of what is open."""
        self.registry.close(None)
        os.close(self.staging_fd)

    def origin(self, action: str, user: str = ADMIN) -> Origin:
        """Return an origin whose response is recorded as that of `request-<action>-1`."""
        identity = Identity(f"request-{action}-1", 1, 2, 3, "d")

        def respond(outcome: Outcome) -> Response:
            now = "2026-01-01T00:00:00Z"
            return Response(identity, action, user, 200, success_body(outcome), now, now)

        return Origin(STAGING_ID, respond)

    def run(
        self, action: str, user: str = ADMIN, uid: int = 0, *, finish: bool = True, **fields: Any
    ) -> dict[str, Any]:
        """Perform one request; return the action's own keys, or let its error through."""
        origin = self.origin(action, user)
        context = Context(
            registry=self.registry,
            caller=Caller(uid, user, user, user == ADMIN),
            origin=origin,
            policy=self.policy,
            staging_fd=self.staging_fd,
            staging=str(self.staging),
            progress=self.progress,
        )
        outcome = self.actions[action].model_validate(fields).perform(context)
        if finish:
            self.registry.finish(origin)
        return dict(outcome.answer)

    def source(self, name: str, tree: dict[str, Any], uid: int = 0) -> str:
        """Make an upload directory: path -> bytes, None (empty directory) or ("link", text)."""
        top = self.staging / name
        top.mkdir()
        for path, content in tree.items():
            place = top / path
            place.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                place.mkdir()
            elif isinstance(content, tuple):
                place.symlink_to(content[1])
            else:
                place.write_bytes(content)
        for directory, _, files in os.walk(top):
            os.chown(directory, uid, uid)
            for file in files:
                os.chown(os.path.join(directory, file), uid, uid, follow_symlinks=False)
        return name

    def upload(
        self, place: str, tree: dict[str, Any], user: str = ADMIN, uid: int = 0, **fields: Any
    ) -> None:
        """Upload a tree as project/asset/version."""
        project, asset, version = place.split("/")
        name = self.source(f"up-{place.replace('/', '-')}", tree, uid)
        self.run("upload", user, uid, project=project, asset=asset, version=version, source=name, **fields)

    def snapshot(self) -> dict[str, str]:
        """Return every path of the registry with what is there; locks, transactions and times left out."""
        found = {}
        for directory, names, files in os.walk(self.root):
            names[:] = [name for name in names if name != "..transactions"]
            for name in (*names, *files):
                path = os.path.join(directory, name)
                shown = os.path.relpath(path, self.root)
                if name.startswith("..LOCK"):
                    continue
                if os.path.islink(path):
                    found[shown] = f"-> {os.readlink(path)}"
                elif os.path.isdir(path):
                    found[shown] = "directory"
                elif shown.startswith("..logs/"):
                    found.setdefault("events", "")
                    found["events"] = "".join(sorted(found["events"] + Path(path).read_text()))
                elif name != "..summary":
                    found[shown] = Path(path).read_bytes().hex()
                else:
                    found[shown] = "on probation" if b"on_probation" in Path(path).read_bytes() else "summary"
        return found
