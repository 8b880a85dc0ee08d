"""Releases between registries and other places: complete, verified, once, and nothing left behind."""

import doctest
import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive.backends.shelf import TREE as SHELF
from archive.backends.shelf import read_archive, write_archive
from client.middleman import middleman
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, eventually
from support.places import Tree, open_directory, read_tree

from gobblerd import archive
from gobblerd.archive import Absent, Backend, GobblerArchive, Mirrored, Wrong, get_backend, mirror, mirroring
from gobblerd.archive.backends.backend import Checked, Unready
from gobblerd.client import Gobbler, GobblerUnreachable
from gobblerd.domain.release import Release, ReleaseFile

BIG = os.urandom(3 << 20)
TREE: Tree = {"big": BIG, "d/small": b"small", "zero": b"", ".dot": b".", "empty/inner": None}
NAMES = ("2", "1", "v1.5", "draft", "0.9-rc.1")  # in the order in which they are uploaded


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "proj"})
    for name in NAMES:
        daemon.upload(f"proj/data/{name}", {**TREE, "name": name.encode()})
    daemon.upload("proj/data/9", {"f": b"9"}, on_probation=True)
    return daemon


@pytest.fixture
def other(start_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_daemon()
    daemon.done("create_project", {"project": "proj"})
    return daemon


@pytest.fixture
def cache() -> Iterator[str]:
    with open_directory() as path:
        yield path


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    place = tmp_path / "shelf"
    place.mkdir()
    (place / ".rmearchive").touch()
    return place


def url(daemon: RunningDaemon) -> str:
    return f"http://127.0.0.1:{daemon.port}"


def place_of(daemon: RunningDaemon, way: str, cache: str) -> Backend:
    if way == "disk":
        return get_backend(daemon.registry, staging=daemon.staging)
    return get_backend(url(daemon), cache=cache)


def outcomes(done: list[Mirrored]) -> dict[str, str]:
    return {one.version: one.outcome for one in done}


def version_tree(daemon: RunningDaemon, version: str) -> dict[str, Any]:
    found = read_tree(daemon.path("proj", "data", version))
    return {name: content for name, content in found.items() if not os.path.basename(name).startswith("..")}


def left(daemon: RunningDaemon) -> list[str]:
    """Return what is in staging besides the requests and sources of these tests."""
    return [
        name
        for name in os.listdir(daemon.staging)
        if not name.startswith(("request-", "responses", "source-"))
    ]


def files_below(root: str) -> list[str]:
    return [os.path.join(d, name) for d, _, names in os.walk(root) for name in names]


@pytest.mark.parametrize("source", ["disk", "rest"])
@pytest.mark.parametrize("target", ["disk", "rest"])
def test_between_registries(
    daemon: RunningDaemon, other: RunningDaemon, cache: str, source: str, target: str
) -> None:
    """By disk or over REST: every release is there, in the order of uploads, the latest being the latest."""
    here, there = place_of(daemon, source, cache), place_of(other, target, cache)
    told: list[Mirrored] = []
    totals: list[tuple[int, ...]] = []
    done = mirror(here, there, "proj/data", told=told.append, progress=lambda *now: totals.append(now))
    assert [one.version for one in done] == list(NAMES)
    assert set(outcomes(done).values()) == {"copied"}
    assert told == done
    files, size = sum(one.files for one in done), sum(one.size for one in done)
    assert totals[-1] == (files, files, size, size)
    for name in NAMES:
        assert version_tree(other, name).keys() == {*TREE, "name"}
        assert other.read("proj", "data", name, "..manifest").keys() == {*TREE, "name"}
    assert other.read("proj", "data", "..latest") == {"version": "0.9-rc.1"}
    assert left(other) == []
    assert files_below(cache) == []
    again = mirror(here, there, "proj/data")
    assert outcomes(again) == dict.fromkeys(NAMES, "there")


def test_by_expression_and_dry(daemon: RunningDaemon, other: RunningDaemon) -> None:
    """Only what is meant is copied, and of a dry run nothing."""
    here, there = get_backend(daemon.registry), get_backend(other.registry, staging=other.staging)
    planned = mirror(here, there, "proj/data/>=1,<2", dry_run=True)
    assert outcomes(planned) == {"1": "planned", "v1.5": "planned"}
    assert not os.path.exists(other.path("proj", "data"))
    assert outcomes(mirror(here, there, "proj/data/latest")) == {"0.9-rc.1": "copied"}
    with pytest.raises(Absent, match="proj/data/>7"):
        mirror(here, there, "proj/data/>7")
    with pytest.raises(Absent, match="proj/none"):
        mirror(here, there, "proj/none")
    for spec in ("proj", "proj/", "/data", ""):
        with pytest.raises(Wrong, match="PROJECT/ASSET"):
            mirror(here, there, spec)
    with pytest.raises(ValueError, match="no version"):
        mirror(here, there, "proj/data/>=draft")


def test_the_order_is_that_of_moments_and_not_of_texts(tmp_path: Path, shelf: Path) -> None:
    """A Go service writes local time and whole seconds: what was latest would not be copied last."""
    (tmp_path / "..logs").mkdir()
    times = {"1": "2026-03-01T10:00:00+02:00", "2": "2026-03-01T09:00:00.5Z", "3": "2026-03-01T09:00:00Z"}
    for name, time_ in times.items():
        version = tmp_path / "proj" / "data" / name
        version.mkdir(parents=True)
        (version / "..manifest").write_text("{}")
        (version / "..summary").write_text(
            json.dumps({"upload_user_id": "u", "upload_start": time_, "upload_finish": time_})
        )
    planned = mirror(str(tmp_path), str(shelf), "proj/data", dry_run=True)
    assert [one.version for one in planned] == ["1", "3", "2"]


def test_to_rmellipse_and_back(daemon: RunningDaemon, other: RunningDaemon, shelf: Path) -> None:
    """Lenient names get three numbers there, what is no version is refused, and the way back recognises both."""
    here = get_backend(daemon.registry, staging=daemon.staging)
    done = {one.version: one for one in mirror(here, str(shelf), "proj/data")}
    kept = {name: one.kept_as for name, one in done.items() if one.outcome == "copied"}
    assert kept == {"2": "2.0.0", "1": "1.0.0", "v1.5": "1.5.0", "0.9-rc.1": "0.9.0-rc.1"}
    assert done["draft"].outcome == "failed"
    assert "semantic versions only" in done["draft"].reason
    found = read_archive(shelf, "proj", "data")
    assert set(found) == set(kept.values())
    assert found["1.5.0"] == {**TREE, "name": b"v1.5"}
    back = mirror(str(shelf), here, "proj/data")
    assert {one.version: (one.outcome, one.kept_as) for one in back} == {
        new: ("there", old) for old, new in kept.items()
    }
    mirror(str(shelf), get_backend(other.registry, staging=other.staging), "proj/data/1.5.0")
    assert version_tree(other, "1.5.0") == {**TREE, "name": b"v1.5"}


def test_an_error_of_the_disk_is_a_sentence(
    daemon: RunningDaemon, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong, and where it is known: no number."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/disk")

    monkeypatch.setattr(archive.FileSystemArchive, "put_record", full)
    told = {one.reason for one in mirror(daemon.registry, str(shelf), "proj/data/2")}
    assert told == {"/full/disk: No space left on device"}


def test_an_archive_by_hand_becomes_versions(other: RunningDaemon, tmp_path: Path) -> None:
    """What rmellipse keeps can be moved into a registry."""
    write_archive(tmp_path / "hand", "proj", "fit", "1.0.0")
    done = mirror(str(tmp_path / "hand"), get_backend(other.registry, staging=other.staging), "proj/fit")
    assert outcomes(done) == {"1.0.0": "copied"}
    found = read_tree(other.path("proj", "fit", "1.0.0"))
    assert {name: data for name, data in found.items() if not name.startswith("..")} == SHELF


def test_damage_at_the_source_is_not_spread(
    start_daemon: StartDaemon, other: RunningDaemon, shelf: Path
) -> None:
    """A file that is not what the manifest says stops its release, names itself, and leaves nothing."""
    broken = start_daemon()
    broken.done("create_project", {"project": "proj"})
    broken.upload("proj/data/1", {"f": b"abc", "g": BIG})
    broken.upload("proj/data/2", {"f": b"abc"})
    with open(broken.path("proj", "data", "1", "f"), "r+b") as file:
        file.write(b"abd")
    there = get_backend(other.registry, staging=other.staging)
    for target in (there, str(shelf)):
        done = {one.version: one for one in mirror(broken.registry, target, "proj/data", max_workers=1)}
        assert (done["1"].outcome, done["2"].outcome) == ("failed", "failed")  # 2 links to the same file
        assert '"f" of "proj/data/1" is not what its record says: its md5 is' in done["1"].reason
    assert not os.path.exists(other.path("proj", "data", "1"))
    assert left(other) == []
    assert read_archive(shelf, "proj", "data") == {}


def test_another_release_of_that_name_stays(daemon: RunningDaemon, other: RunningDaemon) -> None:
    """Nothing is overwritten; the others are copied."""
    other.upload("proj/data/1", {**TREE, "name": b"x"})
    done = {one.version: one for one in mirror(daemon.registry, place_of(other, "disk", ""), "proj/data/<3")}
    assert done["1"].outcome == "failed"
    assert "'name'" in done["1"].reason
    assert done["2"].outcome == "copied"
    assert version_tree(other, "1")["name"] == b"x"


def test_on_probation_at_the_target(daemon: RunningDaemon, start_daemon: StartDaemon) -> None:
    """Who is not trusted there is told that the copy waits for approval, and it is not copied again."""
    strict = start_daemon(admins=("nobody-in-particular",))
    os.makedirs(strict.path("proj"))
    with open(strict.path("proj", "..permissions"), "w", encoding="utf-8") as file:
        json.dump({"owners": [], "uploaders": [{"id": "root"}]}, file)
    with open(strict.path("proj", "..usage"), "w", encoding="utf-8") as file:
        json.dump({"total": 0}, file)
    there = place_of(strict, "disk", "")
    [done] = mirror(daemon.registry, there, "proj/data/1")
    assert (done.outcome, done.reason) == ("copied", "it is on probation until an owner approves it")
    assert outcomes(mirror(daemon.registry, there, "proj/data/1")) == {"1": "there"}


def test_only_the_right_staging_directory_is_used(
    daemon: RunningDaemon, other: RunningDaemon, tmp_path: Path
) -> None:
    """A staging directory of another registry is refused before anything is written into it."""
    wrong = get_backend(other.registry, staging=daemon.staging)
    with pytest.raises(Unready, match="is not the staging directory of"):
        mirror(daemon.registry, wrong, "proj/data/1")
    gobbler = Gobbler(daemon.staging, "", url(other), timeout=60)
    with pytest.raises(Unready, match="does not see what is dropped"):
        mirror(daemon.registry, GobblerArchive(gobbler, "there"), "proj/data/1")
    with pytest.raises(Unready, match="is not on this machine"):
        mirror(daemon.registry, get_backend(other.registry, staging="/nowhere"), "proj/data/1")
    assert left(daemon) == left(other) == []
    assert not os.path.exists(other.path("proj", "data"))


def test_no_project_no_bytes(daemon: RunningDaemon, start_daemon: StartDaemon) -> None:
    """Without its project at the target, a release fails before it is copied."""
    empty = start_daemon()
    [done] = mirror(daemon.registry, place_of(empty, "disk", ""), "proj/data/1")
    assert (done.outcome, 'no project "proj"' in done.reason) == ("failed", True)


def test_who_cannot_be_reached_ends_it(shelf: Path) -> None:
    """Not every release by itself."""
    with pytest.raises(GobblerUnreachable):
        mirror("http://127.0.0.1:1", str(shelf), "proj/data")


@pytest.mark.parametrize("target", ["registry", "shelf"])
def test_an_interrupted_mirror_goes_on(
    daemon: RunningDaemon, other: RunningDaemon, shelf: Path, cache: str, target: str
) -> None:
    """What had come over REST is not asked for again, and no part of a release is shown meanwhile."""
    there = place_of(other, "disk", cache) if target == "registry" else get_backend(str(shelf))
    with middleman(daemon.port) as man:
        here = get_backend(man.url, cache=cache)

        def interrupt(path: str, done: int, _size: int) -> None:
            if path.endswith("/big") and done > 1 << 20:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            mirror(here, there, "proj/data/2", each=interrupt)
        assert left(other) == []
        assert not os.path.exists(other.path("proj", "data", "2"))
        assert read_archive(shelf, "proj", "data") == {}
        assert outcomes(mirror(here, there, "proj/data/2")) == {"2": "copied"}
        first, second = man.fetched("big")
        assert first.range is None
        assert second.range is not None
    assert files_below(cache) == []
    if target == "registry":
        assert version_tree(other, "2")["big"] == BIG
    else:
        assert read_archive(shelf, "proj", "data")["2.0.0"] == {**TREE, "name": b"2"}


class _Short:
    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def read(self, _size: int = -1, /) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("pieces", "file", "said"),
    [
        ((b"ab",), ReleaseFile("f", 3), "2 bytes or more, not 3"),
        ((b"ab", b"cd"), ReleaseFile("f", 3), "4 bytes or more, not 3"),
        ((b"abd",), ReleaseFile("f", 3, md5sum="900150983cd24fb0d6963f7d28e17f72"), "its md5 is"),
        ((b"abd",), ReleaseFile("f", 3, sha256="0" * 64), "its sha256 is"),
    ],
)
def test_checked_content(pieces: tuple[bytes, ...], file: ReleaseFile, said: str) -> None:
    """The reader learns at the end, at the latest, that it is not what it should be."""
    source = _Short(*pieces)
    with pytest.raises(archive.Invalid, match=said), Checked(source, "p/a/1", file) as checked:
        list(iter(lambda: checked.read(2), b""))
    assert source.closed


