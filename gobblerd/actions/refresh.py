"""`refresh_usage` and `refresh_latest`: what is derived is computed again from what it derives from.

Where the registry says so already, nothing is written.
"""

import contextlib

from gobblerd.actions.action import Action, AssetName, Context, ProjectName
from gobblerd.domain.errors import Fault
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.registry.counting import UsageCount


class RefreshUsage(Action):
    """Recomputes a project's usage from its manifests."""

    name = "refresh_usage"
    administrators_only = True

    project: ProjectName

    def perform(self, context: Context) -> Outcome:
        """Read the manifests unlocked, and under the lock only those that changed meanwhile."""
        place = Address(self.project)
        count = UsageCount(context.registry.metadata, place, context.registry.counted)
        with contextlib.suppress(Fault, OSError):  # what fails or goes away is judged under the lock
            count.total()
        with context.changing(place) as project:
            total = count.total()
            outcome = Outcome({"total": total})
            with contextlib.suppress(Fault):  # what cannot be read is written anew
                if project.metadata.usage(self.project).total == total:
                    return outcome
            project.transaction.set_usage(self.project, total)
            return project.commit(outcome)


class RefreshLatest(Action):
    """Recomputes an asset's latest version from the summaries of its versions."""

    name = "refresh_latest"
    administrators_only = True

    project: ProjectName
    asset: AssetName

    def perform(self, context: Context) -> Outcome:
        """Point `..latest` at the version whose upload finished last."""
        place = Address(self.project, self.asset)
        with context.changing(place) as asset:
            latest = asset.metadata.computed_latest(place)
            outcome = Outcome({"version": latest.version} if latest else {})
            with contextlib.suppress(Fault):
                if asset.latest() == latest:
                    return outcome
            asset.point_latest(latest)
            return asset.commit(outcome)
