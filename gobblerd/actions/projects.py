"""`create_project` and `set_quota`."""

import os
from typing import Annotated

from pydantic import Field

from gobblerd.actions.action import Action, Context, NewProject, ProjectName
from gobblerd.actions.permissions import PermissionsDocument
from gobblerd.domain.errors import Wrong
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import ROOT, Address
from gobblerd.domain.permissions import Permissions
from gobblerd.domain.times import year_of
from gobblerd.domain.usage import Quota, Usage
from gobblerd.registry import documents, layout
from gobblerd.storage.files import DIRECTORY_MODE, exists, sync_directory

# The registry's readers keep these numbers in 64 bits.
Bytes = Annotated[int, Field(ge=0, lt=2**63)]
BytesPerYear = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Year = Annotated[int, Field(ge=0, le=9999)]


def _default_quota(context: Context) -> Quota:
    policy = context.policy
    return Quota(policy.quota_baseline, policy.quota_growth_rate, year_of(context.registry.clock.now()))


class CreateProject(Action):
    """A new project; its owners default to the requester."""

    name = "create_project"
    administrators_only = True

    project: NewProject
    permissions: PermissionsDocument | None = None

    def perform(self, context: Context) -> Outcome:
        """Make the project appear whole, with its metadata."""
        place = Address(self.project)
        with context.changing(ROOT) as root:
            if exists(root.metadata.path(self.project)):
                raise Wrong("the project {project} exists already", project=self.project)
            slot, path = root.transaction.new_slot()
            os.mkdir(path, DIRECTORY_MODE)
            default = Permissions(owners=(context.caller.user,))
            permissions = default.updated(self.permissions.value()) if self.permissions else default
            contents = {
                layout.PERMISSIONS: documents.permissions_bytes(permissions),
                layout.USAGE: documents.usage_bytes(Usage(0)),
                layout.QUOTA: documents.quota_bytes(_default_quota(context)),
            }
            for name, data in contents.items():
                root.transaction.write_staged(layout.join(path, name), data)
            if root.transaction.disk.syncs_names:
                sync_directory(path)
            root.transaction.install(slot, str(place), fresh=True)
            return root.commit(Outcome())


class SetQuota(Action):
    """Replaces the given keys of a project's quota; a project without one starts from the defaults."""

    name = "set_quota"
    administrators_only = True

    project: ProjectName
    baseline: Bytes | None = None
    growth_rate: BytesPerYear | None = None
    year: Year | None = None

    def perform(self, context: Context) -> Outcome:
        """Write the new quota."""
        with context.changing(Address(self.project)) as project:
            quota = self._whole() or self._changed(
                project.metadata.quota(self.project) or _default_quota(context)
            )
            project.transaction.put(layout.join(self.project, layout.QUOTA), documents.quota_bytes(quota))
            return project.commit(Outcome())

    def _whole(self) -> Quota | None:
        """Return the quota if every key is given: the old one, which may be unreadable, is not needed."""
        if self.baseline is None or self.growth_rate is None or self.year is None:
            return None
        return Quota(self.baseline, self.growth_rate, self.year)

    def _changed(self, old: Quota) -> Quota:
        return Quota(
            old.baseline if self.baseline is None else self.baseline,
            old.growth_rate if self.growth_rate is None else self.growth_rate,
            old.year if self.year is None else self.year,
        )
