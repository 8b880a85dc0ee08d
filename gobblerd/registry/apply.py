"""Applying a committed record: each step is one rename; where its end lies tells whether it was done.

Documents are written from the record, and may be written again: the result is the same.

The order is such that every state on the way is readable without locks: un-point `..latest` before removing,
install before pointing, then usage, `..latest`, and the events last (spec/details.md, "Locks, in detail").
A new asset brings its own `..latest`: it appears whole.
`..usage` and `..latest` are derived: the committing process knows their new values, recovery recomputes them.
"""

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gobblerd.domain.names import Address
from gobblerd.domain.usage import Usage
from gobblerd.domain.version import Latest
from gobblerd.registry import documents, layout
from gobblerd.registry.counting import UsageCount
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.record import Record, Step
from gobblerd.storage.files import exists, read_file, rename, sync_directory, write_opened
from gobblerd.storage.sync import Disk

_TOGETHER = 64  # documents that are open at a time
_REWRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class TakenError(Exception):
    """Something came to lie where a committed step wants to put something new."""


@dataclass
class Values:
    """New values of the derived documents, as the committing process knows them."""

    usage_changes: dict[str, int] = field(default_factory=dict)
    usage_totals: dict[str, int] = field(default_factory=dict)
    latest: dict[Address, Latest | None] = field(default_factory=dict)


def apply(disk: Disk, record: Record, values: Values, prepared: "Documents") -> None:
    """Apply the record with known derived values and move it to `applied/`; OSError to be retried.

    `prepared` may hold what the record's own steps write.
    """
    unpoints = any(step.kind == "remove" for step in record.steps)
    if unpoints:
        prepared.write_latest(values.latest)
    _run(disk.root, record, prepared)
    totals, latest = _new_totals(disk.root, values), {} if unpoints else values.latest
    if totals or latest:  # the usage has changed where another asset's commit was quicker
        prepared.prepare({**_usages(totals), **_latests(latest)})
        prepared.write_usage(totals)
        prepared.write_latest(latest)
    _finish_applying(disk, record, prepared)


def apply_again(disk: Disk, record: Record) -> None:
    """Apply the record without its writer: derived documents are recomputed from manifests and summaries.

    TakenError if the place of a new tree was taken meanwhile (by a Go service, which knows no transactions).
    """
    derived = Documents(disk, record.id)
    metadata = Metadata(disk.root)
    assets = [Address(project, asset) for project, asset in record.latest]
    going = frozenset(_address(step.path) for step in record.steps if step.kind == "remove")
    derived.write_latest({a: metadata.computed_latest(a, without=going) for a in assets if metadata.has(a)})
    _run(disk.root, record, derived)
    projects = [project for project in record.usage if metadata.has(Address(project))]
    derived.write_usage({project: UsageCount(metadata, Address(project)).total() for project in projects})
    derived.write_latest({a: metadata.computed_latest(a) for a in assets if metadata.has(a)})
    _finish_applying(disk, record, derived)


def expected(root: str, values: Values) -> dict[str, bytes]:
    """Return what the derived documents will hold, if nobody else changes the usage before its lock is taken.

    Prepared before the commit, they have their space and inodes: a full disk refuses a change, and does not
    leave it half done. So does a `..usage` that cannot be read: Fault.
    """
    return {**_usages(_new_totals(root, values)), **_latests(values.latest)}


def _new_totals(root: str, values: Values) -> dict[str, int]:
    metadata = Metadata(root)
    changed = {p: metadata.usage(p).total + change for p, change in values.usage_changes.items()}
    return {project: max(0, total) for project, total in changed.items()} | values.usage_totals


def _address(path: str) -> Address:
    return Address(*path.split("/")[:3])


def _usages(totals: Mapping[str, int]) -> dict[str, bytes]:
    return {layout.join(p, layout.USAGE): documents.usage_bytes(Usage(total)) for p, total in totals.items()}


def _latests(latest: Mapping[Address, Latest | None]) -> dict[str, bytes]:
    return {
        layout.in_place(asset, layout.LATEST): documents.latest_bytes(value)
        for asset, value in latest.items()
        if value is not None
    }


def _run(root: str, record: Record, documents: "Documents") -> None:
    for step in record.steps:
        if step.kind == "write":
            documents.replace(step.path, step.content.encode("utf-8"))
            continue
        slot = layout.join(root, layout.TRANSACTIONS, record.id, step.slot)
        place = layout.join(root, step.path)
        if step.kind == "install":
            _install(slot, place, fresh=step.fresh)
        elif not exists(slot) and exists(place):
            rename(place, slot)


def _install(slot: str, place: str, *, fresh: bool) -> None:
    if not exists(slot):
        return  # done before
    if fresh and exists(place):
        raise TakenError(place)
    rename(slot, place)


