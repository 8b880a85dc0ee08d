"""Who may do what: every row of the actions table, with every role, may and may not.

A refusal is 403, names who asked, and changes nothing.
"""

import json
import os
from typing import Any

import pytest
from support.checker import assert_clean
from support.daemon import StartDaemon, address
from support.places import Symlink, Users
from support.stage import ADMINISTRATORS, FUTURE, PAST, Stage, set_stage

# Row -> action, document ("P" stands for the project, SOURCE for an upload), who may.
OWNERS = ADMINISTRATORS | {"owner"}
ASSET_OWNERS = OWNERS | {"asset owner"}
TRIAL = address("P/a/trial")
ROWS: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "create_project": ("create_project", {"project": "NEW"}, ADMINISTRATORS),
    "upload": ("upload", {**address("P/a/2"), "source": "SOURCE"}, ASSET_OWNERS | {"trusted", "untrusted"}),
    "upload a new asset": (
        "upload",
        {**address("P/new/2"), "source": "SOURCE"},
        OWNERS | {"trusted", "untrusted"},
    ),
    "upload, entry's asset": (
        "upload",
        {**address("P/other/2"), "source": "SOURCE"},
        OWNERS | {"trusted", "untrusted", "of another asset"},
    ),
    "upload, entry's version": (
        "upload",
        {**address("P/a/other"), "source": "SOURCE"},
        ASSET_OWNERS | {"trusted", "untrusted", "of another version"},
    ),
    "set_permissions": ("set_permissions", {"project": "P", "permissions": {"owners": ["x"]}}, OWNERS),
    "set_permissions of an asset": (
        "set_permissions",
        {**address("P/a"), "permissions": {"owners": ["x"]}},
        ASSET_OWNERS,
    ),
    "set_permissions of a new asset": (
        "set_permissions",
        {**address("P/new"), "permissions": {"owners": ["x"]}},
        OWNERS,
    ),
    "approve_probation": ("approve_probation", TRIAL, ASSET_OWNERS),
    "reject_probation": ("reject_probation", TRIAL, ASSET_OWNERS | {"untrusted"}),
    "reject_probation with force": (
        "reject_probation",
        {**TRIAL, "force": True},
        ASSET_OWNERS | {"untrusted"},
    ),
    "refresh_usage": ("refresh_usage", {"project": "P"}, ADMINISTRATORS),
    "refresh_latest": ("refresh_latest", address("P/a"), ADMINISTRATORS),
    "reindex_version": ("reindex_version", address("P/a/1"), ADMINISTRATORS),
    "validate_version": ("validate_version", address("P/a/1"), ADMINISTRATORS),
    "delete_version": ("delete_version", address("P/a/1"), ADMINISTRATORS),
    "delete_asset": ("delete_asset", address("P/a"), ADMINISTRATORS),
    "delete_project": ("delete_project", {"project": "P"}, ADMINISTRATORS),
    "reroute_links": ("reroute_links", {"to_delete": [{"project": "P"}]}, ADMINISTRATORS),
    "reroute_links, dry": (
        "reroute_links",
        {"to_delete": [{"project": "P"}], "dry_run": True},
        ADMINISTRATORS,
    ),
    "set_quota": ("set_quota", {"project": "P", "baseline": 1}, ADMINISTRATORS),
}
ROLES = (
    "administrator",
    "second administrator",
    "owner",
    "asset owner",
    "trusted",
    "untrusted",
    "expired",
    "of another asset",
    "of another version",
    "stranger",
)
MAY = [(row, role) for row, (_, _, who) in ROWS.items() for role in ROLES if role in who]
MAY_NOT = [(row, role) for row, (_, _, who) in ROWS.items() for role in ROLES if role not in who]


@pytest.fixture(scope="module")
def stage(start_module_daemon: StartDaemon, users: Users) -> Stage:
    return set_stage(start_module_daemon, users)


@pytest.fixture(scope="module")
def untouched(stage: Stage) -> str:
    """A project for what must be refused: nothing ever changes in it."""
    return stage.project()


def filled(stage: Stage, document: dict[str, Any], project: str, role: str) -> dict[str, Any]:
    """Put real names for the placeholders of a row's document."""
    words = {"P": project, "NEW": stage.new_name()}
    if "source" in document:
        words["SOURCE"] = stage.daemon.source({"f": b"uploaded\n"}, stage.roles[role])
    return json.loads(
        json.dumps(document), object_hook=lambda d: {k: words.get(str(v), v) for k, v in d.items()}
    )


@pytest.mark.parametrize(("row", "role"), MAY)
def test_may(stage: Stage, row: str, role: str) -> None:
    """Who may, can."""
    action, document, _ = ROWS[row]
    answer = stage.ask(role, action, filled(stage, document, stage.project(), role))
    assert answer.code == 200, answer
    assert answer.body["status"] == "SUCCESS"


