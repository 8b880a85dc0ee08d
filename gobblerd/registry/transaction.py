"""A transaction: staged unlocked, committed under the locks by one rename, applied, made durable, finished.

All changes of one request, its events and its response become visible together to whoever takes the locks,
or not at all, also across `kill -9` and (with durability "full") a power cut; design/architecture.md has the
reasoning. The order of a commit: staged data durable, record renamed to `committed/` (**the commit point**),
steps, record renamed to `applied/`; only then are the locks released. Recovery is in `recovery.py`.

When the record becomes durable: with one journal in order, after the locks are released and before anybody is
told (`endure`). Whoever changes the same place next cannot become durable before us, so a power cut loses a
later change before an earlier one, and those who commit one after the other share a sync. Elsewhere each
commit syncs its record before the first step.
"""

import contextlib
import os
import random
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gobblerd.domain.errors import Fault, GobblerdError, Plain
from gobblerd.domain.events import Event
from gobblerd.domain.messages import Outcome, Response
from gobblerd.domain.names import Address
from gobblerd.domain.times import format_seconds
from gobblerd.domain.version import Latest
from gobblerd.registry import layout
from gobblerd.registry.apply import Documents, TakenError, Values, apply, expected, temporary_of
from gobblerd.registry.documents import encoded
from gobblerd.registry.locks import Held
from gobblerd.registry.record import Consume, Record, Step, record_bytes
from gobblerd.storage.files import sync, sync_directory, write_file, write_opened
from gobblerd.storage.sync import Disk

TRANSACTIONS_MODE = 0o700
_RECORD_MODE = 0o600
_UNSETTLED_MOST = 64
_IDS = random.Random()  # noqa: S311  # seeded by the system, and no secret: they are to differ
os.register_at_fork(after_in_child=_IDS.seed)
_INLINE_MOST = 1 << 15  # bytes of a document that the record itself carries


class UnfinishedError(Fault):
    """Committed, but a step failed: recovery retries it, and the response follows."""


def unprepared(_: Response) -> int | None:
    """Write nothing beforehand."""
    return None


class Origin:
    """On whose behalf transactions are made, and what became of them.

    `respond` makes the response that is recorded with the commit; None for jobs that nobody waits for.
    `prepare` writes it beforehand, and returns a descriptor for the commit to settle with the rest.
    `together`: what was applied stays `pending` until whoever made this has it made durable.
    """

    def __init__(
        self,
        staging: str = "",
        respond: Callable[[Outcome], Response] | None = None,
        prepare: Callable[[Response], int | None] = unprepared,
        *,
        together: bool = False,
    ) -> None:
        self.staging = staging
        self.together = together
        self._respond = respond
        self._prepare = prepare
        self.response: Response | None = None
        self.pending: list[Transaction] = []  # applied, and not durable yet
        self.applied: list[Transaction] = []

    @property
    def has_changed(self) -> bool:
        """Tell whether anything was done that stays, whatever fails after it."""
        return bool(self.pending or self.applied)

    def answer(self, outcome: Outcome) -> Mapping[str, Any] | None:
        """Fix the response that the record will carry."""
        if self._respond is None:
            return None
        self.response = self._respond(outcome)
        return self.response.document()

    def prepared(self) -> int | None:
        """Have the response written beforehand; None where it is written later."""
        if self.response is None:
            return None
        with contextlib.suppress(OSError):  # it is tried again when it is due, then as often as need be
            return self._prepare(self.response)
        return None


@dataclass
class Plan:
    """What a transaction will do at its commit."""

    steps: list[Step] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    values: Values = field(default_factory=Values)
    consume: Consume | None = None


