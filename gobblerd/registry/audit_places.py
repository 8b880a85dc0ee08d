"""The registry itself, its projects and assets, its events and transactions, as an audit looks at them.

Each class looks at one place; what a second look need not read again, it remembers. Nothing is written, and
no lock is taken, so any two documents may be of different moments: what is reported is decided by `audit.py`.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, TypeVar

from gobblerd.domain.errors import Fault, quoted
from gobblerd.domain.names import ROOT, Address, flaw_of_name, is_internal, is_readable_name
from gobblerd.domain.times import NANOSECONDS, parse_time
from gobblerd.domain.version import Latest
from gobblerd.registry import audit_forms as forms
from gobblerd.registry import documents, layout
from gobblerd.registry.audit_findings import Collector, Kind, Look
from gobblerd.registry.audit_terms import Terms
from gobblerd.registry.audit_version import Thing, check_status, type_of
from gobblerd.registry.counting import UsageCount
from gobblerd.registry.flaws import Flaw
from gobblerd.registry.locks import LOCK_FILE_MODE
from gobblerd.registry.recovery import ABANDONED_SECONDS
from gobblerd.registry.transaction import TRANSACTIONS_MODE
from gobblerd.registry.tree import NOTHING
from gobblerd.storage.files import FILE_MODE
from gobblerd.storage.removal import last_touched

T = TypeVar("T")
_PROBE = "..probe-"  # see probe.py
_EVENT = re.compile(r"(.+)_[1-9]\d{5}", re.ASCII)


class _Level:
    """What lies directly in the registry, a project or an asset."""

    known: ClassVar[Mapping[str, forms.Form]] = {}  # the documents that may be there
    locks = frozenset({layout.LOCK, layout.LOCK_NEWDIR})
    child = ""

    def __init__(self, terms: Terms, place: Address) -> None:
        self._terms = terms
        self._metadata = terms.metadata
        self._place = place

    def look(self) -> Look:
        """Return what is wrong here, apart from what lies deeper."""
        collector = Collector(str(self._place))
        things = self._things()
        self._check_things(things, collector)
        self._check_values(things, collector)
        suspects = collector.suspects()
        return Look(suspects, max((thing.stamp.ctime_ns for thing in things.values()), default=0))

    def _path(self, name: str) -> str:
        return layout.in_place(self._place, name)

    def _things(self) -> dict[str, Thing]:
        """List the directory, itself under the name "."."""
        path = self._metadata.path(str(self._place))
        found = {".": Thing.of(os.lstat(path))}
        with os.scandir(path) as entries:
            for entry in entries:
                found[entry.name] = Thing.of(entry.stat(follow_symlinks=False))
        return found

    def _check_things(self, things: Mapping[str, Thing], collector: Collector) -> None:
        for name, thing in things.items():
            if name == ".":
                if self._place != ROOT:  # its mode is the administrator's business
                    check_status(str(self._place), thing, self._terms.owner, collector)
            elif is_internal(name):
                self._check_internal(name, thing, collector)
            elif not stat.S_ISDIR(thing.mode):
                collector.fault(self._path(name), Kind.STRANGE, f"a directory ({self.child})", type_of(thing))
            else:
                self._check_name(name, collector)

    def _check_name(self, name: str, collector: Collector) -> None:
        flaw = flaw_of_name(name)
        if not is_readable_name(name):
            collector.fault(self._path(name), Kind.NAME, f"a name for {self.child}", str(flaw))
        elif flaw is not None:
            collector.notice(self._path(name), Kind.NAME, f"a name for {self.child}", flaw)

    def _check_internal(self, name: str, thing: Thing, collector: Collector) -> None:
        path = self._path(name)
        if name.startswith(_PROBE):
            collector.notice(
                path, Kind.PROBE, NOTHING, "what a daemon that died left; the next start clears it"
            )
        elif not stat.S_ISREG(thing.mode) or name not in {*self.known, *self.locks}:
            known = ", ".join(sorted({*self.known, *self.locks}))
            collector.fault(path, Kind.STRANGE, f"no internal names but {known}", type_of(thing))
        elif name in self.locks:
            check_status(path, thing, self._terms.owner, collector, FILE_MODE, LOCK_FILE_MODE)
            if thing.stamp.size:
                collector.fault(path, Kind.STRANGE, "an empty lock file", f"{thing.stamp.size} bytes")
        else:
            check_status(path, thing, self._terms.owner, collector)

    def _check_values(self, things: Mapping[str, Thing], collector: Collector) -> None:
        """Check what the documents say."""

    def _document(
        self, name: str, things: Mapping[str, Thing], read: Callable[[bytes], T], collector: Collector
    ) -> T | None:
        """Read a document; None where there is none, or where it cannot be read, with a finding."""
        thing = things.get(name)
        if thing is None or not stat.S_ISREG(thing.mode):
            return None
        path = self._path(name)
        try:
            data = self._metadata.read(path)
            value = None if data is None else read(data)
        except (OSError, documents.Unreadable) as error:
            collector.fault(path, Flaw.UNREADABLE, "a document", error, thing)
            return None
        for misfit in forms.misfits(data, self.known[name]) if data is not None else ():
            collector.misfit(path, misfit)
        return value


class RegistryLooks(_Level):
    """Looks at the root: names, the marker, the lock files."""

    known: ClassVar = {layout.MARKER: forms.MARKER}
    child = "a project"

    def _check_things(self, things: Mapping[str, Thing], collector: Collector) -> None:
        super()._check_things({name: t for name, t in things.items() if not _is_folder(name, t)}, collector)

    def _check_values(self, things: Mapping[str, Thing], collector: Collector) -> None:
        self._document(layout.MARKER, things, lambda _: None, collector)


def _is_folder(name: str, thing: Thing) -> bool:
    """Tell whether this is one of the root's directories that are no projects."""
    return stat.S_ISDIR(thing.mode) and name in {layout.LOGS, layout.TRANSACTIONS, *layout.UNREMARKABLE}