@pytest.mark.parametrize(("row", "role"), MAY_NOT)
def test_may_not(stage: Stage, untouched: str, row: str, role: str) -> None:
    """Who may not is told so with 403 and by name, and nothing changes."""
    action, document, _ = ROWS[row]
    before = stage.state(untouched)
    answer = stage.ask(role, action, filled(stage, document, untouched, role))
    assert answer.code == 403, answer
    assert set(answer.body) == {"status", "reason"}
    assert stage.name(role) in answer.reason
    assert stage.state(untouched) == before


@pytest.mark.parametrize("role", ROLES)
def test_anyone_may_ask_for_health(stage: Stage, role: str) -> None:
    """A health_check is for anyone."""
    assert stage.ask(role, "health_check", {}).body == {"status": "SUCCESS"}


# ---- trust


@pytest.mark.parametrize(
    ("role", "place", "trusted"),
    [
        ("administrator", "a/2", True),
        ("owner", "a/2", True),
        ("asset owner", "a/2", True),
        ("trusted", "a/2", True),
        ("untrusted", "a/2", False),
        ("of another asset", "other/2", True),
        ("of another version", "a/other", True),
    ],
)
def test_untrusted_uploads_are_on_probation(stage: Stage, role: str, place: str, trusted: bool) -> None:  # noqa: FBT001 - a column of the table
    """An upload is on probation exactly if its uploader is not trusted; a trusted one may ask for it."""
    project = stage.project()
    assert stage.upload(role, f"{project}/{place}", on_probation=False).code == 200
    summary = stage.daemon.read(project, place, "..summary")
    assert summary.get("on_probation", False) is not trusted
    assert summary["upload_user_id"] == stage.name(role)
    latest = stage.daemon.read(project, os.path.dirname(place), "..latest")
    assert (latest == {"version": os.path.basename(place)}) is trusted

    assert stage.upload(role, f"{project}/{place}-asked", on_probation=True).code in (
        {200} if role != "of another version" else {403}
    )
    if role != "of another version":
        assert stage.daemon.read(project, f"{place}-asked", "..summary")["on_probation"] is True


def test_any_matching_entry_gives_trust(stage: Stage) -> None:
    """Of several entries that match, one trusted one is enough; those that do not match do not count."""
    who = stage.name("stranger")
    entries = [
        {"id": who},
        {"id": who, "asset": "a", "version": "good", "trusted": True},
        {"id": who, "until": PAST, "trusted": True},
    ]
    project = stage.project(uploaders=entries)
    for version, on_probation in (("good", None), ("other", True)):
        assert stage.upload("stranger", f"{project}/a/{version}").code == 200
        assert stage.daemon.read(project, "a", version, "..summary").get("on_probation") is on_probation


def test_a_stored_time_that_cannot_be_read_matches_nobody(stage: Stage) -> None:
    """An `until` that some other program wrote badly does not let anybody in."""
    who = stage.name("stranger")
    project = stage.project(uploaders=[{"id": who, "until": FUTURE}])
    assert stage.upload("stranger", f"{project}/a/before").code == 200
    path = stage.daemon.path(project, "..permissions")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(FUTURE, "tomorrow"))
    assert stage.upload("stranger", f"{project}/a/after").code == 403


def test_an_asset_s_uploaders(stage: Stage) -> None:
    """Entries of an asset count in that asset only, whatever `asset` they name."""
    project = stage.project()
    entry = {"id": stage.name("stranger"), "asset": "elsewhere", "trusted": True}
    document = {**address(f"{project}/a"), "permissions": {"uploaders": [entry]}}
    assert stage.ask("asset owner", "set_permissions", document).code == 200
    stored = stage.daemon.read(project, "a", "..permissions")
    assert stored["uploaders"] == [{"id": stage.name("stranger"), "trusted": True}]
    assert stage.upload("stranger", f"{project}/a/2").code == 200
    assert stage.upload("stranger", f"{project}/elsewhere/2").code == 403
    assert "on_probation" not in stage.daemon.read(project, "a", "2", "..summary")


def test_only_the_uploader_may_reject_their_own(stage: Stage) -> None:
    """An uploader may take back their own probational version, not another's, and may approve none."""
    project = stage.project()
    assert stage.upload("trusted", f"{project}/a/theirs", on_probation=True).code == 200
    place = address(f"{project}/a/theirs")
    assert stage.ask("untrusted", "reject_probation", place).code == 403
    assert stage.ask("trusted", "approve_probation", place).code == 403
    assert stage.ask("trusted", "reject_probation", place).code == 200


# ---- global_write


