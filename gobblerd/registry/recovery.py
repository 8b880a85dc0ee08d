"""Recovery: finishing what a dead writer committed, discarding what it did not (design/architecture.md).

Whoever holds locks and finds in `committed/` a record whose locks conflict with its own knows the writer is
dead, since the writer would hold them. It lets go, takes the record's locks, looks again, and applies. A
record in `applied/` is never applied again: it waits for the daemon of its staging directory, which delivers
the response. Every step may be interrupted and done again.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec
import structlog

from gobblerd.domain.errors import Busy, Fault, GobblerdError, Plain, told
from gobblerd.domain.messages import Response, error_body
from gobblerd.domain.times import NANOSECONDS
from gobblerd.registry import layout
from gobblerd.registry.apply import TakenError, apply_again, sync_touched, temporary_of
from gobblerd.registry.locks import Held, Ladder, LockTable, Rung
from gobblerd.registry.record import Record, read_record, record_bytes
from gobblerd.storage.files import Durability, rename, sync_directory, write_file
from gobblerd.storage.removal import last_touched, remove_tree
from gobblerd.storage.sync import Disk

log = structlog.get_logger(__name__)

_BLOCK = 4096  # bytes; a file's end is kept in such units
ABANDONED_SECONDS = 7 * 86400  # uncommitted work of other daemons, untouched for so long


class Recovery:
    """What one process knows of the transactions of a registry: which are its own, which are dead."""

    def __init__(self, disk: Disk, locks: LockTable, staging: str) -> None:
        self._disk = disk
        self._root = disk.root
        self._locks = locks
        self._staging = staging
        self._live: set[str] = set()
        self._records: dict[str, Record] = {}  # of others; a record never changes
        self._hindered: dict[str, str] = {}  # records that cannot be finished, and why, as was logged
        self._lock = threading.Lock()

    def adopt(self, transaction: str) -> None:
        """Note that a living thread of this process works on the transaction."""
        with self._lock:
            self._live.add(transaction)

    def abandon(self, transaction: str) -> None:
        """Note that no thread of this process works on the transaction any more."""
        with self._lock:
            self._live.discard(transaction)

    # -- dead writers ----------------------------------------------------------------------------------

    def climb(self, ladder: Ladder, holder: str) -> Held:
        """Climb the ladder; before returning, finish every dead writer's record that stands in the way."""
        alive: set[str] = set()
        while True:
            held = self._locks.climb(ladder, holder)
            try:
                record = self._in_the_way(held.rungs, alive)
            except BaseException:
                held.release()
                raise
            if record is None:
                return held
            held.release()
            conflicts = _conflict(record.ladder, ladder)
            if not self.apply_dead(record, timeout=None if conflicts else 0.0):
                alive.add(record.id)

    def _in_the_way(self, held: Ladder, alive: set[str]) -> Record | None:
        project = held[1].path.partition("/")[0] if len(held) > 1 else ""
        for record in self.committed():
            shares_usage = project in record.usage and record.id not in alive
            if _conflict(record.ladder, held) or shares_usage:
                return record
        return None

    def committed(self) -> Iterator[Record]:
        """Yield the committed records that no thread of this process works on."""
        for name in self._names(layout.COMMITTED):
            record = self._records.get(name) or self._load(layout.COMMITTED, name)
            if record is not None:
                self._records[name] = record
                yield record

    def _names(self, folder: str) -> list[str]:
        """List the records in a folder that no thread of this process works on."""
        try:
            names = os.listdir(layout.join(self._root, folder))
        except FileNotFoundError:
            return []
        if not names:
            self._records.clear()
            return []
        with self._lock:
            return sorted(name for name in names if name not in self._live)

    def _load(self, folder: str, name: str) -> Record | None:
        """Read a record; None if it is gone. Fault for one that is not ours to read: nothing is guessed.

        A torn one is put aside: a power cut at durability "process" leaves such, lest it close every place.
        """
        path = layout.join(self._root, folder, name)
        try:
            return read_record(path)
        except OSError as error:
            raise Fault(
                "the transaction record {path} cannot be read: {error}; mend that, or move away what "
                "gobblerd has not written",
                path=path,
                error=Plain(error.strerror or error),
            ) from error
        except (ValueError, msgspec.MsgspecError) as error:
            if _is_torn(path):
                self._put_aside(path, name)
                return None
            raise Fault(
                "the transaction record {path} cannot be understood: {error}; if a newer gobblerd wrote it, "
                "start that one; if none did, move it away",
                path=path,
                error=str(error),
            ) from error

    def _put_aside(self, path: str, name: str) -> None:
        os.makedirs(layout.join(self._root, layout.ASIDE), exist_ok=True)
        rename(path, layout.join(self._root, layout.ASIDE, f"{name}.empty"))
        log.error(
            "a transaction record without its bytes was put aside: its change may be half done", id=name
        )

    def apply_dead(self, record: Record, timeout: float | None) -> bool:
        """Apply a record whose writer is gone; False if its locks are held, so that the writer lives.

        Raises Busy where a step fails: the places stay closed until it succeeds.
        """
        try:
            held = self._climb_for(record, timeout)
        except Busy:
            if timeout is None:
                raise
            return False
        try:
            if self._load(layout.COMMITTED, record.id) is not None:
                self._apply(record)
        except OSError as error:
            raise Busy(
                "a change of {place} was committed and cannot be finished yet ({error}); try again later",
                place=", ".join(record.places()[:3]),
                error=Plain(error.strerror or "unknown"),
            ) from error
        finally:
            held.release()
        return True

    def _climb_for(self, record: Record, timeout: float | None) -> Held:
        holder = f"recovery of {record.id}"
        try:
            return self._locks.climb(record.recovery_ladder(), holder, timeout)
        except (FileNotFoundError, NotADirectoryError):  # the project itself was the step, and it is done
            lowest = (record.ladder or (Rung(layout.LOCK, record.locks[0][1]),))[:1]
            return self._locks.climb(lowest, holder, timeout)

    def _apply(self, record: Record) -> None:
        try:
            apply_again(self._disk, record)
            log.info("finished a dead writer's change", id=record.id, places=record.places())
        except TakenError as error:
            self._set_aside(record, str(error))

    def _set_aside(self, record: Record, taken: str) -> None:
        """Keep what cannot be installed, and answer 500: a Go service wrote there meanwhile."""
        place = os.path.relpath(taken, self._root)
        log.error("a committed change was set aside: its place was taken", id=record.id, place=place)
        aside = layout.join(self._root, layout.ASIDE, record.id)
        for step in record.steps:
            slot = layout.join(self._root, layout.TRANSACTIONS, record.id, step.slot)
            if step.kind == "install" and step.fresh and os.path.lexists(slot):
                os.makedirs(aside, exist_ok=True)
                rename(slot, layout.join(aside, step.slot))
        reason = (
            f"{place} was taken by another service after a crash; the upload was set aside as {record.id}"
        )
        refused = msgspec.structs.replace(record, response=_failed(record.response, reason), consume=None)
        staged = temporary_of(self._root, record.id)
        remove_tree(staged)
        write_file(staged, record_bytes(refused), Durability.FULL)
        rename(staged, layout.join(self._root, layout.APPLIED, record.id))
        os.unlink(layout.join(self._root, layout.COMMITTED, record.id))

    # -- at start, and from time to time ---------------------------------------------------------------

    def mend(
        self,
        deliver: Callable[[Response], None],
        consume: Callable[[Record], None],
        pending: Callable[[Response], None] = lambda _: None,
    ) -> int:
        """Finish dead writers' records as far as their locks are free, and deliver our own responses.

        Returns how many records are still unfinished; `pending` is told of the response that each of ours
        will have, since its request must not be executed again. `consume` unlinks the consumed source files.
        Raises OSError, after all the others, where one of our own cannot be finished.
        """
        left, failures = 0, list[OSError]()
        for record in self.committed():
            if not self._is_applied(record):
                left += 1
                if record.staging in {self._staging, ""} and record.response is not None:
                    pending(Response.from_document(record.response))
        for name in self._names(layout.APPLIED):
            record_or_none = self._load(layout.APPLIED, name)
            if record_or_none is not None and record_or_none.staging in {self._staging, ""}:
                try:
                    self._finish(record_or_none, deliver, consume)
                except OSError as error:  # which must not keep the others from being answered
                    failures.append(error)
        if failures:  # and yet be known: at a start nothing is executed before all is answered
            raise failures[0]
        return left

    def _is_applied(self, record: Record) -> bool:
        """Apply a record if its locks are free; False if it is unfinished still."""
        try:
            applied = self.apply_dead(record, timeout=0.0)
        except (GobblerdError, OSError) as error:  # Busy, or a place that cannot be locked
            reason = told(error)
            if self._hindered.get(record.id) != reason:  # it is tried every other second, for hours perhaps
                log.warning("a committed change cannot be finished yet", id=record.id, reason=reason)
            self._hindered[record.id] = reason
            return False
        self._hindered.pop(record.id, None)
        return applied

    def _finish(
        self, record: Record, deliver: Callable[[Response], None], consume: Callable[[Record], None]
    ) -> None:
        if self._disk.is_durable:  # its writer may have died, or failed, just before it was
            sync_touched(self._root, record)
            sync_directory(layout.join(self._root, layout.APPLIED))
        if record.consume is not None:
            consume(record)
        if record.response is not None:
            deliver(Response.from_document(record.response))
        os.unlink(layout.join(self._root, layout.APPLIED, record.id))
        self.removed(layout.join(self._root, layout.TRANSACTIONS, record.id))

    def discard_uncommitted(self) -> int:
        """Remove what this staging directory's daemon left uncommitted when it died; return how many.

        So is what was deleted, and its removal broken off. What cannot be removed stays, and is logged.
        """
        return sum(self._tidied(name) for name in self._uncommitted() if self._is_own(name))

    def purge_abandoned(self, now: int, seconds: float = ABANDONED_SECONDS) -> int:
        """Remove any daemon's uncommitted work that was untouched for `seconds`; `now` in nanoseconds."""
        found = 0
        for name in self._uncommitted():
            touched = last_touched(layout.join(self._root, layout.TRANSACTIONS, name))
            if touched is not None and now - touched > seconds * NANOSECONDS:
                found += self._tidied(name)
        return found

    def purge_aside(self, now: int, seconds: float) -> int:
        """Remove what recovery set aside that long ago (`now` in nanoseconds); return how much."""
        found = 0
        for name in self._names(layout.ASIDE):
            path = layout.join(self._root, layout.ASIDE, name)
            touched = last_touched(path)
            if touched is not None and now - touched > seconds * NANOSECONDS:
                found += self.removed(path)
        return found

    def _tidied(self, name: str) -> bool:
        """Discard what is uncommitted; False where that fails, or must not be."""
        return self._is_dead(name) and self.removed(layout.join(self._root, layout.TRANSACTIONS, name))

    def removed(self, path: str) -> bool:
        """Remove a tree that is nobody's any more; False where that fails, which is logged.

        Whoever may write to a directory can move all that is below it, but remove only what is theirs: a
        deleted project may hold another account's files. They must stop neither us nor what comes after them.
        """
        try:
            remove_tree(path)
        except OSError as error:
            log.warning("what is no longer needed cannot be removed", path=path, reason=told(error))
            return False
        return True

    def _is_own(self, name: str) -> bool:
        return name.rpartition("-")[0] == (self._staging or "jobs")

    def _uncommitted(self) -> list[str]:
        records = {*self._names(layout.COMMITTED), *self._names(layout.APPLIED)}
        names = self._names(layout.TRANSACTIONS)
        return [name for name in names if name not in layout.TRANSACTION_FOLDERS and name not in records]

    def _is_dead(self, name: str) -> bool:
        # A writer moves its record between the two folders: look again now that its directory is known.
        for folder in (layout.COMMITTED, layout.APPLIED, layout.COMMITTED):
            if os.path.lexists(layout.join(self._root, folder, name)):
                return False
        return True


def _is_torn(path: str) -> bool:
    """Tell whether a power cut has kept a record's name without all of its bytes (JSON holds no NUL)."""
    with open(path, "rb") as file:
        data = file.read()
    return len(data) % _BLOCK == 0 or b"\0" in data


def _conflict(one: Sequence[Rung], other: Sequence[Rung]) -> bool:
    return any(a.conflicts(b) for a in one for b in other)


def _failed(response: dict[str, object] | None, reason: str) -> dict[str, object] | None:
    if response is None:
        return None
    recorded = Response.from_document(response)
    return {**recorded.document(), **error_body(reason), "code": 500}
