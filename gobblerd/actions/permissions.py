"""`set_permissions`, and the permission documents that requests carry."""

from typing import Annotated

from pydantic import AfterValidator

from gobblerd.actions.action import AssetName, Context, Document, NewAsset, ProjectName, Spoofable
from gobblerd.domain.errors import Plain, Wrong
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address
from gobblerd.domain.permissions import PermissionsChange, Uploader
from gobblerd.domain.times import parse_time
from gobblerd.registry import documents, layout
from gobblerd.registry.places import Place
from gobblerd.storage.files import sync_directory


def _check_time(text: str) -> str:
    try:
        parse_time(text)
    except ValueError as error:
        raise Wrong("until: {text} is no time: {error}", text=text, error=Plain(error)) from None
    return text


class UploaderDocument(Document):
    """One entry of `uploaders`; `until` is stored as given."""

    id: str
    asset: AssetName | None = None
    version: str | None = None
    until: Annotated[str, AfterValidator(_check_time)] | None = None
    trusted: bool | None = None

    def value(self) -> Uploader:
        """Return the domain's value."""
        return Uploader(self.id, self.asset, self.version, self.until, self.trusted)


class PermissionsDocument(Document):
    """The `permissions` of a request: absent keys stay as they are."""

    owners: list[str] | None = None
    uploaders: list[UploaderDocument] | None = None
    global_write: bool | None = None

    def value(self) -> PermissionsChange:
        """Return the domain's value."""
        return PermissionsChange(
            None if self.owners is None else tuple(self.owners),
            None if self.uploaders is None else tuple(uploader.value() for uploader in self.uploaders),
            self.global_write,
        )


class SetPermissions(Spoofable):
    """Each given key replaces the stored one; with `asset`, at the level of the asset."""

    name = "set_permissions"

    project: ProjectName
    asset: NewAsset | None = None
    permissions: PermissionsDocument

    def perform(self, context: Context) -> Outcome:
        """Change the permissions of the project or the asset."""
        return (
            self._change_project(context) if self.asset is None else self._change_asset(context, self.asset)
        )

    def _change_project(self, context: Context) -> Outcome:
        place = Address(self.project)
        with context.changing(place, context.owners(place, "change the permissions of")) as project:
            changed = project.rights.project.updated(self.permissions.value())
            path = layout.in_place(place, layout.PERMISSIONS)
            project.transaction.put(path, documents.permissions_bytes(changed))
            return project.commit(Outcome())

    def _change_asset(self, context: Context, asset_name: str) -> Outcome:
        place = Address(self.project, asset_name)
        allow = context.owners(place, "change the permissions of")
        with (
            context.transaction() as transaction,
            context.registry.adding(place, transaction, allow) as asset,
        ):
            changed = asset.rights.asset.updated(self.permissions.value()).at_asset_level()
            self._put(asset, documents.permissions_bytes(changed))
            return asset.commit(Outcome())

    def _put(self, asset: Place, data: bytes) -> None:
        if asset.rights.asset_exists:
            asset.transaction.put(layout.in_place(asset.address, layout.PERMISSIONS), data)
        else:
            directory = asset.stage_asset()
            asset.transaction.write_staged(layout.join(directory, layout.PERMISSIONS), data)
            if asset.transaction.disk.syncs_names:
                sync_directory(directory)
