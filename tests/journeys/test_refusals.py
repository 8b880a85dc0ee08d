"""What is well-formed and allowed, but cannot be done: its code, what its reason names, and which of several
faults is told first (spec/details.md, "Order when several things are wrong").
"""

import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from support.checker import assert_clean
from support.daemon import StartDaemon, address
from support.places import Symlink, Tree, Users, drop_request, give_to, read_tree, request_name
from support.stage import Stage, set_stage

ABSENT = "no-such-thing"


@pytest.fixture(scope="module")
def stage(start_module_daemon: StartDaemon, users: Users) -> Stage:
    return set_stage(start_module_daemon, users, quota_enforced=True)


@pytest.fixture(scope="module")
def project(stage: Stage) -> str:
    return stage.project()


def require_refusal(
    stage: Stage, project: str, role: str, action: str, document: Any, code: int, *names: str
) -> None:
    """Ask for what must be refused: with this code, naming each of these, changing nothing."""
    before = stage.state(project)
    answer = stage.ask(role, action, document)
    assert answer.code == code, answer
    assert set(answer.body) <= {"status", "reason", "problems"}
    for name in names:
        assert name in answer.reason, answer.reason
    assert "/etc" not in answer.reason, "a reason names no path outside staging and registry"
    assert stage.state(project) == before


# ---- 404

PLACES = {
    "refresh_usage": ["project"],
    "refresh_latest": ["project", "asset"],
    "reindex_version": ["project", "asset", "version"],
    "validate_version": ["project", "asset", "version"],
    "approve_probation": ["project", "asset", "version"],
    "reject_probation": ["project", "asset", "version"],
    "set_permissions": ["project"],
    "set_quota": ["project"],
}
GONE = [(action, level) for action, levels in PLACES.items() for level in levels]


@pytest.mark.parametrize(("action", "level"), GONE)
def test_what_is_not_there(stage: Stage, project: str, action: str, level: str) -> None:
    """A project, asset or version that does not exist is 404, by name; lower levels are not looked for."""
    place = {**address(f"{project}/a/1"), level: ABSENT}
    keys = PLACES[action]
    document = {key: place[key] for key in keys} | (
        {"permissions": {}} if action == "set_permissions" else {}
    )
    require_refusal(stage, project, "administrator", action, document, 404, ABSENT)


def test_upload_to_a_project_that_is_not_there(stage: Stage, project: str) -> None:
    """An upload makes assets, never projects."""
    source = stage.daemon.source({"f": b"1"})
    document = {**address(f"{ABSENT}/a/1"), "source": source}
    require_refusal(stage, project, "administrator", "upload", document, 404, ABSENT)
    assert not os.path.exists(stage.daemon.path(ABSENT))


@pytest.mark.parametrize("place", [ABSENT, f"P/{ABSENT}", f"P/a/{ABSENT}"])
@pytest.mark.parametrize("force", [False, True])
def test_deleting_what_is_not_there_succeeds(stage: Stage, project: str, place: str, force: bool) -> None:  # noqa: FBT001 - a column of the table
    """Deletion asks for absence, and that is given already; nothing is logged."""
    document = address(place.replace("P", project, 1))
    action = f"delete_{list(document)[-1]}"
    logs = sorted(os.listdir(stage.daemon.path("..logs")))
    assert stage.ask("administrator", action, {**document, "force": force}).code == 200
    assert sorted(os.listdir(stage.daemon.path("..logs"))) == logs


# ---- 400: exists, not on probation


def test_a_project_that_exists(stage: Stage, project: str) -> None:
    """A project is created once."""
    require_refusal(
        stage, project, "administrator", "create_project", {"project": project}, 400, project, "exists"
    )


@pytest.mark.parametrize("version", ["1", "trial"])
def test_a_version_that_exists(stage: Stage, project: str, version: str) -> None:
    """A version is uploaded once, on probation or not; the source stays as it is."""
    source = stage.daemon.source({"f": b"again\n"}, stage.roles["owner"])
    document = {**address(f"{project}/a/{version}"), "source": source, "consume": True}
    require_refusal(stage, project, "owner", "upload", document, 400, version, "exists")
    assert read_tree(os.path.join(stage.daemon.staging, source)) == {"f": b"again\n"}