def test_every_file_is_told_of_by_one_thread_at_a_time(daemon: RunningDaemon, shelf: Path) -> None:
    """Progress is counted under a lock."""
    inside = threading.Lock()

    def progress(*_: int) -> None:
        assert inside.acquire(blocking=False)
        inside.release()

    mirror(daemon.registry, str(shelf), "proj/data/2", progress=progress, max_workers=4)


def test_examples_of_the_docstrings() -> None:
    """What the docstrings show is what happens."""
    found = doctest.testmod(mirroring)
    assert (found.attempted > 0, found.failed) == (True, 0)


def test_a_release_has_a_document() -> None:
    """What became of a release is JSON."""
    one = Mirrored("p", "a", "v1", "copied", "1.0.0", 2, 3)
    assert json.loads(json.dumps(one.document()))["kept_as"] == "1.0.0"
    assert Release("p", "a", "v1", ()).title == "a-v1"


COPY = """
import sys
from gobblerd.archive import get_backend, mirror
source, target, staging, cache = sys.argv[1:]
done = mirror(get_backend(source, cache=cache), get_backend(target, staging=staging or None), "proj/data/2")
assert [one.outcome for one in done] == ["copied"] or [one.outcome for one in done] == ["there"], done
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
@pytest.mark.parametrize("target", ["registry", "shelf"])
def test_a_killed_mirror_shows_no_part(
    daemon: RunningDaemon, other: RunningDaemon, shelf: Path, cache: str, target: str, kills: int
) -> None:
    """kill -9 at random moments: a release is there whole or not at all, and the last attempt completes it."""
    chance = random.Random(kills)
    with middleman(daemon.port) as man:
        man.pause = 0.002
        places = [man.url, other.registry if target == "registry" else str(shelf), other.staging, cache]
        if target == "shelf":
            places[2] = ""
        command = [sys.executable, "-P", "-c", COPY, *places]
        environment = {**os.environ, "PYTHONPATH": PROJECT_ROOT}
        for _ in range(kills):
            seen = len(man.seen)
            with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
                eventually(lambda seen=seen: len(man.seen) > seen, "the mirror to begin")
                time.sleep(chance.random() * 0.6)
                process.kill()
            assert set(read_archive(shelf, "proj", "data")) <= {"2.0.0"}
            if os.path.exists(other.path("proj", "data", "2")):
                assert version_tree(other, "2")["big"] == BIG
        man.pause = 0.0
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    if target == "shelf":
        assert read_archive(shelf, "proj", "data") == {"2.0.0": {**TREE, "name": b"2"}}
        assert [path for path in files_below(str(shelf)) if path.endswith(".partial")] == []
    else:
        assert version_tree(other, "2") == {**TREE, "name": b"2"}
    assert [path for path in files_below(cache) if "/REGISTRY/" in path] == []