class Transaction:
    """One transaction of one registry; its directory appears with the first thing that is staged."""

    def __init__(self, disk: Disk, origin: Origin, now: Callable[[], int]) -> None:
        self.id = f"{origin.staging or 'jobs'}-{_IDS.getrandbits(64):016x}"
        self.disk = disk
        self.root = disk.root
        self.origin = origin
        self.directory = layout.join(disk.root, layout.TRANSACTIONS, self.id)
        self.plan = Plan()
        self.state = "staging"  # -> committed -> applied -> durable, or left to recovery
        self.record: Record | None = None  # what was committed
        self._now = now
        self.has_directory = False
        self._slots = 0
        self._record_fd = -1  # until it is durable
        self._unsettled: list[int] = []  # descriptors of staged files that the commit makes durable

    # -- staging ---------------------------------------------------------------------------------------

    def new_slot(self) -> tuple[str, str]:
        """Return a fresh slot and its absolute path; the caller creates what lies there."""
        if not self.has_directory:
            self._make_directory()
            self.has_directory = True
        self._slots += 1
        return str(self._slots), f"{self.directory}/{self._slots}"

    def _make_directory(self) -> None:
        try:
            os.mkdir(self.directory, TRANSACTIONS_MODE)
        except FileNotFoundError:  # the first transaction of this registry
            make_transactions(self.root)
            os.mkdir(self.directory, TRANSACTIONS_MODE)

    def stage_file(self, data: bytes) -> str:
        """Stage a file's bytes; return its slot."""
        slot, path = self.new_slot()
        self.write_staged(path, data)
        return slot

    def write_staged(self, path: str, data: bytes) -> None:
        """Create a small file in what is staged, mode 0644; the commit makes its bytes durable."""
        write_file(path, data, self.disk.durability, settle=self._settle_later)

    def _settle_later(self, fd: int) -> None:
        if len(self._unsettled) >= _UNSETTLED_MOST:
            self.disk.settle_all(self._unsettled)
            self._close_unsettled()
        self._unsettled.append(os.dup(fd))

    def install(self, slot: str, path: str, *, fresh: bool = False) -> None:
        """Plan to move a slot to `path`; with `fresh`, nothing may be there (checked under the lock)."""
        self.plan.steps.append(Step("install", path, slot, fresh))

    def put(self, path: str, data: bytes) -> None:
        """Plan to write or replace one document; a small one goes into the record."""
        if len(data) <= _INLINE_MOST:
            self.plan.steps.append(Step("write", path, content=data.decode("utf-8")))
        else:
            self.install(self.stage_file(data), path)

    def put_symlink(self, path: str, target: str) -> None:
        """Plan to make or replace one symbolic link."""
        slot, staged = self.new_slot()
        os.symlink(target, staged)
        self.install(slot, path)

    def remove(self, path: str) -> None:
        """Plan to take away whatever is at `path`."""
        self.plan.steps.append(Step("remove", path, self.new_slot()[0]))

    def log(self, event: Event) -> None:
        """Plan an event; it is there if and only if the change is."""
        self.plan.events.append(event)

    def add_usage(self, project: str, difference: int) -> None:
        """Plan to move a project's usage by so many bytes."""
        differences = self.plan.values.usage_changes
        differences[project] = differences.get(project, 0) + difference

    def set_usage(self, project: str, total: int) -> None:
        """Plan to set a project's usage."""
        self.plan.values.usage_totals[project] = total

    def set_latest(self, asset: Address, latest: Latest | None) -> None:
        """Plan to point an asset's `..latest` elsewhere, or at nothing."""
        self.plan.values.latest[asset] = latest

    # -- commit ----------------------------------------------------------------------------------------

    def commit(self, outcome: Outcome, held: Held, usage_lock: Callable[[str], None]) -> Outcome:
        """Commit and apply under the held locks; UnfinishedError if a step failed after the commit point.

        To be followed by `endure` when the locks are released.
        """
        record = self.record = self._record(outcome, held)
        documents = Documents(self.disk, self.id)
        try:
            self._write_record(record, documents)
            for project in self.plan.values.usage_changes:
                usage_lock(project)
            apply(self.disk, record, self.plan.values, documents)
        except (OSError, GobblerdError, TakenError) as error:  # Stopped among them: the commit stands
            if self.state == "staging":
                raise
            raise UnfinishedError("committed, not finished: {trouble}", trouble=_trouble(error)) from error
        finally:
            documents.discard()
        self.state = "applied"
        return outcome

    def endure(self) -> None:
        """Let what was applied survive a power cut, the locks released; UnfinishedError if that fails."""
        endure([self])

    def sync_record(self) -> None:
        """Make the record durable, unless it is by now; OSError."""
        if self._record_fd >= 0:
            sync(self._record_fd)

    def close(self) -> None:
        """Let go of what is open."""
        self._close_unsettled()
        if self._record_fd >= 0:
            os.close(self._record_fd)
            self._record_fd = -1

    def _close_unsettled(self) -> None:
        while self._unsettled:
            os.close(self._unsettled.pop())

    def _write_record(self, record: Record, documents: Documents) -> None:
        """Write the record and rename it to where it counts; make that durable unless `endure` can.

        One journal in order does it all by one sync; elsewhere each directory needs its own.
        """
        if self.has_directory and self.disk.syncs_names:
            sync_directory(self.directory)
            sync_directory(layout.join(self.root, layout.TRANSACTIONS))
        try:
            self._record_fd = fd = self._create_record(record_bytes(record))
            if (response_fd := self.origin.prepared()) is not None:
                self._unsettled.append(response_fd)
            contents = {**_documents_of(record), **expected(self.root, self.plan.values)}
            documents.prepare(contents, beside=[*self._unsettled, fd])
            self.disk.rename(self.temporary, layout.join(self.root, layout.COMMITTED, self.id))
            self.state = "committed"
        finally:
            self._close_unsettled()
            if self.state == "staging" or not (self.disk.is_durable and self.disk.ordered):
                self.close()
            if self.state == "staging":
                with contextlib.suppress(OSError):
                    os.unlink(self.temporary)
        if self.disk.syncs_names:
            sync_directory(layout.join(self.root, layout.COMMITTED))

    def _create_record(self, data: bytes) -> int:
        try:
            return write_opened(self.temporary, data, mode=_RECORD_MODE)
        except FileNotFoundError:
            make_transactions(self.root)
            return write_opened(self.temporary, data, mode=_RECORD_MODE)

    @property
    def temporary(self) -> str:
        """The path of the record before it counts; those of its documents begin with it."""
        return temporary_of(self.root, self.id)

    def _record(self, outcome: Outcome, held: Held) -> Record:
        values = self.plan.values
        return Record(
            format=layout.RECORD_FORMAT,
            id=self.id,
            staging=self.origin.staging,
            locks=[(rung.path, rung.mode) for rung in held.rungs],
            steps=self.plan.steps,
            events=[self._event_step(event) for event in self.plan.events],
            usage=sorted({*values.usage_changes, *values.usage_totals}),
            latest=[(asset.project, asset.asset) for asset in values.latest],
            response=_plain(self.origin.answer(outcome)),
            consume=self.plan.consume,
        )

    def _event_step(self, event: Event) -> Step:
        content = encoded(event.document()).decode("utf-8")
        return Step("write", event_path(self._now()), fresh=True, content=content)