class ProjectLooks(_Level):
    """Looks at a project: its documents, the names in it, and its usage against the manifests."""

    known: ClassVar = {
        layout.PERMISSIONS: forms.PROJECT_PERMISSIONS,
        layout.USAGE: forms.USAGE,
        layout.QUOTA: forms.QUOTA,
    }
    locks = layout.LOCK_FILES
    child = "an asset"

    def __init__(self, terms: Terms, place: Address) -> None:
        super().__init__(terms, place)
        self._count = UsageCount(terms.metadata, place)

    def _check_values(self, things: Mapping[str, Thing], collector: Collector) -> None:
        for name in (layout.PERMISSIONS, layout.USAGE):
            if name not in things:
                collector.fault(self._path(name), Flaw.MISSING, "a document", NOTHING, things["."])
        self._document(layout.PERMISSIONS, things, documents.read_permissions, collector)
        self._document(layout.QUOTA, things, documents.read_quota, collector)
        if self._document(layout.USAGE, things, documents.read_usage, collector) is not None:
            self._check_usage(things, collector)

    def _check_usage(self, things: Mapping[str, Thing], collector: Collector) -> None:
        path = self._path(layout.USAGE)
        try:
            before = self._metadata.usage(self._place.project).total
            total = self._count.total()
            after = self._metadata.usage(self._place.project).total
        except (FileNotFoundError, NotADirectoryError):
            raise  # something was removed just now
        except (Fault, OSError) as error:  # its own unit has it as a fault
            collector.notice(path, Kind.USAGE, "manifests that can be summed up", error)
            return
        if total not in {before, after}:  # with a change in between, both are right in their moments
            evidence = tuple(sorted(things.items(), key=lambda item: item[0]))
            collector.fault(path, Kind.USAGE, f"{total} bytes by the manifests", after, evidence)


class AssetLooks(_Level):
    """Looks at an asset: its documents, the names in it, and which version is the latest."""

    known: ClassVar = {layout.PERMISSIONS: forms.ASSET_PERMISSIONS, layout.LATEST: forms.LATEST}
    child = "a version"

    def _check_values(self, things: Mapping[str, Thing], collector: Collector) -> None:
        self._document(layout.PERMISSIONS, things, documents.read_permissions, collector)
        latest = self._document(layout.LATEST, things, documents.read_latest, collector)
        path = self._path(layout.LATEST)
        if collector.has(path, Flaw.UNREADABLE) or collector.has(path, Kind.STRANGE):
            return
        computed = self._metadata.computed_latest(self._place)
        if latest != computed and not self._is_tie(latest, computed):
            evidence = tuple(sorted(things.items(), key=lambda item: item[0]))
            shown = [quoted(each.version) if each else NOTHING for each in (computed, latest)]
            collector.fault(path, Kind.LATEST, shown[0], shown[1], evidence)

    def _is_tie(self, one: Latest | None, other: Latest | None) -> bool:
        """Tell whether both are versions, not on probation, that finished in the same moment."""
        if one is None or other is None or not is_readable_name(one.version):
            return False
        first, second = (self._metadata.readable_summary(self._place.child(e.version)) for e in (one, other))
        if first is None or second is None or first.on_probation:
            return False
        return first.finish == second.finish


