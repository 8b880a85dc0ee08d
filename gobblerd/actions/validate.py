"""`validate_version`: everything that is wrong with a version, and nothing changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from gobblerd.actions.action import Context, OfVersion
from gobblerd.domain.errors import Busy, Invalid, Plain
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.checks import check_version
from gobblerd.registry.flaws import Problem
from gobblerd.registry.source import Stamp
from gobblerd.registry.tree import stamp_at

_TRIES = 5


class Problems(Invalid):
    """A version has problems; the answer lists all of them."""

    def __init__(self, version: Address, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        more = len(problems) - 1
        super().__init__(
            "{version} is not valid: {first}{more}",
            version=str(version),
            first=Plain(problems[0].sentence),
            more=Plain(f" (and {more} more problem{'s' if more > 1 else ''})" if more else ""),
        )

    def details(self) -> Mapping[str, Any]:
        """Return the list for the answer."""
        return {"problems": [problem.document() for problem in self.problems]}


class ValidateVersion(OfVersion):
    """Checks every size, checksum, link, missing and extra file of a version, and its summary."""

    name = "validate_version"
    administrators_only = True
    is_long = True

    def perform(self, context: Context) -> Outcome:
        """Read unlocked; what was read counts only if nobody changed the version meanwhile."""
        for _ in range(_TRIES):
            before = self._state(context)
            problems = self._check(context)
            if self._state(context) == before:
                if problems:
                    raise Problems(self.place, problems)
                return Outcome()
        raise Busy("{version} kept changing while it was read; drop a new request", version=str(self.place))

    def _state(self, context: Context) -> tuple[Stamp | None, Stamp | None]:
        """Return what tells whether the version changed; Absent if it is not there (any more)."""
        with context.transaction() as transaction, context.registry.reading(self.place, transaction) as held:
            path = held.metadata.path(str(self.place))
            return stamp_at(layout.join(path, layout.MANIFEST)), stamp_at(layout.join(path, layout.SUMMARY))

    def _check(self, context: Context) -> list[Problem]:
        return check_version(
            context.registry.metadata, self.place, context.policy.whitelist, context.progress
        )
