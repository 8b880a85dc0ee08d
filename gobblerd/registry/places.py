"""A place opened by one of the registry's three verbs: proved to exist, its locks held, ready for changes."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gobblerd.domain.events import Event
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.domain.permissions import Rights
from gobblerd.domain.version import Latest, Summary
from gobblerd.registry import documents, layout
from gobblerd.registry.feasible import check_feasible
from gobblerd.registry.locks import Held
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.transaction import Transaction
from gobblerd.registry.writable import check_writable
from gobblerd.storage.files import DIRECTORY_MODE

Allow = Callable[[Rights], None]


class Keeper(Protocol):
    """What a place needs of its registry at the commit."""

    def take_usage_lock(self, held: Held, project: str) -> None:
        """Hold a project's `..LOCK_USAGE` too, unless what is held covers it."""

    def check_usage_lock(self, held: Held, project: str) -> None:
        """Raise Fault, or OSError, where it could not be taken."""

    def check_renames(self, place: Address) -> None:
        """Fault unless the transaction's directory and the place are on one filesystem."""

    def seize(self, held: Held, place: Address, staged: str) -> None:
        """Lock a place that is about to appear."""


def anybody(_: Rights) -> None:
    """Allow whoever asks (administrators were checked before)."""


@dataclass(frozen=True)
class Place:
    """A project, asset, version or the whole registry, held in one of the three modes.

    What is read through it is true until the block ends. What is planned through it happens at `commit`.
    """

    address: Address
    rights: Rights
    metadata: Metadata
    transaction: Transaction
    held: Held
    keeper: Keeper

    @property
    def asset(self) -> Address:
        """The asset that this place is or lies in."""
        return self.address.of_asset()

    def summary(self) -> Summary:
        """Return this version's summary; Fault if it cannot be read."""
        return self.metadata.summary(self.address)

    def latest(self) -> Latest | None:
        """Return what the asset's `..latest` says."""
        return self.metadata.latest(self.asset)

    def is_latest(self, version: Address) -> bool:
        """Tell whether the asset's `..latest` names that version."""
        return self.metadata.latest(version.of_asset()) == Latest(version.version)

    def put_summary(self, summary: Summary) -> None:
        """Plan a new summary for this version."""
        path = layout.in_place(self.address, layout.SUMMARY)
        self.transaction.put(path, documents.summary_bytes(summary))

    def point_latest(self, latest: Latest | None) -> None:
        """Plan a new `..latest` for this place's asset."""
        self.transaction.set_latest(self.asset, latest)

    def remove(self, what: Address) -> None:
        """Plan to take away a place at or below this one; Fault if it cannot be moved.

        A directory that moves elsewhere must be writable itself. One that is not, such as another account's,
        would be in the way of everything once its removal was committed.
        """
        path = self.metadata.path(str(what))
        if not os.path.islink(path):  # which moves without its target
            check_writable(path)
        self.transaction.remove(str(what))

    def log(self, event: Event) -> None:
        """Plan an event."""
        self.transaction.log(event)

    def stage_asset(self) -> str:
        """Plan this asset, which does not exist yet, to appear whole; return the staged directory's path."""
        slot, path = self.transaction.new_slot()
        os.mkdir(path, DIRECTORY_MODE)
        self.keeper.seize(self.held, self.asset, path)
        self.transaction.install(slot, str(self.asset), fresh=True)
        return path

    def take_usage_lock(self) -> None:
        """Hold the project's usage from now to the end of the commit."""
        self.keeper.take_usage_lock(self.held, self.address.project)

    def commit(self, outcome: Outcome) -> Outcome:
        """Make everything planned happen, together with its events and its response."""
        for project in self.transaction.plan.values.usage_changes:
            self.keeper.check_usage_lock(self.held, project)
        check_feasible(self.metadata.root, self.transaction.plan)
        self.keeper.check_renames(self.address)
        return self.transaction.commit(
            outcome, self.held, lambda project: self.keeper.take_usage_lock(self.held, project)
        )
