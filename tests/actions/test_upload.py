"""`upload`: who may, what appears on disk, and what is looked at again at the commit."""

import json
import os
import pwd
import re
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from support.attacker import OWN, SECRET, attacking
from support.bench import ADMIN, Bench
from support.checker import assert_clean
from support.places import Users

from gobblerd.actions.action import Context, Policy
from gobblerd.domain.errors import Absent, Busy, Exceeded, Fault, Forbidden, Stopped, Wrong
from gobblerd.domain.permissions import Caller
from gobblerd.domain.times import parse_time
from gobblerd.registry import apply
from gobblerd.registry.source import Limits
from gobblerd.storage.clock import FileClock

ALICE, BOB = 61001, 61002
FUTURE, PAST = "2999-01-01T00:00:00Z", "2001-01-01T00:00:00Z"


def read(bench: Bench, *path: str) -> Any:
    return json.loads(bench.root.joinpath(*path).read_bytes())


def events(bench: Bench) -> list[dict[str, Any]]:
    return [read(bench, "..logs", name) for name in sorted(os.listdir(bench.root / "..logs"))]


@pytest.fixture
def project(bench: Bench) -> str:
    bench.run("create_project", project="p")
    return "p"


def permit(bench: Bench, asset: str | None = None, **permissions: Any) -> None:
    where = {"asset": asset} if asset else {}
    bench.run("set_permissions", project="p", **where, permissions=permissions)


def unchanged(bench: Bench, before: dict[str, str]) -> None:
    """Fail unless the registry is as before, with nothing left of the failed upload."""
    assert bench.snapshot() == before
    assert [n for n in os.listdir(bench.root / "..transactions") if n.startswith("0")] == []
    assert_clean(str(bench.root))


# ---- what lies there already


@pytest.mark.parametrize("place", ["p/a", "p/old/2"])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_a_name_that_something_else_bears(bench: Bench, project: str, place: str, kind: str) -> None:
    """Refused before anything is committed: what was committed could not be put there."""
    bench.upload("p/old/1", {"f": b"1"})
    there = bench.root / place
    there.write_bytes(b"notes") if kind == "file" else there.symlink_to("nowhere")
    source = bench.source("s", {"f": b"22"})
    _, asset, version = f"{place}/1".split("/")[:3]
    before = bench.snapshot()
    with pytest.raises(Wrong, match=f'"{place}" cannot be made: something that is no'):
        bench.run("upload", project="p", asset=asset, version=version, source=source)
    assert bench.snapshot() == before
    if place == "p/a":
        with pytest.raises(Wrong, match='"p/a" cannot be made'):
            permit(bench, "a", owners=["x"])
        assert bench.snapshot() == before


def test_an_asset_on_another_filesystem(bench: Bench, project: str) -> None:
    """A link to one that somebody moved there: what was committed could never be renamed into it."""
    elsewhere = Path("/dev/shm") / f"gobblerd-{os.getpid()}"
    bench.upload("p/a/1", {"f": b"1"})
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(bench.root).st_dev:
        pytest.skip("NOT TESTED: there is no other filesystem at /dev/shm")
    shutil.move(bench.root / "p/a", elsewhere)
    try:
        (bench.root / "p/a").symlink_to(elsewhere)
        source = bench.source("s", {"f": b"22"})
        for action, fields in (
            ("upload", {"version": "2", "source": source}),
            ("set_permissions", {"permissions": {}}),
            ("delete_version", {"version": "1"}),
        ):
            with pytest.raises(Fault, match="on another filesystem"):
                bench.run(action, project="p", asset="a", **fields)
        assert os.listdir(bench.root / "..transactions/committed") == []
        bench.run("delete_asset", project="p", asset="a")
        assert not (bench.root / "p/a").is_symlink()
        assert (elsewhere / "1/f").exists()
    finally:
        shutil.rmtree(elsewhere)


# ---- what appears


