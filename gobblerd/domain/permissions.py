"""Who may do what (spec/requests.md, "Authorisation"; spec/details.md, "Permissions and probation").

Every rule is here; the files that hold the permissions are read elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gobblerd.domain.errors import Forbidden, Plain
from gobblerd.domain.names import Address
from gobblerd.domain.times import parse_time


@dataclass(frozen=True, slots=True)
class Uploader:
    """One entry of `uploaders`; None where the document has no such key."""

    id: str
    asset: str | None = None
    version: str | None = None
    until: str | None = None
    trusted: bool | None = None

    def matches(self, user: str, version: str, now: int) -> bool:
        """Tell whether the entry covers an upload of `version` by `user` at `now` (nanoseconds)."""
        return self.id == user and self.version in {None, version} and self._holds_at(now)

    def _holds_at(self, now: int) -> bool:
        if self.until is None:
            return True
        try:
            return parse_time(self.until) > now
        except ValueError:  # a stored time that cannot be read matches nobody
            return False


@dataclass(frozen=True, slots=True)
class Permissions:
    """A `..permissions` document; `global_write` is None where absent, and always at asset level."""

    owners: tuple[str, ...] = ()
    uploaders: tuple[Uploader, ...] = ()
    global_write: bool | None = None

    def updated(self, change: "PermissionsChange") -> "Permissions":
        """Return these permissions with each given key replaced and the absent ones kept."""
        return Permissions(
            self.owners if change.owners is None else change.owners,
            self.uploaders if change.uploaders is None else change.uploaders,
            self.global_write if change.global_write is None else change.global_write,
        )

    def at_asset_level(self) -> "Permissions":
        """Return what an asset's document keeps: no `global_write`, no `asset` in its uploaders."""
        return Permissions(self.owners, tuple(replace(u, asset=None) for u in self.uploaders))


@dataclass(frozen=True, slots=True)
class PermissionsChange:
    """The `permissions` of a request: None for each key that was not given."""

    owners: tuple[str, ...] | None = None
    uploaders: tuple[Uploader, ...] | None = None
    global_write: bool | None = None


NOBODY = Permissions()


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a request is performed.

    `uid` and `requester` are those of the request file's owner, whose rights count for reading the
    source; `user` is who counts for everything else: the requester, or whom they act as (`spoof`).
    """

    uid: int
    requester: str
    user: str
    is_administrator: bool

    def require_administrator(self, action: str) -> None:
        """Raise Forbidden unless the caller is an administrator."""
        if not self.is_administrator:
            raise Forbidden(
                "user {user} is not an administrator, and {action} is for administrators only",
                user=self.user,
                action=Plain(action),
            )


@dataclass(frozen=True, slots=True)
class Rights:
    """The permissions that hold at a place: the project's, and the asset's where there are any."""

    project: Permissions
    asset: Permissions = NOBODY
    asset_exists: bool = True

    def owned_by(self, caller: Caller) -> bool:
        """Tell whether the caller owns the project or the asset, or administers the registry."""
        return (
            caller.is_administrator or caller.user in self.project.owners or caller.user in self.asset.owners
        )

    def require_owner(self, caller: Caller, place: Address, doing: str) -> None:
        """Raise Forbidden unless the caller owns the place; `doing` completes "may not ..."."""
        if not self.owned_by(caller):
            raise Forbidden(
                "user {user} may not {doing} {place}: only its owners and administrators may",
                user=caller.user,
                doing=Plain(doing),
                place=str(place),
            )


@dataclass(frozen=True, slots=True)
class UploadRight:
    """How an upload may happen: untrusted ones are forced on probation; some create an owned asset."""

    trusted: bool
    makes_owner: bool


def upload_right(rights: Rights, caller: Caller, version: Address, now: int) -> UploadRight:
    """Return the caller's right to upload `version` at `now` (nanoseconds); Forbidden if there is none."""
    if rights.project.global_write and not rights.asset_exists:
        return UploadRight(trusted=True, makes_owner=True)
    if rights.owned_by(caller):
        return UploadRight(trusted=True, makes_owner=False)
    entries = [u for u in rights.project.uploaders if u.asset in {None, version.asset}]
    matching = [
        u for u in (*entries, *rights.asset.uploaders) if u.matches(caller.user, version.version, now)
    ]
    if not matching:
        raise Forbidden(
            "user {user} may not upload version {version} of {asset}: no entry of the owners or uploaders "
            "of the project or the asset covers it",
            user=caller.user,
            version=version.version,
            asset=str(version.of_asset()),
        )
    return UploadRight(trusted=any(u.trusted for u in matching), makes_owner=False)


@dataclass(frozen=True, slots=True)
class SpoofingRule:
    """Whom one spoofer may act as: the listed users, or with `anyone` all less the `but` ones."""

    users: frozenset[str] = frozenset()
    anyone: bool = False
    but: frozenset[str] = frozenset()

    def allows(self, user: str) -> bool:
        """Tell whether the rule lets its spoofer act as `user`."""
        return user not in self.but if self.anyone else user in self.users


def require_spoofing(rules: Mapping[str, SpoofingRule], requester: str, user: str) -> None:
    """Raise Forbidden unless the rules let `requester` act as `user`; administrators need a rule too."""
    rule = rules.get(requester)
    if rule is None or not rule.allows(user):
        raise Forbidden(
            "user {requester} may not act as {user}: the spoofing rules do not list it",
            requester=requester,
            user=user,
        )
