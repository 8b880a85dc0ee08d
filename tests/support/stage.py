"""A registry in which every role of spec/requests.md, "Authorisation", has somebody to play it.

`Stage.project()` makes a project with one version ("1") and one on probation ("trial") of the asset "a".
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from support.daemon import Answer, RunningDaemon, StartDaemon, address
from support.places import ROOT, Tree, User, Users, read_tree

# Roles that no account is needed for: a UID without a name is called by its decimal number.
NUMBERED = {
    "second administrator": 61001,
    "trusted": 61002,
    "untrusted": 61003,
    "expired": 61004,
    "of another asset": 61005,
    "of another version": 61006,
    "stranger": 61007,
    "spoofer of anyone": 61008,
}
ADMINISTRATORS = {"administrator", "second administrator"}
PAST, FUTURE = "2001-01-01T00:00:00Z", "2999-01-01T00:00:00+01:00"
FILES: Tree = {"f": b"content\n", "d/g": b"more\n", "none": None}


@dataclass(frozen=True)
class Stage:
    """The daemon, who plays which role, and a project that only what must be refused is tried on."""

    daemon: RunningDaemon
    roles: Mapping[str, User]
    names: Iterator[int] = field(default_factory=itertools.count)

    def name(self, role: str) -> str:
        """Return the name by which gobblerd knows who plays a role."""
        return str(self.roles[role])

    def new_name(self) -> str:
        """Return a name for a project that no other test uses."""
        return f"project{next(self.names)}"

    def permissions(self) -> dict[str, Any]:
        """Return a project's permissions in which every role occurs."""
        everywhere = [
            {"id": self.name("trusted"), "trusted": True, "until": FUTURE},
            {"id": self.name("untrusted"), "trusted": False},
            {"id": self.name("expired"), "until": PAST, "trusted": True},
            {"id": self.name("of another asset"), "asset": "other", "trusted": True},
            {"id": self.name("of another version"), "version": "other", "trusted": True},
        ]
        return {"owners": [self.name("owner")], "uploaders": everywhere}

    def project(self, *, uploaders: Sequence[Mapping[str, Any]] = (), **permissions: Any) -> str:
        """Make a project and return its name; `uploaders` are added to those of the roles."""
        name = self.new_name()
        done = self.daemon.done
        given = {**self.permissions(), **permissions}
        given["uploaders"] += uploaders
        done("create_project", {"project": name, "permissions": given})
        owners = {"owners": [self.name("asset owner")]}
        done("set_permissions", {"project": name, "asset": "a", "permissions": owners})
        self.daemon.upload(f"{name}/a/1", FILES)
        self.daemon.upload(f"{name}/a/trial", {"t": b"trial\n"}, self.roles["untrusted"])
        return name

    def ask(self, role: str, action: str, document: Any) -> Answer:
        """Ask for something in a role."""
        return self.daemon.ask(action, document, self.roles[role])

    def upload(self, role: str, place: str, tree: Tree = FILES, **fields: Any) -> Answer:
        """Upload a directory of the role's own."""
        source = self.daemon.source(tree, self.roles[role])
        return self.ask(role, "upload", {**address(place), "source": source, **fields})

    def state(self, project: str) -> Mapping[str, Any]:
        """Return all there is of a project on disk."""
        return read_tree(self.daemon.path(project))


def set_stage(start: StartDaemon, users: Users, **settings: Any) -> Stage:
    """Start a daemon with the administrators and spoofing rules that the roles need."""
    roles: dict[str, User] = {
        "administrator": ROOT,
        "owner": users.alice,
        "asset owner": users.bob,
        "spoofer": users.carol,
        **NUMBERED,
    }
    rules = {
        users.carol: [users.alice, str(NUMBERED["trusted"]), str(NUMBERED["untrusted"])],
        str(NUMBERED["spoofer of anyone"]): ["*", f"-{ROOT}"],
    }
    daemon = start(
        admins=[ROOT, str(NUMBERED["second administrator"])],
        settings={"spoofing": rules, **settings},
    )
    return Stage(daemon, roles)
