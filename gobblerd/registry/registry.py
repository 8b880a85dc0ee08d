"""The registry and its three verbs: reading, adding, changing (design/architecture.md, "Locks: three verbs").

Each verb climbs the lock ladder, finishes what a dead writer left committed there, proves that the place
exists and that the caller may (in the order of spec/details.md: project 404, permission 403, asset or version
404), and yields a `Place`. No action names a lock file. No exclusive lock is held while bytes are copied:
staging a transaction needs no lock, only its commit does.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from gobblerd.domain.errors import Absent, Busy, Plain, Wrong, told
from gobblerd.domain.names import ROOT, Address, check_name
from gobblerd.domain.permissions import NOBODY, Rights
from gobblerd.registry import layout
from gobblerd.registry.apply import sync_touched
from gobblerd.registry.closing import Closer
from gobblerd.registry.counting import Counted
from gobblerd.registry.locks import (
    Held,
    Ladder,
    LockTable,
    changing_ladder,
    holds_exclusively,
    new_child_ladder,
    reading_ladder,
    unobserved,
    usage_rung,
)
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.places import Allow, Place, anybody
from gobblerd.registry.probe import RenameProbe
from gobblerd.registry.recovery import Recovery
from gobblerd.registry.transaction import Origin, Transaction, endure, make_transactions
from gobblerd.storage.clock import FileClock
from gobblerd.storage.files import Durability
from gobblerd.storage.removal import remove_tree
from gobblerd.storage.sync import Disk

log = structlog.get_logger(__name__)

Opening = contextlib.AbstractContextManager[Place]


class Registry:
    """One registry, as one daemon serves it. Thread-safe."""

    def __init__(
        self,
        root: str,
        *,
        staging: str = "",
        durability: Durability = Durability.FULL,
        require_marker: Callable[[], bool] = lambda: False,
        lock_timeout: Callable[[], float] = lambda: 600.0,
        lock_waited: Callable[[float], None] = unobserved,
    ) -> None:
        self.root = root
        self.staging = staging
        self.disk = Disk.of(root, durability)
        self.metadata = Metadata(root)
        self.locks = LockTable(root, lock_timeout, lock_waited)
        probe = layout.join(root, layout.STATE, f"clock-{staging or 'jobs'}")
        self.clock = FileClock(probe, ready=lambda: make_transactions(root))
        self.counted = Counted(self.clock.now)
        self.recovery = Recovery(self.disk, self.locks, staging)
        self._require_marker = require_marker
        self._probe = RenameProbe(root, staging)
        self._closer: Closer | None = None
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="remover")

    def stop(self) -> None:
        """Let those who wait for a lock give up, so that the daemon can end."""
        self.locks.stop()

    def close(self, patience: float | None = 0.0) -> None:
        """Remove what is still to be removed for `patience` seconds (None: all of it), leave the rest.

        What is left is removed at the next start.
        """
        if self._closer is not None:
            self._closer.stop()
        with contextlib.suppress(TimeoutError, RuntimeError):  # closed before
            self._remover.submit(lambda: None).result(patience)  # one thread: done when all before it is
        self._remover.shutdown(wait=False, cancel_futures=True)

    # -- the three verbs -------------------------------------------------------------------------------

    def reading(self, place: Address, transaction: Transaction, allow: Allow = anybody) -> Opening:
        """Hold the place shared: what is in it does not change meanwhile."""
        return self._opened(place, reading_ladder(place), transaction, allow)

    def changing(self, place: Address, transaction: Transaction, allow: Allow = anybody) -> Opening:
        """Hold the place exclusively (a version: its asset): anything in it may be changed."""
        return self._opened(place, changing_ladder(place), transaction, allow)

    @contextlib.contextmanager
    def adding(self, asset: Address, transaction: Transaction, allow: Allow = anybody) -> Iterator[Place]:
        """Hold an asset for something new in it; where it is not there yet, hold its appearance instead.

        The yielded place is the asset, whether or not it exists: `rights.asset_exists` tells.
        """
        while True:
            if self.metadata.has(asset):
                with contextlib.ExitStack() as stack:
                    try:
                        place = self._opened(asset, changing_ladder(asset), transaction, allow)
                        opened = stack.enter_context(place)
                    except Absent:
                        if self.metadata.has(asset.of_project()):
                            continue  # deleted while we waited
                        raise
                    yield opened
                return
            ladder = new_child_ladder(asset.of_project())
            with self._opened(asset.of_project(), ladder, transaction, anybody) as project:
                if self.metadata.has(asset):
                    continue  # appeared while we waited
                rights = Rights(project.rights.project, NOBODY, asset_exists=False)
                allow(rights)
                self.require_room(asset)
                yield self._place(asset, rights, transaction, project.held)
                return

    @contextlib.contextmanager
    def _opened(self, place: Address, ladder: Ladder, tx: Transaction, allow: Allow) -> Iterator[Place]:
        held = self._climb(place, ladder, tx, allow)
        try:
            rights = self._rights(place)
            allow(rights)
            if place.version and not self.metadata.has(place):
                raise absent(place)
            yield self._place(place, rights, tx, held)
        finally:
            if tx.state == "committed":  # a step failed: from now on it is recovery's, ours like anybody's
                self.recovery.abandon(tx.id)
            held.release()

    def _climb(self, place: Address, ladder: Ladder, tx: Transaction, allow: Allow) -> Held:
        self.check_marker()
        try:
            return self.recovery.climb(
                ladder, f"a change of {place}" if place else "a change of the registry"
            )
        except (FileNotFoundError, NotADirectoryError):
            project = place.of_project()
            if place.asset and self.metadata.has(project):
                with self._opened(project, reading_ladder(project), tx, anybody) as opened:
                    allow(Rights(opened.rights.project, NOBODY, asset_exists=False))
                raise absent(place.of_asset()) from None
            raise absent(project) from None

    def _rights(self, place: Address) -> Rights:
        if place == ROOT:
            return Rights(NOBODY)
        project = self.metadata.permissions(place.of_project())
        return Rights(project, self.metadata.permissions(place.of_asset()) if place.asset else NOBODY)

    def _place(self, address: Address, rights: Rights, tx: Transaction, held: Held) -> Place:
        return Place(address, rights, self.metadata, tx, held, self)

    def take_usage_lock(self, held: Held, project: str) -> None:
        """Hold a project's `..LOCK_USAGE` too, unless what is held covers it."""
        if not holds_exclusively(held.rungs, project):
            self.locks.extend(held, usage_rung(project))

    def check_usage_lock(self, held: Held, project: str) -> None:
        """Raise Fault, or OSError, where `take_usage_lock` could not be done, which is after the commit."""
        if not holds_exclusively(held.rungs, project):
            self.locks.check(usage_rung(project))

    def seize(self, held: Held, place: Address, staged: str) -> None:
        """Lock a place that is about to appear, by its staged directory."""
        self.locks.seize(held, place, staged)

    def clean_up(self) -> int:
        """Remove what this staging directory's daemon left uncommitted when it died; return how many."""
        try:
            self._probe.clear()
        except OSError as error:  # no more than a file that is in nobody's way
            log.warning("a probe file cannot be removed", reason=told(error))
        return self.recovery.discard_uncommitted()

    # -- transactions ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, origin: Origin) -> Iterator[Transaction]:
        """Begin a transaction; what was not committed at the end of the block is discarded.

        What was is durable then, or pending; UnfinishedError where it is left to recovery. No lock may be
        held any more.
        """
        transaction = Transaction(self.disk, origin, self.clock.now)
        self.recovery.adopt(transaction.id)
        try:
            yield transaction
        finally:
            if transaction.state == "staging":
                self._discard(transaction)
            else:
                origin.pending.append(transaction)
                if not (origin.together and transaction.state == "applied"):
                    self.endure([origin])

    @property
    def syncs_together(self) -> bool:
        """Tell whether one sync does for several transactions what it does for one."""
        return self.disk.is_durable and self.disk.ordered

    def endure(self, origins: Sequence[Origin]) -> None:
        """Make durable what one thread applied for these, in this order; UnfinishedError if that fails."""
        pending = [transaction for origin in origins for transaction in origin.pending]
        try:
            endure(pending)
        finally:
            for origin in origins:
                origin.pending.clear()
            for transaction in pending:
                transaction.close()
                if transaction.state != "durable":
                    self.recovery.abandon(transaction.id)

    def _discard(self, transaction: Transaction) -> None:
        try:
            if transaction.has_directory:
                remove_tree(transaction.directory)
        except OSError as error:
            log.warning("uncommitted work is left for the next start", id=transaction.id, error=str(error))
        self.recovery.abandon(transaction.id)

    def finish(self, origin: Origin) -> None:
        """Finish what was applied for `origin`, whose response is there by now; never raises."""
        while origin.applied:
            transaction = origin.applied.pop()
            if self._closer is None or not self._closer.take(transaction):
                self._end(transaction, synced=False)

    def close_in_batches(self, answered: Callable[[], None]) -> None:
        """From now on, finish in the background where that saves syncs; `answered` syncs the responses."""
        if self.disk.is_durable:
            self._closer = Closer(self.disk, answered, self._end, self._leave)
            self._closer.start()

    def leave(self, origin: Origin) -> None:
        """Leave what was applied for `origin` to recovery: its response is not durable yet."""
        while origin.applied:
            self._leave(origin.applied.pop())

    def _leave(self, transaction: Transaction) -> None:
        self.recovery.abandon(transaction.id)

    def _end(self, transaction: Transaction, *, synced: bool = True) -> None:
        try:
            self._finish(transaction, synced=synced)
        except OSError as error:
            log.warning("a transaction's end is put off", id=transaction.id, error=str(error))
        finally:
            self.recovery.abandon(transaction.id)

    def _finish(self, transaction: Transaction, *, synced: bool) -> None:
        """Remove the record, and then the rest: without its record, any recovery takes it for rubbish."""
        record = transaction.record
        assert record is not None  # only what was applied gets here
        if self.disk.is_durable and not synced:
            sync_touched(self.root, record)
        os.unlink(layout.join(self.root, layout.APPLIED, transaction.id))
        if any(step.kind == "remove" for step in record.steps):
            with contextlib.suppress(RuntimeError):  # closed meanwhile: left to the next start
                self._remover.submit(self.recovery.removed, transaction.directory)
        elif transaction.has_directory:
            self.recovery.removed(transaction.directory)

    # -- the state of the root -------------------------------------------------------------------------

    def check_marker(self) -> None:
        """Raise Busy if the marker is required and gone: an unmounted root looks like an empty registry."""
        if self._require_marker() and not os.path.isfile(layout.join(self.root, layout.MARKER)):
            raise Busy(
                "the registry's marker file {marker} is missing: its filesystem may not be mounted",
                marker=Plain(layout.MARKER),
            )

    def require_room(self, place: Address) -> None:
        """Raise Wrong where something else bears the place's name: a commit could not put it there."""
        if self.metadata.is_obstructed(place):
            raise Wrong(
                "{place} cannot be made: something that is no {level} lies there in the registry; "
                "choose another name, or ask an administrator to look at it",
                place=str(place),
                level=Plain(place.level),
            )

    def check_renames(self, place: Address) -> None:
        """Fault unless the transaction's directory and the place are on one filesystem."""
        if not self._probe.has_proved(place.project):
            self._probe.check(place.project if self.metadata.has(place.of_project()) else "")


def absent(place: Address) -> Absent:
    """Return the error for a place that is not there; Wrong where no place could be called so."""
    *_, name = place
    check_name(place.level, name)  # names that only older rules allow must at least exist
    return Absent("there is no {level} {place} in the registry", level=Plain(place.level), place=str(place))
