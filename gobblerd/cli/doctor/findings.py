"""What a check is and what it finds: one line of the doctor's report.

A check is a function from the site to what it found; that it raises OSError is a finding too. No check
changes anything but files of its own, which it removes.
"""

import errno
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from gobblerd.domain.errors import told

Site = TypeVar("Site")
_MENDS = {  # of the filesystem's own troubles, whatever the check was after
    errno.EROFS: "mount its filesystem to be written",
    errno.ENOSPC: "make room there (df -h; df -i)",
    errno.EDQUOT: "make room there, or raise the account's quota on that filesystem",
}


class Result(StrEnum):
    """How a check ended; `fail` makes the doctor's exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Found:
    """What one check saw. `mend` is only given where it differs from the check's own advice."""

    result: Result
    text: str
    mend: str = ""


def ok(text: str) -> Found:
    """Say that all is as it should be."""
    return Found(Result.OK, text)


def warn(text: str, mend: str = "") -> Found:
    """Say that it works, with a drawback."""
    return Found(Result.WARN, text, mend)


def fail(text: str, mend: str = "") -> Found:
    """Say that it will not work, or not be safe."""
    return Found(Result.FAIL, text, mend)


def skipped(text: str) -> Found:
    """Say why it could not be looked at."""
    return Found(Result.SKIPPED, text)


@dataclass(frozen=True, slots=True)
class Check(Generic[Site]):
    """One line of the report: what is looked at, why it matters, how to mend it, and how to look."""

    name: str
    what: str
    why: str
    mend: str
    look: Callable[[Site], Found]


@dataclass(frozen=True, slots=True)
class Line:
    """A check with what it found."""

    name: str
    what: str
    result: Result
    found: str
    why: str
    mend: str


def examine(checks: Sequence[Check[Site]], site: Site) -> list[Line]:
    """Carry out checks in order; one that cannot be carried out has failed."""
    return [_line(check, _looked(check, site)) for check in checks]


def lines_without_looking(checks: Sequence[Check[Site]], reason: str) -> list[Line]:
    """Return the lines of checks that were skipped, and why."""
    return [_line(check, skipped(reason)) for check in checks]


def _looked(check: Check[Site], site: Site) -> Found:
    try:
        return check.look(site)
    except OSError as error:
        return fail(told(error), _MENDS.get(error.errno or 0, ""))
    except Exception as error:  # noqa: BLE001 - the other checks are worth having all the same
        at = traceback.extract_tb(error.__traceback__)[-1]
        return fail(
            f"{type(error).__name__} at {at.name}:{at.lineno}: {error}", "report this as a fault of gobblerd"
        )


def _line(check: Check[Site], found: Found) -> Line:
    return Line(check.name, check.what, found.result, found.text, check.why, found.mend or check.mend)
