"""`delete_project`, `delete_asset` and `delete_version`: success also when there is nothing to delete.

Links of other versions into what is deleted are left dangling unless `reroute_links` came before.
"""

from collections.abc import Iterable

from gobblerd.actions.action import Action, AssetName, Context, ProjectName, VersionName, without_force
from gobblerd.domain.errors import Absent, Fault
from gobblerd.domain.events import Event
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address, check_name
from gobblerd.registry.places import Place


class Deletion(Action):
    """What the three share. With `force`, unreadable manifests are no obstacle; usage then stays."""

    administrators_only = True

    project: ProjectName
    force: bool | None = None

    @property
    def place(self) -> Address:
        """What is to be deleted."""
        return Address(self.project)

    def perform(self, context: Context) -> Outcome:
        """Delete the place, if it is there, from the one that holds it."""
        holder = Address(*tuple(self.place)[:-1])
        try:
            with context.changing(holder) as held:
                if held.metadata.has(self.place):
                    self.plan(held)
                    return held.commit(Outcome())
        except Absent:
            pass
        for level, name in zip(("project", "asset", "version"), self.place, strict=False):
            check_name(level, name)  # names that only older rules allow must at least exist
        return Outcome()

    def plan(self, holder: Place) -> None:
        """Plan what goes away with the place."""
        holder.remove(self.place)

    def lower_usage(self, holder: Place, versions: Iterable[Address]) -> None:
        """Plan to take the versions off the usage; with `force`, an unreadable one leaves it as it is."""
        try:
            total = sum(holder.metadata.stored_bytes(version) for version in versions)
        except Fault as fault:
            if self.force:
                return
            raise without_force(fault) from fault
        holder.transaction.add_usage(self.project, -total)


class DeleteProject(Deletion):
    """Deletes a project with all that is in it."""

    name = "delete_project"

    def plan(self, holder: Place) -> None:
        """Plan the removal of the project."""
        super().plan(holder)
        holder.log(Event("delete-project", self.place))


class DeleteAsset(Deletion):
    """Deletes an asset with all its versions."""

    name = "delete_asset"

    asset: AssetName

    @property
    def place(self) -> Address:
        """The asset."""
        return Address(self.project, self.asset)

    def plan(self, holder: Place) -> None:
        """Plan the removal of the asset, and lower the usage."""
        super().plan(holder)
        self.lower_usage(holder, holder.metadata.versions_below(self.place))
        holder.log(Event("delete-asset", self.place))


class DeleteVersion(Deletion):
    """Deletes a version; `..latest` follows."""

    name = "delete_version"

    asset: AssetName
    version: VersionName

    @property
    def place(self) -> Address:
        """The version."""
        return Address(self.project, self.asset, self.version)

    def plan(self, holder: Place) -> None:
        """Plan the removal of the version, lower the usage, and point `..latest` elsewhere."""
        super().plan(holder)
        self.lower_usage(holder, [self.place])
        was_latest = holder.is_latest(self.place)
        if was_latest:
            without = frozenset({self.place})
            holder.point_latest(holder.metadata.computed_latest(holder.asset, without))
        summary = holder.metadata.readable_summary(self.place)
        if summary is not None and not summary.on_probation:
            holder.log(Event("delete-version", self.place, was_latest))
