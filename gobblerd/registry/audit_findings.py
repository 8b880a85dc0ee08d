"""What an audit reports: one finding each, where it is, what is wrong, and what the report rests on.

A fault is a promise that does not hold. A notice misleads nobody who reads the registry: a mode, an owner, a
form that only strict readers mind.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import StrEnum

from gobblerd.domain.errors import printable


class Severity(StrEnum):
    """How much a finding matters; faults alone decide the exit code."""

    FAULT = "fault"
    NOTICE = "notice"


class Kind(StrEnum):
    """What is the matter, where it is not a version's own `Flaw` (flaws.py)."""

    LATEST = "wrong latest version"
    USAGE = "wrong usage"
    DOCUMENT = "wrong value in a document"
    FORM = "undocumented form"
    CHECKSUMS = "wrong entry in ..checksums"
    STRANGE = "strange file"
    NAME = "name against the rules"
    EVENT = "wrong event"
    UNFINISHED = "unfinished transaction"
    ABANDONED = "abandoned transaction"
    ASIDE = "upload set aside"
    PROBE = "probe left behind"
    MODE = "unusual mode"
    OWNER = "another owner"
    HARD_LINK = "hard link"
    SYMLINK = "unusual symbolic link"
    CHANGING = "kept changing"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `path` and `place` are relative to the registry."""

    place: str
    path: str
    kind: str
    expected: str
    found: str
    severity: Severity = Severity.FAULT

    def document(self) -> dict[str, str]:
        """Return the JSON object of a report's line."""
        return {
            "place": self.place,
            "path": self.path,
            "severity": self.severity,
            "kind": self.kind,
            "expected": self.expected,
            "found": self.found,
        }

    @property
    def subject(self) -> tuple[str, str]:
        """What the finding is about, whatever was found this time."""
        return self.path, self.kind


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at one unit gave.

    `suspects` has each finding with its evidence: what must be the same at the next look for the finding to
    stand; None if it changed already while it was looked at. `newest` is when any of it last changed, in
    nanoseconds; `files` and `size` (bytes) say how much was looked at.
    """

    suspects: dict[Finding, Hashable] = field(default_factory=dict)
    newest: int = 0
    files: int = 0
    size: int = 0


@dataclass(slots=True)
class _Alike:
    """Notices that differ in their paths only: the first path, what was found there, and how many."""

    path: str
    found: str
    count: int = 0


class Collector:
    """Gathers the findings of one place."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._faults: dict[Finding, Hashable] = {}
        self._subjects: set[tuple[str, str]] = set()
        self._notices: dict[tuple[str, ...], _Alike] = {}

    def fault(self, path: str, kind: str, expected: object, found: object, evidence: Hashable = 0) -> None:
        """Add a promise that does not hold."""
        finding = Finding(self._place, printable(path), kind, printable(expected), printable(found))
        self._faults[finding] = evidence
        self._subjects.add(finding.subject)

    def notice(self, path: str, kind: str, expected: object, found: object, detail: str = "") -> None:
        """Add a notice; those that differ in path and detail only become one, with their number."""
        key = (kind, str(expected), str(found), path if detail else "")
        alike = self._notices.setdefault(key, _Alike(path, f"{found}{f' in {detail}' if detail else ''}"))
        alike.path = min(alike.path, path)
        alike.count += 1

    def misfit(self, path: str, misfit: "Misfit") -> None:
        """Add what is not as documented in the document at `path`."""
        if misfit.is_wrong:
            found = f"{misfit.found} in {misfit.at}" if misfit.at else misfit.found
            self.fault(path, Kind.DOCUMENT, misfit.expected, found)
        else:
            self.notice(path, Kind.FORM, misfit.expected, misfit.found, misfit.at)

    def has(self, path: str, kind: str) -> bool:
        """Tell whether there is a fault of this kind at the path."""
        return (printable(path), kind) in self._subjects

    def suspects(self, evidence: Hashable = 0) -> dict[Finding, Hashable]:
        """Return the findings; `evidence` is that of those which have none of their own."""
        found = {finding: own or evidence for finding, own in self._faults.items()}
        for (kind, expected, _, _), alike in self._notices.items():
            more = f", and {alike.count - 1} more" if alike.count > 1 else ""
            texts = (kind, printable(expected), printable(alike.found + more))
            found[Finding(self._place, printable(alike.path), *texts, Severity.NOTICE)] = 0
        return found


@dataclass(frozen=True, slots=True)
class Misfit:
    """Where a document is not as documented; `is_wrong` if a reader is misled, else it is only unusual."""

    at: str
    expected: str
    found: str
    is_wrong: bool


def in_order(findings: "dict[Finding, Hashable] | list[Finding]") -> list[Finding]:
    """Sort the findings of one place for a report."""
    return sorted(findings, key=lambda f: (f.path, f.kind, f.expected, f.found))
