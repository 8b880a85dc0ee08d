"""Customers who change assets of their own, one request after the other, and remember what was answered.

Each asset is one line of requests, so its state on any copy of the disk must be the state after some first few
of them: at least those answered before the copy, at most those dropped by its end. Two assets share a project,
so that their customers wait for each other's locks.
"""

import itertools
import json
import os
import random
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from support.daemon import RunningDaemon
from support.places import Tree, read_tree

_VERSIONS_KEPT = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its file's name, and the project's state once it is done."""

    name: str
    owners: tuple[str, ...]
    versions: Mapping[str, Tree]  # by name


@dataclass(frozen=True, slots=True)
class Mark:
    """How far each customer was at one moment: requests dropped, requests answered."""

    dropped: tuple[int, ...]
    answered: tuple[int, ...]


@dataclass
class Customer:
    """One asset; `asked` and `answers` only grow."""

    daemon: RunningDaemon
    project: str
    asset: str
    seed: int
    asked: list[Asked] = field(default_factory=list)
    answers: list[Mapping[str, Any]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Make the asset, whose project is there."""
        owners = {"owners": ["nobody-yet"]}
        self.daemon.done(
            "set_permissions", {"project": self.project, "asset": self.asset, "permissions": owners}
        )
        self.asked.append(Asked("", ("nobody-yet",), {}))
        self.answers.append({})

    def run(self, stop: threading.Event) -> None:
        """Ask for one thing after the other."""
        choice = random.Random(self.seed)
        for number in itertools.count():
            if stop.is_set():
                return
            self._ask(number, choice)

    def _ask(self, number: int, choice: random.Random) -> None:
        last = self.asked[-1]
        kind = choice.choice(("upload", "upload", "set_permissions", "set_permissions", "delete_version"))
        if kind == "delete_version" and len(last.versions) < _VERSIONS_KEPT:
            kind = "upload"
        place = {"project": self.project, "asset": self.asset}
        if kind == "upload":
            version, tree = f"v{number}", _tree(choice, number)
            document = {**place, "version": version, "source": self.daemon.source(tree)}
            state = Asked(
                f"request-upload-{self.project}-{self.asset}-{number}",
                last.owners,
                {**last.versions, version: tree},
            )
        elif kind == "set_permissions":
            owner = f"owner-{number}"
            document = {**place, "permissions": {"owners": [owner]}}
            state = Asked(
                f"request-set_permissions-{self.project}-{self.asset}-{number}", (owner,), last.versions
            )
        else:
            version = choice.choice(sorted(last.versions))
            document = {**place, "version": version}
            kept = {name: tree for name, tree in last.versions.items() if name != version}
            state = Asked(f"request-delete_version-{self.project}-{self.asset}-{number}", last.owners, kept)
        self.asked.append(state)  # before the drop: it may be done at once
        self.daemon.drop(kind, document, name=state.name)
        answer = self._answer(state.name)
        if answer["status"] != "SUCCESS":
            self.wrong.append(f"{state.name}: {answer}")
        self.answers.append(answer)

    def _answer(self, name: str) -> Mapping[str, Any]:
        if self.seed % 2 and self.daemon.port:
            return self.daemon.post(name).body
        return self.daemon.wait(name).body

    # ---- looking at a copy

    def check(self, registry: str, staging: str, least: int, most: int) -> list[str]:
        """Return what is wrong with this asset on a copy: answered requests that are lost, torn files."""
        wrong = [flaw for number in range(1, least) for flaw in self._check_answer(staging, number)]
        found = self._state(registry)
        possible = {number: _shown(self.asked[number]) for number in range(least - 1, most)}
        if found not in possible.values():
            where = [n for n in range(len(self.asked)) if _shown(self.asked[n]) == found]
            wrong.append(
                f"{self.project}/{self.asset}: {least - 1} requests were answered, but it is as after "
                f"{where or 'none of them'}: {found[0]}, {sorted(found[1])}"
            )
        return wrong

    def _check_answer(self, staging: str, number: int) -> Iterator[str]:
        name, answer = self.asked[number].name, self.answers[number]
        try:
            with open(os.path.join(staging, "responses", name), encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError) as error:
            yield f"{name}: was answered, but its response is lost: {error}"
            return
        different = {k for k, v in answer.items() if found.get(k) != v} - {
            "identity"
        }  # an emptied file's is new
        if different:
            yield f"{name}: was answered {answer['status']}, but the response file says {found}"

    def _state(self, registry: str) -> tuple[Any, dict[str, Tree]]:
        asset = os.path.join(registry, self.project, self.asset)
        try:
            with open(os.path.join(asset, "..permissions"), encoding="utf-8") as file:
                owners = tuple(json.load(file)["owners"])
        except (OSError, ValueError, KeyError) as error:
            return f"{error!r}", {}
        names = os.listdir(asset)
        versions = {n: _own(read_tree(os.path.join(asset, n))) for n in names if not n.startswith("..")}
        return owners, versions


def _shown(asked: Asked) -> tuple[Any, dict[str, Tree]]:
    return asked.owners, {name: dict(tree) for name, tree in asked.versions.items()}


def _own(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {path: content for path, content in tree.items() if not os.path.basename(path).startswith("..")}


def _tree(choice: random.Random, number: int) -> dict[str, bytes]:
    """Return a few files; one upload in eight has so many that the whole filesystem is synced for them.

    Another one in eight has a large file, of which the device is told while it is copied.
    """
    files = 40 if number % 8 == 5 else choice.randrange(1, 5)
    tree = {f"d{n % 3}/f{number}-{n}": choice.randbytes(choice.randrange(1, 3000)) for n in range(files)}
    return {**tree, "large": choice.randbytes(choice.randrange(1, 3_000_000))} if number % 8 == 2 else tree


def mark(customers: list[Customer]) -> Mark:
    """Return how far they are: what is answered is counted first, so that it is never too much."""
    answered = tuple(len(customer.answers) for customer in customers)
    return Mark(tuple(len(customer.asked) for customer in customers), answered)