@pytest.mark.parametrize("action", ["approve_probation", "reject_probation"])
@pytest.mark.parametrize("force", [False, True])
def test_a_version_that_is_not_on_probation(stage: Stage, project: str, action: str, force: bool) -> None:  # noqa: FBT001 - a column of the table
    """What is accepted can neither be approved again nor rejected, by `force` neither."""
    document = {**address(f"{project}/a/1"), "force": force}
    require_refusal(stage, project, "owner", action, document, 400, "1", "probation")


# ---- sources

Make = Callable[[str], None]


class Bad(NamedTuple):
    """A source whose content is refused: what is in it, what else is done to it, what the reason names."""

    tree: Tree
    names: str
    make: Make = lambda _: None


def bind_socket(path: str) -> None:
    here = os.getcwd()
    os.chdir(path)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("sock")
    finally:
        os.chdir(here)


def secret(path: str) -> None:
    os.chown(os.path.join(path, "secret"), 0, 0)
    os.chmod(os.path.join(path, "secret"), 0o600)


def hard_link(path: str) -> None:
    with open(f"{path}-other", "wb") as file:
        file.write(b"another's\n")
    os.chmod(f"{path}-other", 0o600)
    os.link(f"{path}-other", os.path.join(path, "linked"))


def not_utf8(path: str) -> None:
    with open(os.path.join(path.encode(), b"caf\xe9"), "wb") as file:
        file.write(b"1")