@pytest.mark.parametrize("role", ["stranger", "owner", "untrusted", "administrator"])
@pytest.mark.parametrize("on_probation", [False, True])
def test_global_write_makes_an_owner(stage: Stage, role: str, on_probation: bool) -> None:  # noqa: FBT001 - a column of the table
    """Whoever's upload creates an asset owns it, and is trusted; another stranger is kept out of it."""
    project = stage.project(global_write=True)
    assert stage.upload(role, f"{project}/mine/1", on_probation=on_probation).code == 200
    owned = {"owners": [stage.name(role)], "uploaders": []}
    assert stage.daemon.read(project, "mine", "..permissions") == owned
    summary = stage.daemon.read(project, "mine", "1", "..summary")
    assert summary.get("on_probation", False) is on_probation
    assert stage.upload("expired", f"{project}/mine/2").code == 403
    assert stage.upload("stranger", f"{project}/a/2").code == 403, "an existing asset is closed"


def test_a_failed_upload_squats_no_asset(stage: Stage) -> None:
    """After a refused first upload the asset's name is free, for the next stranger to own."""
    project = stage.project(global_write=True)
    assert stage.upload("stranger", f"{project}/mine/1", {"bad": Symlink("/etc/passwd")}).code == 400
    assert not os.path.exists(stage.daemon.path(project, "mine"))
    assert stage.upload("expired", f"{project}/mine/1").code == 200
    assert stage.daemon.read(project, "mine", "..permissions")["owners"] == [stage.name("expired")]


# ---- spoofing


def test_spoofing_is_ruled_by_the_rules_alone(stage: Stage) -> None:
    """Listed users can be acted as; administrators and oneself must be listed too; `*` means all but the excepted."""
    for role, user, allowed in (
        ("spoofer", "owner", True),
        ("spoofer", "asset owner", False),
        ("spoofer", "administrator", False),
        ("spoofer", "spoofer", False),
        ("administrator", "owner", False),
        ("owner", "owner", False),
        ("stranger", "owner", False),
        ("spoofer of anyone", "owner", True),
        ("spoofer of anyone", "second administrator", True),
        ("spoofer of anyone", "administrator", False),
    ):
        place = address(f"{stage.project()}/a/trial")
        answer = stage.ask(role, "approve_probation", {**place, "spoof": stage.name(user)})
        assert answer.code == (200 if allowed else 403), (role, user, answer)
        if not allowed:
            assert stage.name(user) in answer.reason


def test_spoofing_somebody_unknown(stage: Stage) -> None:
    """`*` includes names that no account has; what they may do is then the project's business."""
    project = stage.project(owners=["nobody-has-this-name"])
    place = {**address(f"{project}/a/trial"), "spoof": "nobody-has-this-name"}
    assert stage.ask("spoofer of anyone", "approve_probation", place).code == 200


@pytest.mark.parametrize("action", ["upload", "set_permissions", "approve_probation", "reject_probation"])
def test_each_action_that_can_be_spoofed(stage: Stage, action: str) -> None:
    """The four actions with `spoof` are performed with the rights of the spoofed user, not the requester's."""
    project = stage.project()
    document: dict[str, Any] = {**address(f"{project}/a/trial"), "spoof": stage.name("owner")}
    if action == "upload":
        source = stage.daemon.source({"f": b"1"}, stage.roles["spoofer"])
        document |= {"version": "2", "source": source}
    if action == "set_permissions":
        document |= {"permissions": {"owners": []}}
    assert stage.ask("spoofer", action, {**document, "spoof": stage.name("untrusted")}).code in (
        {200} if action in {"upload", "reject_probation"} else {403}
    )
    if action == "upload":
        assert stage.daemon.read(project, "a", "2", "..summary") | {
            "upload_start": "",
            "upload_finish": "",
        } == {
            "upload_user_id": stage.name("untrusted"),
            "upload_start": "",
            "upload_finish": "",
            "on_probation": True,
        }
    elif action != "reject_probation":
        assert stage.ask("spoofer", action, document).code == 200


def test_the_source_belongs_to_the_requester(stage: Stage) -> None:
    """One who acts as another uploads files of their own, never the other's."""
    project = stage.project()
    theirs = stage.daemon.source({"f": b"theirs\n"}, stage.roles["owner"])
    document = {**address(f"{project}/a/2"), "source": theirs, "spoof": stage.name("owner")}
    answer = stage.ask("spoofer", "upload", document)
    assert answer.code == 403
    assert theirs in answer.reason
    assert not os.path.exists(stage.daemon.path(project, "a", "2"))


def test_the_registry_is_clean(stage: Stage) -> None:
    """After all of it, nothing is left that should not be there."""
    assert_clean(stage.daemon.registry)