def test_the_first_version_of_a_new_asset(bench: Bench, project: str) -> None:
    """Asset, version, documents with exactly the documented keys, usage, latest, one event."""
    bench.upload("p/a/1", {"f": b"12345", "e": None})
    assert set(os.listdir(bench.root / "p/a")) == {"..LOCK", "..latest", "1"}
    assert set(os.listdir(bench.root / "p/a/1")) == {"..manifest", "..checksums", "..summary", "f", "e"}
    assert read(bench, "p/a/..latest") == {"version": "1"}
    assert read(bench, "p/..usage") == {"total": 5}
    summary = read(bench, "p/a/1/..summary")
    assert set(summary) == {"upload_user_id", "upload_start", "upload_finish"}
    assert summary["upload_user_id"] == ADMIN
    for key in ("upload_start", "upload_finish"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", summary[key])
    assert parse_time(summary["upload_start"]) <= parse_time(summary["upload_finish"])
    assert events(bench) == [
        {"type": "add-version", "project": "p", "asset": "a", "version": "1", "latest": True}
    ]
    assert_clean(str(bench.root))


@pytest.mark.parametrize("on_probation", [False, True])
def test_a_new_asset_appears_whole(
    bench: Bench, project: str, monkeypatch: pytest.MonkeyPatch, *, on_probation: bool
) -> None:
    """From its first moment on it is known which version is its latest."""
    seen: list[list[str]] = []

    def rename(source: str, target: str) -> None:
        os.rename(source, target)
        if target == str(bench.root / "p/a"):
            seen.append(sorted(os.listdir(target)))

    monkeypatch.setattr(apply, "rename", rename)
    bench.upload("p/a/1", {"f": b"x"}, on_probation=on_probation)
    assert seen == [["..LOCK", "1"] if on_probation else ["..LOCK", "..latest", "1"]]


def test_further_versions(bench: Bench, project: str) -> None:
    """Deduplicated against the latest; usage grows by what is stored; the source is left alone."""
    bench.upload("p/a/1", {"f": b"12345"})
    bench.upload("p/a/2", {"g": b"12345", "h": b"6"})
    bench.upload("p/b/1", {"g": b"12345"})
    assert read(bench, "p/..usage") == {"total": 11}
    assert read(bench, "p/a/..latest") == {"version": "2"}
    assert read(bench, "p/a/2/..manifest")["g"]["link"] == {
        "project": "p",
        "asset": "a",
        "version": "1",
        "path": "f",
    }
    assert sorted(p.name for p in (bench.staging / "up-p-a-2").iterdir()) == ["g", "h"]
    assert_clean(str(bench.root))


@pytest.mark.parametrize("umask", [0, 0o022])
def test_modes(bench: Bench, project: str, umask: int) -> None:
    """0755 and 0644 for everything but lock files (0600), whatever the umask and the modes in the source."""
    bench.source("s", {"d/f": b"1", "l": ("link", "d/f"), "d/g": b"2"})
    os.chmod(bench.staging / "s/d", 0o2700)
    os.chmod(bench.staging / "s/d/f", 0o6777)
    old = os.umask(umask)
    try:
        bench.run("upload", project="p", asset="a", version="1", source="s")
    finally:
        os.umask(old)
    if umask:  # the daemon sets its own umask; directories follow it
        for path in (bench.root / "p/a", *(bench.root / "p/a").rglob("*")):
            if not path.is_symlink():
                mode = stat.S_IMODE(path.lstat().st_mode)
                assert mode == (0o755 if path.is_dir() else 0o600 if "LOCK" in path.name else 0o644), path
    assert stat.S_IMODE((bench.root / "p/a/1/d/f").stat().st_mode) == 0o644
    assert stat.S_IMODE((bench.root / "p/a/1/..links").stat().st_mode) == 0o644


def test_an_upload_on_probation(bench: Bench, project: str) -> None:
    """No latest, no event, but usage; the flag is in the summary."""
    bench.upload("p/a/1", {"f": b"12345"}, on_probation=True)
    assert not (bench.root / "p/a/..latest").exists()
    assert events(bench) == []
    assert read(bench, "p/..usage") == {"total": 5}
    assert read(bench, "p/a/1/..summary")["on_probation"] is True
    bench.upload("p/a/2", {"f": b"12345"})
    assert "link" not in read(bench, "p/a/2/..manifest")["f"]
    assert read(bench, "p/a/..latest") == {"version": "2"}


def test_ignore_dot(bench: Bench, project: str) -> None:
    """Names beginning with a dot count unless they are to be ignored; the source's own name always does."""
    bench.source(".s", {".f": b"1", ".d/f": b"1", "g": b"1"})
    bench.run("upload", project="p", asset="a", version="1", source=".s")
    bench.run("upload", project="p", asset="a", version="2", source=".s", ignore_dot=True)
    assert set(read(bench, "p/a/1/..manifest")) == {".f", ".d/f", "g"}
    assert set(read(bench, "p/a/2/..manifest")) == {"g"}


def test_the_same_upload_gives_the_same_manifest(bench: Bench, project: str) -> None:
    """Whatever the order in which a directory lists its names."""
    tree = {f"{n:03}": b"same" for n in range(50)} | {"l": ("link", "007")}
    bench.upload("p/a/1", tree)
    bench.upload("p/b/1", dict(reversed(tree.items())))
    one, other = ((bench.root / f"p/{a}/1/..manifest").read_text() for a in "ab")
    assert one == other.replace('"asset": "b"', '"asset": "a"')


# ---- times


def steps_back(bench: Bench, monkeypatch: pytest.MonkeyPatch, *times: int) -> None:
    left = list(times)
    monkeypatch.setattr(FileClock, "now", lambda _: left.pop(0) if len(left) > 1 else left[0])


def finish(bench: Bench, version: str) -> int:
    return parse_time(read(bench, "p/a", version, "..summary")["upload_finish"])


def test_a_clock_that_steps_back(bench: Bench, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version's `upload_finish` is later than the latest's, by a microsecond at least."""
    bench.upload("p/a/1", {"f": b"1"})
    first = finish(bench, "1")
    steps_back(bench, monkeypatch, 1_000_000_000)
    bench.upload("p/a/2", {"f": b"1"})
    bench.upload("p/a/3", {"f": b"1"}, on_probation=True)
    assert finish(bench, "2") == first // 1000 * 1000 + 1000
    assert finish(bench, "3") == finish(bench, "2") + 1000
    assert read(bench, "p/a/..latest") == {"version": "2"}


def test_an_upload_never_ends_before_it_began(
    bench: Bench, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the clock steps back during it."""
    steps_back(bench, monkeypatch, 5_000_000_000, 5_000_000_000, 1_000_000_000)
    bench.upload("p/a/1", {"f": b"1"})
    summary = read(bench, "p/a/1/..summary")
    assert summary["upload_start"] <= summary["upload_finish"]


def test_a_latest_version_whose_manifest_is_a_link_in_a_circle(bench: Bench, project: str) -> None:
    """As any damaged manifest, it costs the duplicates; who links to it is told which it is."""
    bench.upload("p/a/1", {"f": b"1"})
    manifest = bench.root / "p/a/1/..manifest"
    manifest.unlink()
    manifest.symlink_to("..manifest")
    bench.upload("p/a/2", {"f": b"1"})
    assert "link" not in read(bench, "p/a/2/..manifest")["f"]
    bench.source("s", {"g": ("link", str(bench.root / "p/a/1/f"))})
    with pytest.raises(Fault, match=r'a/1/\.\.manifest" cannot be read: "Too many levels of symbolic links"'):
        bench.run("upload", project="p", asset="a", version="3", source="s")


def test_a_latest_version_without_a_summary(bench: Bench, project: str) -> None:
    """It cannot be followed; the new version is latest."""
    bench.upload("p/a/1", {"f": b"1"})
    (bench.root / "p/a/1/..summary").unlink()
    bench.upload("p/a/2", {"f": b"1"})
    assert read(bench, "p/a/..latest") == {"version": "2"}
    assert "link" not in read(bench, "p/a/2/..manifest")["f"]


# ---- who may


@pytest.mark.parametrize(
    ("entry", "probation"),
    [
        ({"id": "alice", "trusted": True}, False),
        ({"id": "alice"}, True),
        ({"id": "alice", "trusted": False}, True),
        ({"id": "alice", "asset": "a", "version": "1", "until": FUTURE, "trusted": True}, False),
        ({"id": "alice", "asset": "b"}, None),
        ({"id": "alice", "version": "2"}, None),
        ({"id": "alice", "until": PAST}, None),
        ({"id": "bob"}, None),
    ],
)
def test_uploaders(bench: Bench, project: str, *, entry: dict[str, Any], probation: bool | None) -> None:
    """An entry's asset and version equal the request's, its `until` lies ahead; untrusted: on probation."""
    permit(bench, uploaders=[entry])
    before = bench.snapshot()
    if probation is None:
        with pytest.raises(Forbidden, match='"alice"'):
            bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
        unchanged(bench, before)
    else:
        bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
        assert read(bench, "p/a/1/..summary").get("on_probation", False) is probation
        assert read(bench, "p/a/1/..summary")["upload_user_id"] == "alice"
        assert not (bench.root / "p/a/..permissions").exists()


def test_uploaders_of_an_asset(bench: Bench, project: str) -> None:
    """Asset-level entries hold for that asset; an `asset` in one that Go or a person wrote is ignored."""
    permit(bench, "a", uploaders=[{"id": "alice", "trusted": True}])
    path = bench.root / "p/a/..permissions"
    path.write_text(path.read_text().replace('"id"', '"asset": "zzz", "id"'))
    bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
    assert "on_probation" not in read(bench, "p/a/1/..summary")
    with pytest.raises(Forbidden):
        bench.upload("p/b/1", {"f": b"1"}, "alice", ALICE)


def test_a_stored_time_that_cannot_be_read_matches_nobody(bench: Bench, project: str) -> None:
    """Better nobody than anybody."""
    permit(bench, uploaders=[{"id": "alice", "until": FUTURE}])
    path = bench.root / "p/..permissions"
    path.write_text(path.read_text().replace(FUTURE, "soon"))
    with pytest.raises(Forbidden):
        bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)


@pytest.mark.parametrize("user", ["root", "owner", "uploader", "stranger"])
@pytest.mark.parametrize("on_probation", [False, True])
def test_global_write(bench: Bench, project: str, user: str, *, on_probation: bool) -> None:
    """Whoever's upload creates an asset owns it, also on probation; it is trusted."""
    permit(bench, owners=["owner"], uploaders=[{"id": "uploader"}], global_write=True)
    uid = 0 if user == "root" else ALICE
    bench.upload("p/a/1", {"f": b"1"}, user, uid, on_probation=on_probation)
    assert read(bench, "p/a/..permissions") == {"owners": [user], "uploaders": []}
    assert read(bench, "p/a/1/..summary").get("on_probation", False) is on_probation
    assert_clean(str(bench.root))


def test_an_existing_asset_directory_closes_global_write(bench: Bench, project: str) -> None:
    """Also an empty one; its owner goes on."""
    permit(bench, global_write=True)
    permit(bench, "closed")
    with pytest.raises(Forbidden):
        bench.upload("p/closed/1", {"f": b"1"}, "alice", ALICE)
    bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
    with pytest.raises(Forbidden):
        bench.upload("p/a/2", {"f": b"1"}, "bob", BOB)
    shutil.rmtree(bench.staging / "up-p-a-2")
    bench.upload("p/a/2", {"f": b"1"}, "alice", ALICE)


def test_a_failed_upload_squats_no_asset(bench: Bench, project: str) -> None:
    """Nothing of it remains: the next one is the first."""
    permit(bench, global_write=True)
    before = bench.snapshot()
    with pytest.raises(Wrong):
        bench.upload("p/a/1", {"l": ("link", "none")}, "alice", ALICE)
    unchanged(bench, before)
    bench.upload("p/a/2", {"f": b"1"}, "bob", BOB)
    assert read(bench, "p/a/..permissions")["owners"] == ["bob"]


def as_other(bench: Bench, requester: str, uid: int, user: str, **fields: Any) -> None:
    context = Context(
        registry=bench.registry,
        caller=Caller(uid, requester, user, is_administrator=user == ADMIN),
        origin=bench.origin("upload", requester),
        policy=bench.policy,
        staging_fd=bench.staging_fd,
        staging=str(bench.staging),
        progress=bench.progress,
    )
    bench.actions["upload"].model_validate(fields).perform(context)
    bench.registry.finish(context.origin)


def test_a_spoofed_user(bench: Bench, project: str) -> None:
    """Permission and `upload_user_id` are theirs; the source and the right to read it the requester's."""
    permit(bench, uploaders=[{"id": "bob", "trusted": True}])
    fields = {"project": "p", "asset": "a", "version": "1", "source": "s"}
    bench.source("s", {"f": b"1", "root's": b"secret"}, ALICE)
    os.chown(bench.staging / "s" / "root's", 0, 0)
    os.chmod(bench.staging / "s" / "root's", 0o600)
    with pytest.raises(Wrong, match="root's"):
        as_other(bench, "alice", ALICE, "bob", **fields)
    os.chown(bench.staging / "s" / "root's", ALICE, ALICE)
    with pytest.raises(Forbidden, match='"s"'):
        as_other(bench, "bob", BOB, "bob", **fields)
    with pytest.raises(Forbidden, match='"alice"'):
        as_other(bench, "alice", ALICE, "alice", **fields)
    as_other(bench, "alice", ALICE, "bob", **fields)
    assert read(bench, "p/a/1/..summary")["upload_user_id"] == "bob"


def test_a_file_of_another_is_read_if_a_group_of_the_requester_may(
    bench: Bench, project: str, users: Users
) -> None:
    """Their groups are looked up then, and only then; a user whom nobody knows has none."""
    permit(bench, global_write=True)
    alice = pwd.getpwnam(users.alice)
    for number, (uid, group, is_theirs) in enumerate(
        [(alice.pw_uid, alice.pw_gid, True), (alice.pw_uid, 61_003, False), (61_004, 61_003, False)]
    ):
        source = bench.source(f"s{number}", {"f": b"1"}, uid)
        os.chown(bench.staging / source / "f", 0, group)
        os.chmod(bench.staging / source / "f", 0o640)
        fields = {"project": "p", "asset": f"a{number}", "version": "1", "source": source}
        if is_theirs:
            bench.run("upload", "alice", uid, **fields)
        else:
            with pytest.raises(Wrong, match="neither the requester's own"):
                bench.run("upload", "alice", uid, **fields)


# ---- refusals


@pytest.mark.parametrize("source", ["", ".", "..", "..s", "a/b", "/tmp", "responses", "s\0", "s/"])
def test_a_source_is_a_name(bench: Bench, project: str, source: str) -> None:
    """Not a path, not `.`, not beginning with `..`, not the responses."""
    with pytest.raises(Wrong, match="source"):
        bench.run("upload", project="p", asset="a", version="1", source=source)


@pytest.mark.parametrize("field", ["asset", "version"])
@pytest.mark.parametrize("name", ["", ".", "..x", "a/b", "a\\b", "a\nb", "x" * 256])
def test_names(bench: Bench, project: str, field: str, name: str) -> None:
    """New names follow the rules."""
    with pytest.raises(Wrong, match=field):
        bench.run("upload", **{"project": "p", "asset": "a", "version": "1", "source": "s", field: name})


@pytest.mark.parametrize("field", ["on_probation", "ignore_dot", "consume"])
def test_types_are_strict(bench: Bench, project: str, field: str) -> None:
    """1 is not true."""
    with pytest.raises(ValidationError):
        bench.run("upload", **{"project": "p", "asset": "a", "version": "1", "source": "s", field: 1})


def test_the_order_of_refusals(bench: Bench, project: str) -> None:
    """Source, its owner, project, permission, version exists, contents, quota: the first one is told."""
    bench.policy = Policy(enforce_quota=True)
    bench.upload("p/a/1", {"f": b"1"})
    bench.run("set_quota", project="p", baseline=1, growth_rate=0)
    tree = {"l": ("link", "none"), "f": b"too much"}
    place = {"project": "none", "asset": "a", "version": "1", "source": "s"}

    def refused(error: type[Exception], **fields: Any) -> None:
        with pytest.raises(error):
            bench.run("upload", "alice", ALICE, **{**place, **fields})

    refused(Wrong)
    bench.source("s", tree, BOB)
    refused(Forbidden)
    bench.source("mine", tree, ALICE)
    refused(Absent, source="mine")
    refused(Forbidden, source="mine", project="p")
    permit(bench, owners=["alice"])
    refused(Wrong, source="mine", project="p")  # exists
    refused(Wrong, source="mine", project="p", version="2")  # contents
    (bench.staging / "mine" / "l").unlink()
    refused(Exceeded, source="mine", project="p", version="2")
    with pytest.raises(Wrong, match="invalid project"):  # no project could be called so
        bench.run("upload", **{**place, "source": "mine", "project": "a\\b"}, user="alice", uid=ALICE)


@pytest.mark.parametrize(
    ("limits", "names"),
    [(Limits(files=1), "1"), (Limits(size=3), "3"), (Limits(depth=1), "d/e"), (Limits(path=4), "d/e/f")],
)
def test_limits(bench: Bench, project: str, limits: Limits, names: str) -> None:
    """Beyond a configured limit: 413, nothing is changed."""
    bench.policy = Policy(limits=limits)
    before = bench.snapshot()
    with pytest.raises(Exceeded, match=names):
        bench.upload("p/a/1", {"d/e/f": b"1234"})
    unchanged(bench, before)


def test_a_path_that_the_system_cannot_address(bench: Bench, project: str) -> None:
    """Within the configured limit but too long below the registry: 413, not a fault."""
    bench.policy = Policy(limits=Limits(path=0))
    bench.source("s", {})
    fd = os.open(bench.staging / "s", os.O_RDONLY)
    for _ in range(17):
        os.mkdir("d" * 240, dir_fd=fd)
        below = os.open("d" * 240, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(Exceeded, match="longer than"):
        bench.run("upload", project="p", asset="a", version="1", source="s")


def test_what_just_can_be_addressed_is_stored(bench: Bench, project: str) -> None:
    """Deep and long, up to the documents that lie beside."""
    bench.policy = Policy(limits=Limits(path=0))
    path = "/".join(["d" * 200] * 18)
    bench.source("s", {path.split("/", 1)[0]: None})
    fd = os.open(bench.staging / "s", os.O_RDONLY)
    for name in path.split("/"):
        if not os.path.isdir(f"/proc/self/fd/{fd}/{name}"):
            os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    bench.run("upload", project="p", asset="a", version="1", source="s")
    assert set(read(bench, "p/a/1/..manifest")) == {path}


# ---- quota


def test_quota_is_checked_before_anything_is_copied(bench: Bench, project: str) -> None:
    """Where sizes tell already; what may be a duplicate is given the benefit of the doubt."""
    bench.policy = Policy(enforce_quota=True)
    bench.upload("p/a/1", {"f": b"12345"})
    bench.run("set_quota", project="p", baseline=7, growth_rate=0)
    ticks: list[int] = []
    bench.progress = lambda done, _: ticks.append(done)
    before = bench.snapshot()
    with pytest.raises(Exceeded, match=r"8 bytes.*5 now, 3 new.*7 bytes"):
        bench.upload("p/a/2", {"same": b"12345", "g": b"678"})
    assert ticks == []
    with pytest.raises(Exceeded):
        bench.upload("p/a/3", {"other": b"54321"})
    assert ticks == [5]
    unchanged(bench, before)
    bench.upload("p/a/4", {"same": b"12345", "g": b"67"})
    assert read(bench, "p/..usage") == {"total": 7}


def test_whitelisted_bytes_count(bench: Bench, project: str, tmp_path: Path) -> None:
    """They are entries without a link."""
    (tmp_path / "white").mkdir()
    (tmp_path / "white" / "w").write_bytes(b"12345")
    bench.policy = Policy(enforce_quota=True, whitelist=(str(tmp_path / "white"),))
    bench.run("set_quota", project="p", baseline=4, growth_rate=0)
    with pytest.raises(Exceeded):
        bench.upload("p/a/1", {"w": ("link", str(tmp_path / "white" / "w"))})


def test_without_enforcement_or_quota_there_is_no_limit(bench: Bench, project: str) -> None:
    """Existing registries hold placeholders."""
    bench.run("set_quota", project="p", baseline=0, growth_rate=0)
    bench.upload("p/a/1", {"f": b"12345"})
    bench.policy = Policy(enforce_quota=True)
    with pytest.raises(Exceeded):
        bench.upload("p/a/2", {"f": b"54321"})
    (bench.root / "p/..quota").unlink()
    bench.upload("p/a/3", {"f": b"54321"})
    assert read(bench, "p/..usage") == {"total": 10}


def test_a_missing_usage_is_not_zero(bench: Bench, project: str) -> None:
    """A fault that changes nothing."""
    (bench.root / "p/..usage").unlink()
    before = bench.snapshot()
    with pytest.raises(Fault, match=r"\.\.usage"):
        bench.upload("p/a/1", {"f": b"12345"})
    assert bench.snapshot() == before


# ---- what happens meanwhile


def meanwhile(bench: Bench, *doings: Callable[[], Any]) -> None:
    """Do something when the upload has read its first bytes; the nth upload the nth thing."""
    left = list(doings)

    def progress(done: int, total: int) -> None:
        if left:
            doing = left.pop(0)
            bench.progress = lambda done, total: None
            doing()

    bench.progress = progress


def test_the_version_appears_meanwhile(bench: Bench, project: str) -> None:
    """One winner; the other is told that the version exists."""
    meanwhile(bench, lambda: bench.run("upload", project="p", asset="a", version="1", source="other"))
    bench.source("other", {"f": b"other"})
    with pytest.raises(Wrong, match="exists already"):
        bench.upload("p/a/1", {"f": b"mine"})
    assert (bench.root / "p/a/1/f").read_bytes() == b"other"
    assert read(bench, "p/..usage") == {"total": 5}
    assert_clean(str(bench.root))


def test_permission_is_withdrawn_meanwhile(bench: Bench, project: str) -> None:
    """The commit asks again."""
    permit(bench, uploaders=[{"id": "alice"}])
    meanwhile(bench, lambda: permit(bench, uploaders=[]))
    with pytest.raises(Forbidden):
        bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
    assert not (bench.root / "p/a").exists()


def test_trust_is_withdrawn_meanwhile(bench: Bench, project: str) -> None:
    """What was trusted at the beginning is on probation then."""
    permit(bench, uploaders=[{"id": "alice", "trusted": True}])
    meanwhile(bench, lambda: permit(bench, uploaders=[{"id": "alice"}]))
    bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
    assert read(bench, "p/a/1/..summary")["on_probation"] is True


def test_the_asset_appears_meanwhile(bench: Bench, project: str) -> None:
    """Under `global_write` that closes it; for an owner it makes no difference."""
    permit(bench, owners=["owner"], global_write=True)
    meanwhile(bench, lambda: permit(bench, "a"))
    with pytest.raises(Forbidden):
        bench.upload("p/a/1", {"f": b"1"}, "alice", ALICE)
    meanwhile(bench, lambda: permit(bench, "b"))
    bench.upload("p/b/1", {"f": b"1"}, "owner", BOB)
    assert read(bench, "p/b/..permissions") == {"owners": [], "uploaders": []}


def test_the_project_goes_meanwhile(bench: Bench, project: str) -> None:
    """404, and the project does not come back."""
    meanwhile(bench, lambda: bench.run("delete_project", project="p"))
    with pytest.raises(Absent, match='"p"'):
        bench.upload("p/a/1", {"f": b"1"})
    assert not (bench.root / "p").exists()


def test_the_duplicate_s_version_goes_meanwhile(bench: Bench, project: str) -> None:
    """What is missing then is copied; usage counts it."""
    bench.upload("p/a/1", {"f": b"12345", "g": b"67"})
    meanwhile(bench, lambda: bench.run("delete_version", project="p", asset="a", version="1"))
    bench.upload("p/a/2", {"d/x": b"12345", "l": ("link", "d/x"), "y": b"67"})
    assert (bench.root / "p/a/2/d/x").read_bytes() == b"12345"
    assert not (bench.root / "p/a/2/d/x").is_symlink()
    assert not (bench.root / "p/a/2/d/..links").exists()
    assert read(bench, "p/..usage") == {"total": 7}
    assert_clean(str(bench.root))


def test_the_whole_asset_goes_meanwhile(bench: Bench, project: str) -> None:
    """It is made again, with what is missing copied."""
    bench.upload("p/a/1", {"f": b"12345"})
    meanwhile(bench, lambda: bench.run("delete_asset", project="p", asset="a"))
    bench.upload("p/a/2", {"x": b"12345"})
    assert read(bench, "p/a/..latest") == {"version": "2"}
    assert_clean(str(bench.root))


def test_more_versions_go_than_there_are_tries(bench: Bench, project: str) -> None:
    """All that is gone is noticed at once."""
    tree: dict[str, Any] = {}
    for n in range(15):
        bench.upload(f"p/x{n}/1", {"f": f"content {n}".encode()})
        tree[f"l{n}"] = ("link", str(bench.root / f"p/x{n}/1/f"))
    bench.upload("p/a/1", tree)

    def delete() -> None:
        for n in range(15):
            bench.run("delete_asset", project="p", asset=f"x{n}")

    meanwhile(bench, delete)
    bench.upload("p/a/2", {f"f{n}": f"content {n}".encode() for n in range(15)})
    assert not any("link" in entry for entry in read(bench, "p/a/2/..manifest").values())


def test_the_target_of_a_link_goes_meanwhile(bench: Bench, project: str) -> None:
    """400 that names the link; so it is when the target is rewritten without the file."""
    bench.upload("p/b/1", {"f": b"12345"})
    meanwhile(bench, lambda: bench.run("delete_version", project="p", asset="b", version="1"))
    with pytest.raises(Wrong, match='"l"'):
        bench.upload("p/a/1", {"own": b"1", "l": ("link", str(bench.root / "p/b/1/f"))})
    assert not (bench.root / "p/a").exists()


def test_quota_is_used_up_meanwhile(bench: Bench, project: str) -> None:
    """The commit counts again."""
    bench.policy = Policy(enforce_quota=True)
    bench.run("set_quota", project="p", baseline=8, growth_rate=0)
    bench.source("other", {"f": b"12345"})
    meanwhile(bench, lambda: bench.run("upload", project="p", asset="b", version="1", source="other"))
    with pytest.raises(Exceeded):
        bench.upload("p/a/1", {"f": b"1234"})
    assert not (bench.root / "p/a").exists()
    assert read(bench, "p/..usage") == {"total": 5}


def test_concurrent_uploads_share_one_quota(bench: Bench, project: str) -> None:
    """However many commit at once, the project never holds more than it may."""
    bench.policy = Policy(enforce_quota=True)
    bench.run("set_quota", project="p", baseline=35, growth_rate=0)
    names = [bench.source(f"s{n}", {"f": b"1234567890"}) for n in range(8)]
    codes: list[str] = []

    def upload(n: int) -> None:
        try:
            bench.run("upload", project="p", asset=f"a{n}", version="1", source=names[n])
            codes.append("done")
        except Exceeded:
            codes.append("exceeded")

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["done"] * 3 + ["exceeded"] * 5
    assert read(bench, "p/..usage") == {"total": 30}
    assert_clean(str(bench.root))


def test_a_daemon_that_stops_leaves_nothing(bench: Bench, project: str) -> None:
    """The progress callback raises; the registry is as before, and nothing is staged."""

    def stop() -> None:
        raise Stopped

    before = bench.snapshot()
    meanwhile(bench, stop)
    with pytest.raises(Stopped):
        bench.upload("p/a/1", {"f": b"1"}, consume=True)
    unchanged(bench, before)
    assert (bench.staging / "up-p-a-1" / "f").exists()


def test_what_keeps_changing_is_given_up(bench: Bench, project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten tries: 503, nothing was done."""
    from gobblerd.registry import neighbours

    bench.upload("p/a/1", {"f": b"1"})
    monkeypatch.setattr(neighbours.Neighbours, "_is_same", lambda *_: False)
    with pytest.raises(Busy, match="kept changing"):
        bench.upload("p/b/1", {"l": ("link", str(bench.root / "p/a/1/f"))})
    assert not (bench.root / "p/b").exists()


# ---- consume


def left(bench: Bench, source: str) -> set[str]:
    top = bench.staging / source
    return {str(p.relative_to(top)) for p in top.rglob("*")}


def test_consume_removes_what_was_stored(bench: Bench, project: str) -> None:
    """Duplicates, links, skipped names and directories stay."""
    bench.upload("p/a/1", {"f": b"same"})
    tree = {
        "new": b"new",
        "d/new": b"more",
        "dup": b"same",
        "l": ("link", "new"),
        "..x": b"x",
        ".y": b"y",
        "e": None,
    }
    bench.upload("p/a/2", tree, consume=True, ignore_dot=True)
    assert left(bench, "up-p-a-2") == {"d", "dup", "l", "..x", ".y", "e"}
    assert (bench.root / "p/a/2/new").read_bytes() == b"new"
    assert_clean(str(bench.root))


def test_consume_keeps_what_changed_since(bench: Bench, project: str) -> None:
    """A file rewritten after it was read is somebody's new data."""
    path = bench.staging / "up-p-a-1"
    meanwhile(bench, lambda: (path / "a").write_bytes(b"newer"))
    bench.upload("p/a/1", {"a": b"old", "b": b"b"}, consume=True)
    assert left(bench, "up-p-a-1") == {"a"}
    assert (bench.root / "p/a/1/a").read_bytes() == b"old"


@pytest.mark.parametrize("tree", [{"f": b"1", "l": ("link", "none")}, {"f": b"12345678"}])
def test_consume_loses_nothing_on_failure(bench: Bench, project: str, tree: dict[str, Any]) -> None:
    """A refused upload leaves its source as it was."""
    bench.policy = Policy(enforce_quota=True)
    bench.run("set_quota", project="p", baseline=5, growth_rate=0)
    with pytest.raises((Wrong, Exceeded)):
        bench.upload("p/a/1", tree, consume=True)
    assert left(bench, "up-p-a-1") == set(tree)


def test_no_inode_of_a_user_is_adopted(bench: Bench, project: str) -> None:
    """What a descriptor that stayed open writes later is not in the registry."""
    bench.source("s", {"f": b"before"})
    fd = os.open(bench.staging / "s" / "f", os.O_WRONLY)
    bench.run("upload", project="p", asset="a", version="1", source="s", consume=True)
    os.write(fd, b"AFTER!")
    os.close(fd)
    assert (bench.root / "p/a/1/f").read_bytes() == b"before"


# ---- races

ROUNDS = int(os.environ.get("GOBBLERD_RACES", "300"))  # the full count is 5,000


def test_a_racing_attacker_gets_nothing_wrong_into_the_registry(bench: Bench, project: str) -> None:
    """Files, links and directories swapped during small uploads: no secret, no wrong checksum."""
    secret = bench.base / "private" / "f"
    secret.parent.mkdir()
    secret.write_bytes(SECRET)
    os.chmod(secret, 0o600)
    bench.source("s", {"d/f": b"one", "d/g": b"good"}, ALICE)
    permit(bench, uploaders=[{"id": "alice", "trusted": True}])
    outcomes = {"done": 0, "refused": 0}
    with attacking(str(bench.staging / "s"), str(secret), ALICE):
        while (n := sum(outcomes.values())) < ROUNDS or 0 in outcomes.values():
            fields = {"project": "p", "asset": f"a{n % 7}", "version": str(n), "source": "s"}
            try:
                bench.run("upload", "alice", ALICE, **fields)
                outcomes["done"] += 1
            except Wrong:
                outcomes["refused"] += 1
            assert n < 20 * ROUNDS, "the attacker does not attack"
    assert_clean(str(bench.root))
    stored = {path.read_bytes() for path in bench.root.rglob("d/[fg]") if path.is_file()}
    assert stored <= {b"", b"good", *OWN, b"twother"}


def test_many_uploads_into_one_asset_at_once(bench: Bench, project: str) -> None:
    """All get in, each later than the one before; the last is the latest."""
    names = [bench.source(f"s{n}", {"f": b"same", str(n): b"own"}) for n in range(12)]

    def upload(n: int) -> None:
        bench.run("upload", project="p", asset="a", version=str(n), source=names[n])

    threads = [threading.Thread(target=upload, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finishes = {finish(bench, str(n)) for n in range(12)}
    assert len(finishes) == 12
    assert_clean(str(bench.root))
