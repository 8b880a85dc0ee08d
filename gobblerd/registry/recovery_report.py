"""What recovery finds and does, for people: what `gobblerd recover` lists, finishes and forgets."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from gobblerd.domain.errors import GobblerdError, told
from gobblerd.domain.messages import Response
from gobblerd.domain.times import NANOSECONDS
from gobblerd.registry import layout
from gobblerd.registry.locks import LockTable
from gobblerd.registry.record import Record
from gobblerd.registry.recovery import ABANDONED_SECONDS, Recovery
from gobblerd.storage.files import Durability
from gobblerd.storage.removal import last_touched, remove_tree
from gobblerd.storage.sync import Disk

_ALIVE_SECONDS = 3600  # a daemon that lives answers and tidies up within moments
_PERHAPS_ALIVE = "left alone: it is less than an hour old, and its daemon may be running"


@dataclass(frozen=True, slots=True)
class RecoveryFinding:
    """One transaction that a stopped daemon left, and what was (or would be) done about it.

    `waits_for` is the id of the staging directory whose daemon has to do it; "" for everything else.
    """

    transaction: str
    state: str  # committed, applied, uncommitted
    places: tuple[str, ...]
    action: str
    done: str
    waits_for: str = ""


def recover_all(root: str, *, dry_run: bool, gone: str | None = None) -> list[RecoveryFinding]:
    """Finish or list what stopped daemons left in a registry; for `gobblerd recover`.

    Records that are applied wait for the daemon of their staging directory, which alone may answer; `gone`
    is the id of one that there will be no daemon of.
    """
    recovery = _ReportingRecovery(Disk.of(root, Durability.FULL), LockTable(root, lambda: 0.0), staging="")
    committed = [recovery.report_committed(record, dry_run=dry_run) for record in recovery.committed()]
    applied = recovery.report_applied(gone, dry_run=dry_run)
    return [*committed, *applied, *recovery.report_uncommitted(gone, dry_run=dry_run)]


class _ReportingRecovery(Recovery):
    """Recovery step by step, each of which says what became of it."""

    def report_committed(self, record: Record, *, dry_run: bool) -> RecoveryFinding:
        """Finish one committed record unless `dry_run`, and say what became of it."""
        done = "would be finished"
        if not dry_run:
            try:
                done = "finished" if self.apply_dead(record, 0.0) else "left alone: its daemon is running"
            except (GobblerdError, OSError) as error:
                done = f"failed: {told(error)}"
        return RecoveryFinding(record.id, "committed", record.places(), "finish the committed change", done)

    def report_applied(self, gone: str | None, *, dry_run: bool) -> Iterator[RecoveryFinding]:
        """Yield what waits for the daemon that will answer for it; for that of `gone` nothing waits any more.

        That staging directory is no more, and with it whoever would read the answer: unless `dry_run`, the
        change stays and its record goes.
        """
        for name in self._names(layout.APPLIED):
            if record := self._load(layout.APPLIED, name):
                action = f"answer {_request_of(record)} when its daemon starts"
                done, waits_for = "waits for its daemon", record.staging
                if record.staging == gone:
                    action = f"forget the answer to {_request_of(record)}"
                    done, waits_for = self._forget(record, dry_run=dry_run), ""
                yield RecoveryFinding(name, "applied", record.places(), action, done, waits_for)

    def _forget(self, record: Record, *, dry_run: bool) -> str:
        written = os.stat(layout.join(self._root, layout.APPLIED, record.id)).st_mtime_ns
        if not _is_past(written, _ALIVE_SECONDS):
            return _PERHAPS_ALIVE
        if dry_run:
            return "would be forgotten"
        try:
            self._finish(record, _nothing, _nothing)
        except OSError as error:
            return f"failed: {told(error)}"
        return "forgotten"

    def report_uncommitted(self, gone: str | None, *, dry_run: bool) -> Iterator[RecoveryFinding]:
        """Discard what was abandoned for a week, or is of `gone`, unless `dry_run`; leave the rest."""
        for name in self._uncommitted():
            staging = name.rpartition("-")[0]
            is_gone = staging == gone
            touched = last_touched(layout.join(self._root, layout.TRANSACTIONS, name))
            if touched is None or not _is_past(touched, _ALIVE_SECONDS if is_gone else ABANDONED_SECONDS):
                done = _PERHAPS_ALIVE if is_gone else "left to its daemon"
            elif dry_run:
                done = "would be discarded"
            else:
                done = self._discarded(name)
            action = "discard" if is_gone else "discard when its daemon starts"
            waits_for = staging if done == "left to its daemon" else ""
            yield RecoveryFinding(name, "uncommitted", (), action, done, waits_for)

    def _discarded(self, name: str) -> str:
        if not self._is_dead(name):
            return "left alone"
        try:
            remove_tree(layout.join(self._root, layout.TRANSACTIONS, name))
        except OSError as error:
            return f"failed: {told(error)}; remove {layout.TRANSACTIONS}/{name} as root"
        return "discarded"


def _is_past(touched: int, seconds: float) -> bool:
    return time.time_ns() - touched > seconds * NANOSECONDS


def _nothing(_: object) -> None:
    """Tell nobody, and remove nothing of anybody's."""


def _request_of(record: Record) -> str:
    if record.response is None:
        return "nobody"
    told_to = Response.from_document(record.response)
    return f"{told_to.identity.name} of {told_to.user} ({told_to.code})"