def endure(transactions: Sequence[Transaction]) -> None:
    """Let what one thread applied, in this order, survive a power cut; UnfinishedError if that fails.

    The locks are released by then. Nobody may be told before, and no source consumed. What was not applied
    just now, or is durable, is passed over. Where one journal is in order the last one's sync does it for
    all: it makes the record durable with its name, and whatever was done before.
    """
    applied = [each for each in transactions if each.state == "applied"]
    try:
        if applied:
            applied[-1].sync_record()
    except OSError as error:  # not to be tried again: the kernel reports a lost write once
        for each in applied:
            each.state = "left"
        raise UnfinishedError("committed, not finished: {trouble}", trouble=_trouble(error)) from error
    for each in applied:
        each.state = "durable"
        each.origin.applied.append(each)


def _trouble(error: Exception) -> Plain:
    """Say what a user may know of a step that failed: the log has its paths."""
    if isinstance(error, OSError):
        return Plain(error.strerror or "the daemon's storage failed")
    return Plain("its place was taken" if isinstance(error, TakenError) else error)


def _plain(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if document is None else dict(document)


def _documents_of(record: Record) -> dict[str, bytes]:
    steps = (step for step in (*record.steps, *record.events) if step.kind == "write")
    return {step.path: step.content.encode("utf-8") for step in steps}


def event_path(now: int) -> str:
    """Return a name for an event file: whole seconds and six digits (spec/registry.md, "..logs/")."""
    return f"{layout.LOGS}/{format_seconds(now)}_{100_000 + secrets.randbelow(900_000)}"


def make_transactions(root: str) -> None:
    """Make the folders of `..transactions` that are missing."""
    path = layout.join(root, layout.TRANSACTIONS)
    for folder in ("", *sorted(layout.TRANSACTION_FOLDERS)):
        if not os.path.isdir(layout.join(path, folder)):
            try:
                os.mkdir(layout.join(path, folder), TRANSACTIONS_MODE)
            except FileExistsError:
                continue
