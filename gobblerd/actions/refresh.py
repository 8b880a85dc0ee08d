"""`refresh_usage` and `refresh_latest`: what is derived is computed again from what it derives from."""

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
            project.transaction.set_usage(self.project, total)
            return project.commit(Outcome({"total": total}))


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
            asset.point_latest(latest)
            return asset.commit(Outcome({"version": latest.version} if latest else {}))