BAD: dict[str, Bad] = {
    "link to a file outside": Bad({"d/bad": Symlink("/etc/passwd")}, "d/bad"),
    "link to a directory outside": Bad({"bad": Symlink("/etc")}, "bad"),
    "relative link outside": Bad({"d/bad": Symlink("../../../etc/passwd")}, "d/bad"),
    "link to another's source": Bad({"bad": Symlink("../request-none")}, "bad"),
    "link to the source itself": Bad({"bad": Symlink(".")}, "bad"),
    "link to a local directory": Bad({"d/f": b"1", "bad": Symlink("d")}, "bad"),
    "link through a local directory link": Bad({"d/f": b"1", "bad-d": Symlink("d"), "bad": Symlink("bad-d/f")}, "bad"),
    "dangling": Bad({"bad": Symlink("none")}, "bad"),
    "cycle of one": Bad({"bad": Symlink("bad")}, "bad"),
    "cycle of two": Bad({"bad-1": Symlink("bad-2"), "bad-2": Symlink("bad-1")}, "bad-"),
    "local link to a skipped file": Bad({"..f": b"1", "bad": Symlink("..f")}, "bad"),
    "link to a probational version": Bad({"bad": Symlink("REGISTRY/P/a/trial/t")}, "bad"),
    "link to a manifest": Bad({"bad": Symlink("REGISTRY/P/a/1/..manifest")}, "bad"),
    "link to permissions": Bad({"bad": Symlink("REGISTRY/P/..permissions")}, "bad"),
    "link to a registry directory": Bad({"bad": Symlink("REGISTRY/P/a/1")}, "bad"),
    "link to a directory of a version": Bad({"bad": Symlink("REGISTRY/P/a/1/d")}, "bad"),
    "link to an empty directory of a version": Bad({"bad": Symlink("REGISTRY/P/a/1/none")}, "bad"),
    "link to what is not in the registry": Bad({"bad": Symlink("REGISTRY/P/a/1/zzz")}, "bad"),
    "link out of the registry again": Bad({"bad": Symlink("REGISTRY/P/../../../etc/passwd")}, "bad"),
    "FIFO": Bad({"f": b"1"}, "pipe", lambda path: os.mkfifo(os.path.join(path, "pipe"))),
    "socket": Bad({"f": b"1"}, "sock", bind_socket),
    "device": Bad({"f": b"1"}, "null", lambda path: os.mknod(os.path.join(path, "null"), 0o20666, os.makedev(1, 3))),
    "name that is not UTF-8": Bad({"f": b"1"}, "caf", not_utf8),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_each_kind_of_bad_source(stage: Stage, project: str, bad: Bad) -> None:
    """A source with one bad thing in it is refused by the name of that thing; nothing of it gets in."""
    tree = {
        path: Symlink(c.target.replace("REGISTRY/P", stage.daemon.path(project)))
        if isinstance(c, Symlink)
        else c
        for path, c in bad.tree.items()
    }
    source = stage.daemon.source(tree, stage.roles["owner"])
    path = os.path.join(stage.daemon.staging, source)
    bad.make(path)
    give_to(path, stage.roles["owner"])
    document = {**address(f"{project}/a/2"), "source": source, "consume": True}
    require_refusal(stage, project, "owner", "upload", document, 400, bad.names)
    for name, content in tree.items():
        if isinstance(content, bytes):
            with open(os.path.join(path, name), "rb") as file:
                assert file.read() == content


@pytest.mark.parametrize(("make", "name"), [(secret, "secret"), (hard_link, "linked")])
def test_what_the_requester_could_not_read(stage: Stage, project: str, make: Make, name: str) -> None:
    """The daemon, which could read it, does not read for a user what the user could not."""
    source = stage.daemon.source({"secret": b"root's\n", "f": b"1"}, stage.roles["owner"])
    make(os.path.join(stage.daemon.staging, source))
    document = {**address(f"{project}/a/2"), "source": source}
    require_refusal(stage, project, "owner", "upload", document, 400, name)


def test_what_the_requester_could_read(stage: Stage) -> None:
    """A file of another's that is readable to everyone may be in one's source."""
    project = stage.project()
    source = stage.daemon.source({"shared": b"everyone's\n"}, stage.roles["owner"])
    os.chown(os.path.join(stage.daemon.staging, source, "shared"), 61099, 61099)
    document = {**address(f"{project}/a/2"), "source": source}
    assert stage.ask("owner", "upload", document).code == 200


def test_sources_that_are_none(stage: Stage, project: str) -> None:
    """A source must be a directory directly in staging: not absent, not a link, not any file."""
    staging = stage.daemon.staging
    stage.daemon.source({"f": b"1"}, stage.roles["owner"], "really")
    os.symlink("really", os.path.join(staging, "alias"))
    give_to(os.path.join(staging, "alias"), stage.roles["owner"])
    with open(os.path.join(staging, "plain"), "wb") as file:
        file.write(b"no archive")
    give_to(os.path.join(staging, "plain"), stage.roles["owner"])
    for source in ("nowhere", "alias", "plain"):
        document = {**address(f"{project}/a/2"), "source": source}
        require_refusal(stage, project, "owner", "upload", document, 400, source)


def test_another_s_source(stage: Stage, project: str) -> None:
    """Somebody else's directory is refused with 403, for administrators too."""
    theirs = stage.daemon.source({"f": b"1"}, stage.roles["asset owner"])
    document = {**address(f"{project}/a/2"), "source": theirs}
    for role in ("owner", "administrator"):
        require_refusal(stage, project, role, "upload", document, 403, theirs)


# ---- 413


def test_over_quota(stage: Stage) -> None:
    """An upload that would take the project over its quota is refused; what fits is taken, links are free."""
    project = stage.project()
    used = stage.daemon.read(project, "..usage")["total"]
    quota = {"project": project, "baseline": used + 100, "growth_rate": 0}
    stage.daemon.done("set_quota", quota)
    document = {**address(f"{project}/a/2"), "source": stage.daemon.source({"big": b"x" * 101})}
    require_refusal(stage, project, "administrator", "upload", document, 413, project)
    assert stage.upload("owner", f"{project}/a/2", {"big": b"x" * 100}).code == 200
    assert stage.upload("owner", f"{project}/a/3", {"big": b"x" * 100}).code == 200, "a link costs nothing"
    assert stage.upload("owner", f"{project}/a/4", {"more": b"y"}).code == 413
    stage.daemon.done("set_quota", {"project": project, "growth_rate": 10**9, "year": 2000})
    assert stage.upload("owner", f"{project}/a/4", {"more": b"y"}).code == 200


# ---- which fault is told first


def documents(stage: Stage, project: str) -> dict[str, tuple[str, str, dict[str, Any], int, str]]:
    """Name -> role, action, document with two faults, the code and a word of the one that is told."""
    foreign = stage.daemon.source({"f": b"1"}, 61099)
    bad = {
        who: stage.daemon.source({"bad": Symlink("/etc/passwd")}, stage.roles[who])
        for who in ("owner", "stranger")
    }
    large = stage.daemon.source({"bad": Symlink("/etc/passwd"), "f": b"x" * 100}, stage.roles["owner"])
    here, new = address(f"{project}/a/1"), address(f"{project}/a/2")
    nowhere = address(f"{ABSENT}/a/1")
    return {
        "type before administrator": ("stranger", "create_project", {"project": 1}, 400, "project"),
        "name before administrator": ("stranger", "delete_project", {"project": ".."}, 400, "project"),
        "type before spoofing": ("stranger", "approve_probation", {**here, "asset": 1, "spoof": "x"}, 400, "asset"),
        "every field before spoofing": ("stranger", "upload", {**new, "source": "..", "spoof": "x"}, 400, "source"),
        "spoofing before source": ("stranger", "upload", {**new, "source": "none", "spoof": "x"}, 403, "x"),
        "spoofing before project": ("stranger", "approve_probation", {**nowhere, "spoof": "x"}, 403, "x"),
        "administrator before project": ("owner", "delete_version", nowhere, 403, ""),
        "administrator before version": ("owner", "validate_version", address(f"{project}/a/{ABSENT}"), 403, ""),
        "source before project": ("owner", "upload", {**nowhere, "source": "none"}, 400, "none"),
        "source before permission": ("stranger", "upload", {**new, "source": "none"}, 400, "none"),
        "source's owner before project": ("owner", "upload", {**nowhere, "source": foreign}, 403, foreign),
        "project before permission": ("stranger", "approve_probation", nowhere, 404, ABSENT),
        "project before permission, upload": ("stranger", "upload", {**nowhere, "source": bad["stranger"]}, 404, ABSENT),
        "project before permission, permissions": (
            "stranger", "set_permissions", {"project": ABSENT, "permissions": {}}, 404, ABSENT,
        ),
        "permission before asset": ("stranger", "approve_probation", address(f"{project}/{ABSENT}/1"), 403, ""),
        "permission before version": ("stranger", "reject_probation", address(f"{project}/a/{ABSENT}"), 403, ""),
        "permission before exists": ("stranger", "upload", {**here, "source": bad["stranger"]}, 403, ""),
        "permission before contents": ("stranger", "upload", {**new, "source": bad["stranger"]}, 403, ""),
        "permission before probation": ("stranger", "approve_probation", here, 403, ""),
        "exists before contents": ("owner", "upload", {**here, "source": bad["owner"]}, 400, "exists"),
        "contents before quota": ("owner", "upload", {**new, "source": large}, 400, "bad"),
    }  # fmt: skip


def test_order_of_faults(stage: Stage) -> None:
    """Of two faults the one that comes first in the specification's order is told."""
    project = stage.project()
    stage.daemon.done("set_quota", {"project": project, "baseline": 20, "growth_rate": 0})
    told = {}
    rows = documents(stage, project)
    for name, (role, action, document, _, _) in rows.items():
        answer = stage.ask(role, action, document)
        told[name] = (answer.code, answer.reason)
    wrong = {
        name: (told[name], code, word)
        for name, (_, _, _, code, word) in rows.items()
        if told[name][0] != code or word not in told[name][1]
    }
    assert not wrong


def test_the_file_comes_before_its_document(stage: Stage) -> None:
    """A request file that is a link, or has two names, is refused unread, whatever it holds."""
    staging = stage.daemon.staging
    linked, hard = request_name("create_project"), request_name("create_project")
    for name, make in ((linked, os.symlink), (hard, os.link)):
        drop_request(staging, f"tmp-of-{name}", {"project": f"from-{name}"})
        make(os.path.join(staging, f"tmp-of-{name}"), os.path.join(staging, name))
        answer = stage.daemon.post(name)
        assert answer.code == 400, answer
        assert not os.path.exists(stage.daemon.path(f"from-{name}"))


def test_a_hard_link_does_not_change_an_action(stage: Stage) -> None:
    """Somebody's answered refresh, linked to the name of a deletion, deletes nothing."""
    project = stage.project()
    name = stage.daemon.drop("refresh_usage", {"project": project})
    assert stage.daemon.post(name).code == 200
    deletion = request_name("delete_project")
    os.rename(os.path.join(stage.daemon.staging, name), os.path.join(stage.daemon.staging, deletion))
    assert stage.daemon.post(deletion).code == 400
    assert os.path.isdir(stage.daemon.path(project))


def test_the_registry_is_clean(stage: Stage) -> None:
    """After all of it, nothing is left that should not be there."""
    assert_clean(stage.daemon.registry)
