"""`upload`: a directory or an archive file in staging becomes a version.

Bytes are read and written without any lock on the registry; the commit takes the locks, looks again at what
was assumed (version absent, permission, link targets, quota), and where a duplicate's version is gone by
then, lets go, copies what is missing, and tries again.
"""

import functools
import os
import pwd
from typing import Annotated

from pydantic import AfterValidator, Field

from gobblerd.actions.action import Context, NewAsset, NewVersion, ProjectName, Spoofable
from gobblerd.archive.offers import Offer, Wishes, opened_offer
from gobblerd.domain.errors import Busy, Wrong
from gobblerd.domain.events import Event
from gobblerd.domain.manifest import stored_bytes
from gobblerd.domain.messages import Outcome
from gobblerd.domain.names import Address, is_internal
from gobblerd.domain.permissions import NOBODY, Permissions, Rights, UploadRight, upload_right
from gobblerd.domain.times import format_time, year_of
from gobblerd.domain.usage import Quota, check_quota
from gobblerd.domain.version import Latest, Summary, finish_time
from gobblerd.registry import documents, layout
from gobblerd.registry.consume import consume, listing_bytes
from gobblerd.registry.ingest import Ingest, Staged
from gobblerd.registry.neighbours import Candidates, GoneError, Neighbours
from gobblerd.registry.places import Place
from gobblerd.registry.record import Consume
from gobblerd.registry.registry import absent
from gobblerd.registry.source import Limits, Reader, Survey
from gobblerd.registry.symlinks import Surroundings
from gobblerd.registry.transaction import Transaction
from gobblerd.storage.files import rename, sync_directory
from gobblerd.storage.sync import TreeSync

_TRIES = 10
_PATH_MAX = 4095  # bytes of an absolute path, without its end
_RESPONSES = "responses"
_NOWHERE = Surroundings((), (), ())


def _check_source(name: str) -> str:
    if not name or "/" in name or "\0" in name or name == "." or is_internal(name) or name == _RESPONSES:
        raise Wrong(
            "source: {name} is not the name of a directory or archive directly inside the staging directory",
            name=name,
        )
    return name


class Upload(Spoofable):
    """A new version of a new or existing asset."""

    name = "upload"
    is_long = True

    project: ProjectName
    asset: NewAsset
    version: NewVersion
    source: Annotated[str, AfterValidator(_check_source)]
    on_probation: bool | None = None
    ignore_dot: bool | None = None
    consume: bool | None = None
    strip: Annotated[int, Field(ge=0, le=1)] | None = None

    @property
    def place(self) -> Address:
        """The version to be."""
        return Address(self.project, self.asset, self.version)

    def perform(self, context: Context) -> Outcome:
        """Stage the version unlocked, then commit it."""
        reader = Reader(context.caller.uid, _GroupsOf(context.caller.uid))
        offered = opened_offer(context.staging_fd, self.source, reader)
        with offered as offer, context.transaction() as transaction:
            rights = _rights(context, self.place)
            self.admit(context, rights)
            return _Work(self, context, offer, transaction, rights).run()

    def admit(self, context: Context, rights: Rights) -> UploadRight:
        """Return the caller's right to this upload; Forbidden without one, Wrong if the place is taken."""
        right = upload_right(rights, context.caller, self.place, context.registry.clock.now())
        if rights.asset_exists and context.registry.metadata.has(self.place):
            raise Wrong(
                "version {version} exists already in {asset}",
                version=self.version,
                asset=str(self.place.of_asset()),
            )
        context.registry.require_room(self.place if rights.asset_exists else self.place.of_asset())
        return right


