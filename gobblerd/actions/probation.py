"""`approve_probation` and `reject_probation`."""

from collections.abc import Callable
from typing import TypeVar

from gobblerd.actions.action import Context, OfVersion, Spoofable, without_force
from gobblerd.domain.errors import Fault, Wrong
from gobblerd.domain.events import Event
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.domain.permissions import Rights
from gobblerd.domain.version import Latest, Summary
from gobblerd.registry.places import Place

T = TypeVar("T")


class ProbationalVersion(OfVersion, Spoofable):
    """The fields that both share."""


def require_probational(summary: Summary, version: Address) -> None:
    """Raise Wrong unless the version is on probation."""
    if not summary.on_probation:
        raise Wrong("the version {version} is not on probation", version=str(version))


class ApproveProbation(ProbationalVersion):
    """Drops the probation flag; the version becomes latest if its upload finished last."""

    name = "approve_probation"

    def perform(self, context: Context) -> Outcome:
        """Approve the version."""
        with context.changing(self.place, context.owners(self.place, "approve")) as version:
            summary = version.summary()
            require_probational(summary, self.place)
            becomes_latest = _is_later(summary, version)
            version.put_summary(summary.approved())
            if becomes_latest:
                version.point_latest(Latest(self.version))
            version.log(Event("add-version", self.place, becomes_latest))
            return version.commit(Outcome())


def _is_later(summary: Summary, version: Place) -> bool:
    latest = version.latest()
    if latest is None:
        return True
    other = version.metadata.summary(version.asset.child(latest.version))
    return summary.finish > other.finish


class RejectProbation(ProbationalVersion):
    """Deletes a probational version; with `force` even one whose metadata cannot be read."""

    name = "reject_probation"

    force: bool | None = None

    def perform(self, context: Context) -> Outcome:
        """Delete the version and lower the usage."""
        with context.changing(self.place, lambda rights: self._allow(rights, context)) as version:
            summary = _readable(version.summary, force=bool(self.force))
            if summary is not None:
                require_probational(summary, self.place)
            size = _readable(lambda: version.metadata.stored_bytes(self.place), force=bool(self.force))
            version.remove(self.place)
            # By force: a version without a readable summary need not have been on probation.
            if summary is None and version.is_latest(self.place):
                version.point_latest(version.metadata.computed_latest(version.asset, frozenset({self.place})))
            if size is not None:
                version.transaction.add_usage(self.project, -size)
            return version.commit(Outcome())

    def _allow(self, rights: Rights, context: Context) -> None:
        """Owners may, and whoever uploaded the version."""
        summary = context.registry.metadata.readable_summary(self.place)
        if summary is None or summary.upload_user_id != context.caller.user:
            rights.require_owner(context.caller, self.place, "reject")


def _readable(read: Callable[[], T], *, force: bool) -> T | None:
    """Return what is read; with `force`, None where it cannot be read."""
    try:
        return read()
    except Fault as fault:
        if force:
            return None
        raise without_force(fault) from fault