class EventsLooks:
    """Looks at `..logs`: each file is a documented event."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._known: dict[str, Thing] = {}  # events that are right

    def look(self) -> Look:
        """Return the files that are no events; those that are gone by now (purged) are none of them."""
        collector = Collector(layout.LOGS)
        try:
            things = dict(_listed(self._terms, layout.LOGS))
        except FileNotFoundError:
            return Look()
        check_status(layout.LOGS, things.pop("."), self._terms.owner, collector)
        for name in sorted(things):
            if self._known.get(name) != things[name] and self._is_right(name, things[name], collector):
                self._known[name] = things[name]
        return Look(collector.suspects(), max((t.stamp.ctime_ns for t in things.values()), default=0))

    def _is_right(self, name: str, thing: Thing, collector: Collector) -> bool:
        path = layout.join(layout.LOGS, name)
        if not stat.S_ISREG(thing.mode) or not _is_event_name(name):
            collector.fault(path, Kind.STRANGE, "an event, called by time and number", type_of(thing))
            return False
        check_status(path, thing, self._terms.owner, collector)
        try:
            data = self._terms.metadata.read(path)
        except OSError as error:
            collector.fault(path, Flaw.UNREADABLE, "an event", error.strerror)
            return False
        wrong = list(forms.misfits(data, forms.event)) if data is not None else []
        for misfit in wrong:
            if misfit.is_wrong:
                collector.fault(path, Kind.EVENT, misfit.expected, misfit.found)
            else:
                collector.misfit(path, misfit)
        return not wrong


def _is_event_name(name: str) -> bool:
    found = _EVENT.fullmatch(name)
    if found is None:
        return False
    try:
        parse_time(found[1])
    except ValueError:
        return False
    return True


def _listed(terms: Terms, folder: str) -> Iterator[tuple[str, Thing]]:
    path = terms.metadata.path(folder)
    yield ".", Thing.of(os.lstat(path))
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                yield entry.name, Thing.of(entry.stat(follow_symlinks=False))
            except FileNotFoundError:  # purged, or finished, in this moment
                continue


class TransactionsLooks:
    """Looks at `..transactions` for what daemons that died left; work of the last days may be going on.

    Whoever may not read it is told so: that is what mode 0700 is for.
    """

    def __init__(self, terms: Terms) -> None:
        self._terms = terms

    def look(self) -> Look:
        """Return what is left over."""
        collector = Collector(layout.TRANSACTIONS)
        try:
            things = dict(_listed(self._terms, layout.TRANSACTIONS))
            check_status(
                layout.TRANSACTIONS, things.pop("."), self._terms.owner, collector, TRANSACTIONS_MODE
            )
            records = self._check_records(collector)
            self._check_rest(things, records, collector)
        except FileNotFoundError:
            return Look()
        except PermissionError as error:
            collector.notice(
                layout.TRANSACTIONS, Flaw.UNREADABLE, "to be read by the registry's owner", error.strerror
            )
            return Look(collector.suspects())
        return Look(collector.suspects(), self._terms.now())

    def _names(self, folder: str) -> list[str]:
        try:
            return sorted(os.listdir(self._terms.metadata.path(folder)))
        except FileNotFoundError:
            return []

    def _check_records(self, collector: Collector) -> frozenset[str]:
        """Report records that wait; return the names of all."""
        found: set[str] = set()
        for folder, state in ((layout.COMMITTED, "committed, not applied"), (layout.APPLIED, "not answered")):
            for name in self._names(folder):
                found.add(name)
                collector.fault(
                    layout.join(folder, name), Kind.UNFINISHED, NOTHING, f"a change that was {state}"
                )
        for name in self._names(layout.ASIDE):
            collector.fault(
                layout.join(layout.ASIDE, name),
                Kind.ASIDE,
                NOTHING,
                "what had no place when it was recovered",
            )
        return frozenset(found)

    def _check_rest(self, things: Mapping[str, Thing], records: frozenset[str], collector: Collector) -> None:
        for name in sorted(things.keys() - layout.TRANSACTION_FOLDERS - records):
            path = layout.join(layout.TRANSACTIONS, name)
            if name.endswith(layout.TEMPORARY) and stat.S_ISREG(things[name].mode):
                continue  # a record or document on its way; its daemon's next start removes what a crash left
            if not stat.S_ISDIR(things[name].mode):
                collector.fault(path, Kind.STRANGE, "a transaction's directory", type_of(things[name]))
            elif self._is_abandoned(path):
                days = int(ABANDONED_SECONDS // 86400)
                collector.fault(path, Kind.ABANDONED, NOTHING, f"work untouched for over {days} days")

    def _is_abandoned(self, path: str) -> bool:
        touched = last_touched(self._terms.metadata.path(path))
        return touched is not None and self._terms.now() - touched > ABANDONED_SECONDS * NANOSECONDS
