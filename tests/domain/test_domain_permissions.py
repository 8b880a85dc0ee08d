"""Who may do what: every rule of spec/requests.md, "Authorisation", without a registry."""

import pytest

from gobblerd.domain.errors import Forbidden
from gobblerd.domain.names import Address
from gobblerd.domain.permissions import (
    NOBODY,
    Caller,
    Permissions,
    PermissionsChange,
    Rights,
    SpoofingRule,
    Uploader,
    UploadRight,
    require_spoofing,
    upload_right,
)
from gobblerd.domain.times import parse_time

NOW = parse_time("2026-01-01T00:00:00Z")
VERSION = Address("p", "a", "v")
TRUSTED = UploadRight(trusted=True, makes_owner=False)
UNTRUSTED = UploadRight(trusted=False, makes_owner=False)
CREATOR = UploadRight(trusted=True, makes_owner=True)


def caller(user: str, *, admin: bool = False) -> Caller:
    return Caller(1000, "requester", user, is_administrator=admin)


def right(user: str, rights: Rights, *, admin: bool = False) -> UploadRight | None:
    try:
        return upload_right(rights, caller(user, admin=admin), VERSION, NOW)
    except Forbidden:
        return None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Uploader("u"), UNTRUSTED),
        (Uploader("u", trusted=False), UNTRUSTED),
        (Uploader("u", trusted=True), TRUSTED),
        (Uploader("v"), None),
        (Uploader("U"), None),
        (Uploader("u", asset="a"), UNTRUSTED),
        (Uploader("u", asset="b"), None),
        (Uploader("u", asset=""), None),
        (Uploader("u", version="v"), UNTRUSTED),
        (Uploader("u", version="w"), None),
        (Uploader("u", until="2026-01-01T00:00:00.000000001Z"), UNTRUSTED),
        (Uploader("u", until="2026-01-01T00:00:00Z"), None),
        (Uploader("u", until="2025-12-31T23:00:00-02:00"), UNTRUSTED),
        (Uploader("u", until="never"), None),
        (Uploader("u", until=""), None),
    ],
)
def test_an_uploader_s_entry(entry: Uploader, expected: UploadRight | None) -> None:
    """Each part that is given must hold; a time that cannot be read matches nobody."""
    assert right("u", Rights(Permissions(uploaders=(entry,)))) == expected


def test_a_refusal_names_user_and_place() -> None:
    """So that a person can act on it."""
    with pytest.raises(Forbidden, match=r'"u".*"v".*"p/a"'):
        upload_right(Rights(NOBODY), caller("u"), VERSION, NOW)


def test_any_trusted_entry_gives_trust() -> None:
    """Among the matching ones, of project and asset."""
    one, other = Uploader("u"), Uploader("u", trusted=True)
    assert right("u", Rights(Permissions(uploaders=(one, other)))) == TRUSTED
    assert right("u", Rights(Permissions(uploaders=(one,)), Permissions(uploaders=(other,)))) == TRUSTED
    expired = Uploader("u", until="2020-01-01T00:00:00Z", trusted=True)
    assert right("u", Rights(Permissions(uploaders=(one, expired)))) == UNTRUSTED


def test_an_asset_s_uploaders() -> None:
    """Their `asset` is ignored, their version is not."""
    assert right("u", Rights(NOBODY, Permissions(uploaders=(Uploader("u", asset="zzz"),)))) == UNTRUSTED
    assert right("u", Rights(NOBODY, Permissions(uploaders=(Uploader("u", version="w"),)))) is None


@pytest.mark.parametrize(
    ("user", "admin", "expected"),
    [
        ("owner", False, TRUSTED),
        ("asset owner", False, TRUSTED),
        ("somebody", True, TRUSTED),
        ("somebody", False, None),
    ],
)
def test_owners_and_administrators(user: str, expected: UploadRight | None, *, admin: bool) -> None:
    """Trusted everywhere in what they own."""
    rights = Rights(Permissions(("owner",)), Permissions(("asset owner",)))
    assert right(user, rights, admin=admin) == expected
    assert rights.owned_by(caller(user, admin=admin)) is (expected is not None)
    if expected is None:
        with pytest.raises(Forbidden, match=r'"somebody" may not approve "p/a"'):
            rights.require_owner(caller(user), Address("p", "a"), "approve")
    else:
        rights.require_owner(caller(user, admin=admin), Address("p", "a"), "approve")


@pytest.mark.parametrize("user", ["owner", "uploader", "stranger"])
def test_global_write(user: str) -> None:
    """Whoever creates an asset owns it; an asset that exists is closed to strangers."""
    project = Permissions(("owner",), (Uploader("uploader"),), global_write=True)
    assert right(user, Rights(project, NOBODY, asset_exists=False)) == CREATOR
    expected = {"owner": TRUSTED, "uploader": UNTRUSTED, "stranger": None}[user]
    assert right(user, Rights(project, NOBODY)) == expected
    closed = Permissions(("owner",), (Uploader("uploader"),), global_write=False)
    assert right(user, Rights(closed, NOBODY, asset_exists=False)) == expected


def test_administrators_only() -> None:
    """The refusal names user and action."""
    caller("a", admin=True).require_administrator("set_quota")
    with pytest.raises(Forbidden, match=r'"u".*set_quota'):
        caller("u").require_administrator("set_quota")


def test_changes() -> None:
    """Each given key replaces, also by nothing; the absent ones stay."""
    old = Permissions(("o",), (Uploader("u"),), global_write=True)
    assert old.updated(PermissionsChange()) == old
    assert old.updated(PermissionsChange(owners=())) == Permissions((), (Uploader("u"),), global_write=True)
    assert old.updated(PermissionsChange(uploaders=())).uploaders == ()
    assert old.updated(PermissionsChange(global_write=False)).global_write is False
    kept = Uploader("u", None, "v", "t", trusted=True)
    entry = Uploader("u", "a", "v", "t", trusted=True)
    assert Permissions((), (entry,), global_write=True).at_asset_level() == Permissions((), (kept,))


@pytest.mark.parametrize(
    ("requester", "user", "allowed"),
    [
        ("robot", "alice", True),
        ("robot", "bob", False),
        ("robot", "robot", False),
        ("any", "alice", True),
        ("any", "any", True),
        ("any", "nobody knows", True),
        ("any", "boss", False),
        ("alice", "alice", False),
        ("*", "alice", False),
    ],
)
def test_spoofing(requester: str, user: str, *, allowed: bool) -> None:
    """Only the rules count; oneself must be listed too; `*` is anyone less the exceptions."""
    rules = {
        "robot": SpoofingRule(frozenset({"alice"})),
        "any": SpoofingRule(anyone=True, but=frozenset({"boss"})),
    }
    if allowed:
        require_spoofing(rules, requester, user)
    else:
        with pytest.raises(Forbidden, match="may not act as"):
            require_spoofing(rules, requester, user)
