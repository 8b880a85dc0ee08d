"""gobblerd.registry.feasible: what could not be done after the commit is refused before it."""

import contextlib
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from support.bench import Bench
from support.obstacles import immutable, mounted
from support.places import Users, open_directory

from gobblerd.domain.errors import Fault
from gobblerd.registry.feasible import check_feasible
from gobblerd.registry.record import Step
from gobblerd.registry.transaction import Plan
from gobblerd.storage.attributes import APPEND_ONLY

A1 = {"project": "p", "asset": "a", "version": "1"}
A2 = {"project": "p", "asset": "a", "version": "2"}
QUOTA = {"project": "p", "baseline": 1, "growth_rate": 1, "year": 2020}


@pytest.fixture(autouse=True)
def filled(bench: Bench) -> None:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"1"})
    bench.upload("p/a/2", {"f": b"23"})
    bench.source("s", {"g": b"new"})


@contextlib.contextmanager
def directory(place: Path) -> Iterator[None]:
    """Have a directory where a document was."""
    place.rename(place.with_name("..before"))
    place.mkdir()
    yield
    place.rmdir()
    place.with_name("..before").rename(place)


def append_only(place: Path) -> AbstractContextManager[None]:
    return immutable(place, APPEND_ONLY)


Obstacle = Callable[[Path], AbstractContextManager[None]]
UPLOAD = {"project": "p", "asset": "a", "version": "3", "source": "s"}
CASES: list[tuple[str, Obstacle, str, dict[str, Any]]] = [
    ("p/..quota", directory, "set_quota", QUOTA),
    ("p/..usage", directory, "refresh_usage", {"project": "p"}),
    ("p/a/..latest", directory, "refresh_latest", {"project": "p", "asset": "a"}),
    ("p/a/2/..manifest", directory, "reindex_version", A2),
    ("p/a/2/..checksums", directory, "reindex_version", A2),
    ("p/..usage", immutable, "delete_version", A1),
    ("p/..usage", append_only, "upload", UPLOAD),
    ("p/..usage", mounted, "delete_asset", {"project": "p", "asset": "a"}),
    ("p/..permissions", immutable, "set_permissions", {"project": "p", "permissions": {"owners": ["x"]}}),
    ("p/a/..latest", immutable, "upload", UPLOAD),
    ("p/a/..latest", mounted, "delete_version", A2),
    ("p/a", append_only, "upload", UPLOAD),
    ("p/a", mounted, "upload", UPLOAD),
    ("p/a", mounted, "delete_asset", {"project": "p", "asset": "a"}),
    ("p", mounted, "delete_project", {"project": "p"}),
]


@pytest.mark.parametrize(("path", "obstacle", "action", "fields"), CASES)
def test_what_is_in_the_way_is_named(
    bench: Bench, path: str, obstacle: Obstacle, action: str, fields: dict[str, Any]
) -> None:
    """Nothing is committed and nothing changes; when it is out of the way, the same request succeeds."""
    before = bench.snapshot()
    with obstacle(bench.root / path):
        during = bench.snapshot()
        with pytest.raises(Fault, match=f'{path}" cannot be replaced or moved: .*; '):
            bench.run(action, **fields)
        assert bench.snapshot() == during
        assert os.listdir(bench.root / "..transactions/committed") == []
    assert bench.snapshot() == before
    if obstacle is not directory or not action.startswith("refresh"):
        bench.run(action, **fields)


def test_a_usage_that_cannot_be_locked(bench: Bench) -> None:
    """Its lock is taken after the commit, and looked at before; who holds the project needs none."""
    lock = bench.root / "p/..LOCK_USAGE"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    for action, fields in (("upload", UPLOAD), ("delete_version", A1)):
        with pytest.raises(Fault, match=r'"p/\.\.LOCK_USAGE" cannot be locked: Is a directory'):
            bench.run(action, **fields)
        assert os.listdir(bench.root / "..transactions/committed") == []
    bench.run("delete_asset", project="p", asset="a")


def test_no_room_for_what_is_applied(bench: Bench) -> None:
    """A record that could not be moved there would be tried for ever; a missing directory is made."""
    applied = bench.root / "..transactions/applied"
    with immutable(applied), pytest.raises(Fault, match=r'applied" cannot be written to: .*chattr -i it'):
        bench.run("set_quota", **QUOTA)
    assert os.listdir(bench.root / "..transactions/committed") == []
    applied.rmdir()
    bench.run("set_quota", **QUOTA)
    assert applied.is_dir()


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_no_room_for_events(bench: Bench, kind: str) -> None:
    """What has an event is refused where `..logs` cannot take it; what has none is done."""
    logs = bench.root / "..logs"
    logs.rename(bench.root / "..kept")
    logs.write_bytes(b"") if kind == "file" else logs.symlink_to("nowhere")
    with pytest.raises(Fault, match=r'\.\.logs" cannot be written to'):
        bench.run("upload", **UPLOAD)
    assert os.listdir(bench.root / "..transactions/committed") == []
    bench.run("set_quota", **QUOTA)
    logs.unlink()
    bench.run("upload", **UPLOAD)
    assert len(os.listdir(logs)) == 1


def test_a_sticky_directory(users: Users) -> None:
    """Who is neither the owner of a file nor of its sticky directory may write there, but not replace it."""
    plan = Plan(steps=[Step("write", "p/..quota", content="{}")])
    with open_directory() as root:
        project = Path(root, "p")
        project.mkdir()
        project.chmod(0o1777)
        (project / "..quota").touch()
        check_feasible(root, plan)
        os.seteuid(pwd.getpwnam(users.alice).pw_uid)
        try:
            with pytest.raises(Fault, match="another account, and so does its sticky directory; chown both"):
                check_feasible(root, plan)
        finally:
            os.seteuid(0)