class _Work:
    """One upload under way."""

    def __init__(
        self, upload: Upload, context: Context, offer: Offer, transaction: Transaction, rights: Rights
    ) -> None:
        self._upload = upload
        self._place = upload.place
        self._context = context
        self._offer = offer
        self._transaction = transaction
        self._metadata = context.registry.metadata
        self._started = context.registry.clock.now()
        self._neighbours = Neighbours(self._metadata)
        self._rights = rights  # as they were before anything was read

    def run(self) -> Outcome:
        """Stage, commit, and consume what was stored if that was asked for."""
        candidates = self._candidates()
        slot, path = self._transaction.new_slot()
        with TreeSync(self._transaction.disk, path) as sync:
            files = self._offer.files(self._wishes(), path, candidates)
            ingest = Ingest(self._place, files, self._neighbours, self._surroundings(files.survey))
            self._check_quota(ingest.surely_stored(candidates))
            staged = ingest.stage(path, candidates, sync)
            self._offer.check(staged.manifest)
            outcome = self._commit(ingest, staged, slot, sync)
        self._context.taken(len(staged.manifest), stored_bytes(staged.manifest))
        if self._upload.consume:
            self._transaction.endure()  # a source is the only copy until then
            found = self._offer.consumable(staged)
            consume(found.fd, found.stored)
        return outcome

    def _wishes(self) -> Wishes:
        upload, context = self._upload, self._context
        ignore_dot = bool(upload.ignore_dot)
        is_durable = self._transaction.disk.is_durable
        return Wishes(
            self._limits(), context.progress, self._check_quota, ignore_dot, upload.strip, is_durable
        )

    def _limits(self) -> Limits:
        """Return the configured limits, less where the system could not address what they allow."""
        limits = self._context.policy.limits
        staged, place = f"{self._transaction.directory}/1", self._metadata.path(str(self._place))
        above = max(len(os.fsencode(staged)), len(os.fsencode(place)))
        room = _PATH_MAX - above - len(f"/{layout.CHECKSUMS}")
        return Limits(limits.files, limits.size, limits.depth, min(limits.path or room, room))

    def _surroundings(self, survey: Survey) -> Surroundings:
        if not survey.symlinks:  # then nobody asks, and finding out takes a look at every directory above
            return _NOWHERE
        context = self._context
        return self._offer.surroundings(
            context.staging, context.registry.root, tuple(context.policy.whitelist)
        )

    def _candidates(self) -> Candidates:
        asset = self._place.of_asset()
        latest = self._metadata.latest(asset) if self._rights.asset_exists else None
        version = asset.child(latest.version) if latest else None
        return Candidates(self._context.registry.root, version, self._neighbours)

    def _check_quota(self, adding: int) -> None:
        """Raise Exceeded if the upload would take the project over its quota, where that is enforced."""
        quota = self._quota()
        if quota is not None:
            limit = quota.limit(year_of(self._context.registry.clock.now()))
            used = self._metadata.usage(self._place.project).total
            check_quota(self._place.project, used, adding, limit)

    def _quota(self) -> Quota | None:
        return self._metadata.quota(self._place.project) if self._context.policy.enforce_quota else None

    # -- commit ----------------------------------------------------------------------------------------

    def _commit(self, ingest: Ingest, staged: Staged, slot: str, sync: TreeSync) -> Outcome:
        for _ in range(_TRIES):
            try:
                return self._commit_once(staged, slot)
            except GoneError as gone:
                ingest.restage(staged, gone.versions, sync)
        raise Busy(
            "the versions that {version} links to kept changing; drop a new request", version=str(self._place)
        )

    def _commit_once(self, staged: Staged, slot: str) -> Outcome:
        """Look again at what was assumed, now under the locks, and commit; GoneError before any change."""
        place = self._place
        with self._context.registry.adding(place.of_asset(), self._transaction) as asset:
            right = self._upload.admit(self._context, asset.rights)
            self._neighbours.check(staged.linked_versions(place))
            on_probation = bool(self._upload.on_probation) or not right.trusted
            self._write_summary(asset, staged, on_probation=on_probation)
            latest = None if on_probation else Latest(place.version)
            self._plan(asset, staged, slot, right, latest)
            size = stored_bytes(staged.manifest)
            asset.transaction.add_usage(place.project, size)
            if latest is not None:
                asset.log(Event("add-version", place, latest=True))
            if self._quota() is not None:
                asset.take_usage_lock()
                self._check_quota(size)
            return asset.commit(Outcome())

    def _write_summary(self, asset: Place, staged: Staged, *, on_probation: bool) -> None:
        latest = asset.latest() if asset.rights.asset_exists else None
        before = asset.metadata.readable_summary(asset.asset.child(latest.version)) if latest else None
        finish = finish_time(max(self._started, self._context.registry.clock.now()), before)
        user = self._context.caller.user
        summary = Summary(user, format_time(self._started), format_time(finish), on_probation)
        path = layout.join(staged.path, layout.SUMMARY)
        asset.transaction.write_staged(path, documents.summary_bytes(summary))
        if asset.transaction.disk.syncs_names:
            sync_directory(staged.path)

    def _plan(
        self, asset: Place, staged: Staged, slot: str, right: UploadRight, latest: Latest | None
    ) -> None:
        """Plan the version to appear, within its asset if that is new too, and what is to be consumed."""
        if asset.rights.asset_exists:
            asset.transaction.install(slot, str(self._place), fresh=True)
            if latest is not None:
                asset.point_latest(latest)
        else:
            self._plan_asset(asset, staged, right, latest)
        if self._upload.consume:
            found = self._offer.consumable(staged)
            listing = asset.transaction.stage_file(listing_bytes(found.stored))
            asset.transaction.plan.consume = Consume(found.name, found.inode, listing)

    def _plan_asset(self, asset: Place, staged: Staged, right: UploadRight, latest: Latest | None) -> None:
        directory = asset.stage_asset()
        rename(staged.path, layout.join(directory, self._place.version))
        if latest is not None:
            path = layout.join(directory, layout.LATEST)
            asset.transaction.write_staged(path, documents.latest_bytes(latest))
        if right.makes_owner:
            owned = Permissions(owners=(self._context.caller.user,))
            path = layout.join(directory, layout.PERMISSIONS)
            asset.transaction.write_staged(path, documents.permissions_bytes(owned))
        if asset.transaction.disk.syncs_names:
            sync_directory(directory)


def _rights(context: Context, version: Address) -> Rights:
    """Look at who may upload, without locks; the commit looks again."""
    metadata, project, asset = context.registry.metadata, version.of_project(), version.of_asset()
    context.registry.check_marker()
    if not metadata.has(project):
        raise absent(project)
    permissions = metadata.permissions(project)
    if not metadata.has(asset):
        return Rights(permissions, NOBODY, asset_exists=False)
    return Rights(permissions, metadata.permissions(asset))


class _GroupsOf:
    """The groups of a user, looked up when they are asked for: most files of a source are the user's own."""

    def __init__(self, uid: int) -> None:
        self._uid = uid

    def __contains__(self, group: object) -> bool:
        return group in self._known

    @functools.cached_property
    def _known(self) -> frozenset[int]:
        """The groups; none where the user database does not know the user."""
        try:
            entry = pwd.getpwuid(self._uid)
        except KeyError:
            return frozenset()
        return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
