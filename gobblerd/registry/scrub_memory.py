"""What scrubs remember from run to run, in one file that all daemons of a registry share.

When each place was last checked, which file of a large version comes next, and what is wrong now: a finding
stays until its place is looked at again. The file holds what is there, not what was, and of findings a
bounded number in full; one that cannot be read is as good as none, and everything counts as never checked.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gobblerd.domain.times import NANOSECONDS
from gobblerd.registry.audit_findings import Finding, Severity
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, Durability, opened, read_all, replace_file

NAME = "scrub.memory"
FINDINGS_MOST = 500  # kept in full; of more, the number
_PER_PLACE = 20
_TEXT_MOST = 500  # characters of what was expected or found
_MAX_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Place:
    """A version that was begun, and the path of the file to go on with; `mark` tells its manifest."""

    version: str
    path: str
    mark: str


@dataclass(slots=True)
class Flaws:
    """What is wrong at one place: how much, and some of it in full."""

    faults: int = 0
    notices: int = 0
    shown: list[dict[str, str]] = field(default_factory=list)


@dataclass
class Memory:
    """`checked`: place -> seconds since the epoch. `started`: the last run's beginning in nanoseconds.

    `flaws` are those of the last time that a place was looked at to its end, `pending` those of the version
    at hand so far.
    """

    started: int = 0
    checked: dict[str, int] = field(default_factory=dict)
    place: Place | None = None
    flaws: dict[str, Flaws] = field(default_factory=dict)
    pending: Flaws = field(default_factory=Flaws)

    @classmethod
    def load(cls, directory: str) -> "Memory":
        """Read what was remembered; nothing where that is not possible."""
        try:
            with opened(os.path.join(directory, NAME), READ_FILE) as fd:
                return cls._of(json.loads(read_all(fd, _MAX_BYTES)))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return cls()

    @classmethod
    def _of(cls, document: Mapping[str, Any]) -> "Memory":
        checked = {str(path): int(when) for path, when in document["checked"].items()}
        flaws = {str(path): Flaws(**each) for path, each in document["flaws"].items()}
        place = document["place"]
        pending = Flaws(**document["pending"])
        return cls(int(document["started"]), checked, Place(**place) if place else None, flaws, pending)

    def save(self, directory: str) -> None:
        """Replace the file; OSError if that fails."""
        document = {
            "started": self.started,
            "place": asdict(self.place) if self.place else None,
            "pending": asdict(self.pending),
            "flaws": {path: asdict(flaws) for path, flaws in self.flaws.items()},
            "checked": self.checked,
        }
        data = json.dumps(document, separators=(",", ":")).encode("ascii")
        with opened(directory, READ_DIRECTORY) as fd:
            replace_file(fd, f"{NAME}.new", NAME, data, Durability.PROCESS)

    def forget_all_but(self, places: set[str]) -> None:
        """Forget places that are gone."""
        self.checked = {path: when for path, when in self.checked.items() if path in places}
        self.flaws = {path: flaws for path, flaws in self.flaws.items() if path in places}
        if self.place is not None and self.place.version not in places:
            self.begin()

    def begin(self) -> None:
        """Begin to look at a place from its beginning."""
        self.place, self.pending = None, Flaws()

    def note(self, findings: Iterable[Finding]) -> None:
        """Add what was found at the place at hand."""
        self._add(self.pending, findings)

    def settle(self, place: str, findings: Iterable[Finding], now: int) -> None:
        """Note what was found at a place that was looked at all at once, whatever else is at hand."""
        flaws = Flaws()
        self._add(flaws, findings)
        self._replace(place, flaws, now)

    def _add(self, flaws: Flaws, findings: Iterable[Finding]) -> None:
        room = FINDINGS_MOST - sum(len(each.shown) for each in self.flaws.values())
        for finding in findings:
            if finding.severity is Severity.NOTICE:
                flaws.notices += 1
                continue
            flaws.faults += 1
            if len(flaws.shown) < min(room, _PER_PLACE):
                document = finding.document()
                flaws.shown.append({key: text[:_TEXT_MOST] for key, text in document.items()})

    def go_on(self, place: Place) -> None:
        """Note how far a version was looked at."""
        self.place = place

    def done(self, place: str, now: int) -> None:
        """Note that the place at hand was looked at to its end; `now` in nanoseconds."""
        self._replace(place, self.pending, now)
        self.begin()

    def _replace(self, place: str, flaws: Flaws, now: int) -> None:
        self.checked[place] = now // NANOSECONDS
        self.flaws.pop(place, None)
        if flaws.faults or flaws.notices:
            self.flaws[place] = flaws

    # -- for people and metrics ------------------------------------------------------------------------

    def _known(self) -> list[Flaws]:
        """Return what is known of each place; of the one at hand whichever time found more."""
        at_hand = self.place.version if self.place else None
        rest = [flaws for path, flaws in self.flaws.items() if path != at_hand]
        before = self.flaws.get(at_hand, Flaws()) if at_hand else Flaws()
        return [*rest, max(before, self.pending, key=lambda each: each.faults)]

    @property
    def faults(self) -> int:
        """How many faults are known."""
        return sum(each.faults for each in self._known())

    @property
    def notices(self) -> int:
        """How many notices are known."""
        return sum(each.notices for each in self._known())

    def shown(self, most: int) -> list[dict[str, str]]:
        """Return known faults, as many as are kept in full, up to `most`."""
        return [each for flaws in self._known() for each in flaws.shown][:most]