def _finish_applying(disk: Disk, record: Record, documents: "Documents") -> None:
    root = disk.root
    if record.events and not os.path.isdir(logs := layout.join(root, layout.LOGS)):
        os.makedirs(logs, exist_ok=True)
    for step in record.events:
        if step.kind == "write":
            documents.add_event(step)
        else:
            _install_event(root, layout.join(root, layout.TRANSACTIONS, record.id, step.slot), step)
    if disk.syncs_names:
        sync_touched(root, record)
    disk.rename(layout.join(root, layout.COMMITTED, record.id), layout.join(root, layout.APPLIED, record.id))
    if disk.syncs_names:  # else a power cut could have it written again, over later ones
        sync_directory(layout.join(root, layout.APPLIED))
        sync_directory(layout.join(root, layout.COMMITTED))


def _install_event(root: str, slot: str, step: Step) -> None:
    """Move an event that was staged (by records of format 1) to its place."""
    place = layout.join(root, step.path)
    while exists(slot) and exists(place):  # another event of this second has our number
        place = _renumbered(place)
    _install(slot, place, fresh=True)


def _renumbered(place: str) -> str:
    return f"{place.rpartition('_')[0]}_{100_000 + secrets.randbelow(900_000)}"


def sync_touched(root: str, record: Record) -> None:
    """Make durable every directory of the registry in which the record moved something."""
    paths = {os.path.dirname(step.path) for step in (*record.steps, *record.events)}
    paths |= {layout.join(*names) for names in record.latest} | set(record.usage)
    for path in sorted(paths):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed since, or never put there
            sync_directory(layout.join(root, path))


class Documents:
    """Writer of a transaction's single documents, by way of temporary files beside its record.

    Bytes are durable before they get their name, so that nothing is ever torn. The names need not be: until
    they are, the record stays. Paths are those in the registry.
    """

    def __init__(self, disk: Disk, transaction: str) -> None:
        self._root = disk.root
        self._disk = disk
        self._preallocates = disk.flushes and not disk.is_durable
        self._temporary = temporary_of(disk.root, transaction)
        self._prepared: dict[str, tuple[str, bytes]] = {}  # path -> temporary file, bytes
        self._number = 0

    def prepare(self, contents: Mapping[str, bytes], beside: Sequence[int] = ()) -> None:
        """Write documents that are to be put in place later; all become durable together, which costs little.

        `beside` are descriptors whose bytes are to be durable too. What is prepared already stays as it is.
        """
        waiting = [(path, data) for path, data in contents.items() if not self._is_prepared(path, data)]
        for start in range(0, len(waiting) or bool(beside), _TOGETHER):
            self._prepare_some(waiting[start : start + _TOGETHER], beside if start == 0 else ())

    def _prepare_some(self, contents: Iterable[tuple[str, bytes]], beside: Sequence[int]) -> None:
        written: list[int] = []
        try:
            for path, data in contents:
                temporary = self._temporary_for(path)
                self._prepared[path] = (temporary, data)  # also if it cannot be written: to be discarded then
                written.append(write_opened(temporary, data, _REWRITE, preallocates=self._preallocates))
            self._disk.settle_all([*beside, *written])
        finally:
            for fd in written:
                os.close(fd)

    def _is_prepared(self, path: str, data: bytes) -> bool:
        return path in self._prepared and self._prepared[path][1] == data

    def _temporary_for(self, path: str) -> str:
        if path in self._prepared:  # with other bytes, which nobody wants any more
            return self._prepared[path][0]
        self._number += 1
        return f"{self._temporary}{self._number}"

    def discard(self) -> None:
        """Remove what was prepared and not put in place, as far as that is possible."""
        for temporary, _ in self._prepared.values():
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        self._prepared.clear()

    def add_event(self, step: Step) -> None:
        """Write an event under a number that is free, unless it is there already."""
        data, place = step.content.encode("utf-8"), layout.join(self._root, step.path)
        while (found := _content(place)) is not None and found != data:  # another event has our number
            place = _renumbered(place)
        if found is None:
            self._put(step.path, data, place)

    def write_usage(self, totals: Mapping[str, int]) -> None:
        """Write the usage of each project."""
        for path, data in _usages(totals).items():
            self.replace(path, data)

    def write_latest(self, latest: Mapping[Address, Latest | None]) -> None:
        """Write or remove the `..latest` of each asset."""
        for path, data in _latests(latest).items():
            self.replace(path, data)
        for asset in (asset for asset, value in latest.items() if value is None):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(layout.join(self._root, layout.in_place(asset, layout.LATEST)))

    def replace(self, path: str, data: bytes) -> None:
        """Write or replace the document at a path."""
        self._put(path, data, layout.join(self._root, path))

    def _put(self, path: str, data: bytes, place: str) -> None:
        self.prepare({path: data})
        self._disk.rename(self._prepared[path][0], place)
        del self._prepared[path]


def _content(path: str) -> bytes | None:
    """Return the bytes of a file, None where there is none."""
    try:
        return read_file(path)
    except FileNotFoundError:
        return None


def temporary_of(root: str, transaction: str) -> str:
    """Return the path of what a transaction is about to rename; after a crash it is rubbish."""
    return layout.join(root, layout.TRANSACTIONS, f"{transaction}{layout.TEMPORARY}")
