"""A tree is made durable file by file or all at once, and a failure is never silent."""

import ctypes
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.images import plain_disk

from gobblerd.storage import sync
from gobblerd.storage.files import Durability
from gobblerd.storage.sync import MANY_FILES, Disk, TreeSync, filesystem_type


class FakeLibc:
    """A C library whose syncfs says what it is told to."""

    def __init__(self, result: int) -> None:
        self.result = result
        self.synced: list[int] = []

    def syncfs(self, fd: int) -> int:
        self.synced.append(os.fstat(fd).st_ino)
        return self.result


@pytest.fixture
def trees(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of trees that were synced file by file."""
    found: list[str] = []
    monkeypatch.setattr(sync, "sync_tree", lambda path, **_: found.append(path))
    return found


def libc(monkeypatch: pytest.MonkeyPatch, result: int = 0) -> FakeLibc:
    fake = FakeLibc(result)

    def load(*_: Any, **__: Any) -> FakeLibc:
        return fake

    monkeypatch.setattr(ctypes, "CDLL", load)
    return fake


def disk(root: Path, *, durability: Durability = Durability.FULL, whole: bool = True) -> Disk:
    return Disk(str(root), durability, ordered=True, syncs_whole=whole)


def test_many_files_are_synced_at_once(
    tmp_path: Path, trees: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the filesystem that holds them; few are synced one by one."""
    fake = libc(monkeypatch)
    with TreeSync(disk(tmp_path), str(tmp_path / "t")) as tree:
        tree.sync(MANY_FILES)
        assert fake.synced == [tmp_path.stat().st_ino]
        assert trees == []
        tree.sync(MANY_FILES - 1)
    assert trees == [str(tmp_path / "t")]
    assert len(fake.synced) == 1


def test_where_syncfs_hides_errors_it_is_not_used(
    tmp_path: Path, trees: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network filesystems and old kernels: file by file, however many."""
    fake = libc(monkeypatch)
    with TreeSync(disk(tmp_path, whole=False), "t") as tree:
        tree.sync(10**6)
    assert (trees, fake.synced) == (["t"], [])


def test_without_durability_nothing_is_synced(
    tmp_path: Path, trees: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`process` survives the daemon's death only."""
    fake = libc(monkeypatch)
    with TreeSync(disk(tmp_path, durability=Durability.PROCESS), "t") as tree:
        tree.sync(10**6)
    assert (trees, fake.synced) == ([], [])
    assert not disk(tmp_path, durability=Durability.PROCESS).is_durable


def test_a_failing_sync_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO reaches the caller, who has committed nothing yet."""
    libc(monkeypatch, -1)
    monkeypatch.setattr(ctypes, "get_errno", lambda: 5)
    with TreeSync(disk(tmp_path), "t") as tree, pytest.raises(OSError, match="Input/output"):
        tree.sync(MANY_FILES)


@pytest.mark.parametrize("size", [0, 4096, 64 << 10])
def test_of_many_small_files_the_first_are_synced_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """While the others are written; the sync at the end is made in any case, and large files are not counted."""
    fake = libc(monkeypatch)
    with TreeSync(disk(tmp_path), str(tmp_path)) as tree:
        for _ in range(500):
            tree.wrote(1 << 20)
        tree.wrote(size)
        assert fake.synced == []
        for _ in range(3000):
            tree.wrote(size)
        tree.sync(MANY_FILES)
        assert len(fake.synced) >= 2
        ahead = len(fake.synced)
        tree.sync(MANY_FILES)
        assert fake.synced == [tmp_path.stat().st_ino] * (ahead + 1)


@pytest.mark.parametrize("is_told_at_once", [True, False])
def test_a_sync_ahead_that_fails_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_told_at_once: bool
) -> None:
    """The kernel tells of it once: the sync at the end would succeed."""
    fake = libc(monkeypatch, -1)
    monkeypatch.setattr(ctypes, "get_errno", lambda: 5)

    def write() -> None:
        with TreeSync(disk(tmp_path), str(tmp_path)) as tree:
            for _ in range(3000):
                tree.wrote(1)
            while not fake.synced:
                time.sleep(0.001)
            fake.result = 0
            if is_told_at_once:
                for _ in range(1_000_000):
                    tree.wrote(1)
            tree.sync(MANY_FILES)

    with pytest.raises(OSError, match="Input/output"):
        write()
    assert (len(fake.synced), fake.result) == (1, 0)


def test_nobody_syncs_any_more_when_the_block_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it ends: the descriptor may be another file's then."""
    fake, go_on = libc(monkeypatch), threading.Event()

    def slow(fd: int) -> int:
        go_on.wait(60)
        return fake.syncfs(fd)

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(syncfs=slow))

    def write() -> None:
        with TreeSync(disk(tmp_path), str(tmp_path)) as tree:
            for _ in range(3000):
                tree.wrote(1)
            threading.Timer(0.1, go_on.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sync")] == []
    assert fake.synced in ([], [tmp_path.stat().st_ino])  # it may not have begun


@pytest.mark.parametrize("durability", [*Durability])
def test_where_syncfs_is_not_used_nothing_is_synced_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability
) -> None:
    """Nor at `process`."""
    fake = libc(monkeypatch)
    whole = durability is Durability.PROCESS
    with TreeSync(disk(tmp_path, durability=durability, whole=whole), str(tmp_path)) as tree:
        for _ in range(10_000):
            tree.wrote(4096)
    assert fake.synced == []


def test_no_descriptor_stays(tmp_path: Path) -> None:
    """The one that was opened before the first write goes at the end."""
    before = len(os.listdir("/proc/self/fd"))
    with TreeSync(disk(tmp_path), "t"):
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before


def test_syncfs_is_really_called(tmp_path: Path) -> None:
    """The C library has it, and takes our descriptor."""
    with TreeSync(disk(tmp_path), str(tmp_path)) as tree:
        tree.sync(MANY_FILES)


@pytest.mark.parametrize(("path", "kind"), [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/shm", "tmpfs")])
def test_types_of_filesystems(path: str, kind: str) -> None:
    """The innermost mount counts."""
    if not os.path.ismount(path):
        pytest.skip(f"{path} is not mounted here (NOT TESTED on this run)")
    assert filesystem_type(path) == kind


def test_what_is_known_of_a_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """syncfs is trusted on ext4, XFS and btrfs from Linux 5.8 on; renames are ordered by a journal."""
    table = {
        ("ext4", (6, 1)): (True, True),
        ("ext4 without a journal", (6, 1)): (False, True),
        ("ext4", (5, 7)): (True, False),
        ("btrfs", (5, 8)): (False, True),
        ("tmpfs", (6, 1)): (True, False),
        ("nfs4", (6, 1)): (False, False),
        ("", (6, 1)): (False, False),
    }
    for (kind, kernel), expected in table.items():
        monkeypatch.setattr(sync, "filesystem_type", lambda _, kind=kind: kind.partition(" ")[0])
        monkeypatch.setattr(sync, "_has_journal", lambda _, kind=kind: kind == "ext4")
        monkeypatch.setattr(sync, "_kernel_version", lambda kernel=kernel: kernel)
        found = Disk.of(str(tmp_path), Durability.FULL)
        assert (found.ordered, found.syncs_whole) == expected


@pytest.mark.parametrize("journal", [True, False])
def test_an_ext4_without_a_journal_orders_nothing(*, journal: bool) -> None:
    """Then every file and directory is synced by itself."""
    with plain_disk("64M", journal=journal) as path:
        assert Disk.of(path, Durability.FULL).ordered is journal


@pytest.mark.parametrize(
    ("durability", "ordered", "how"),
    [
        (Durability.FULL, True, ["write_back"]),
        (Durability.FULL, False, ["sync_all"]),
        (Durability.PROCESS, True, []),
        (Durability.PROCESS, False, []),
    ],
)
def test_settling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Durability, *, ordered: bool, how: list[str]
) -> None:
    """One journal in order makes the rest durable with what is synced next; elsewhere each file is synced."""
    done: list[str] = []
    for name in ("sync_all", "write_back"):
        monkeypatch.setattr(sync, name, lambda _, name=name: done.append(name))
    disk = Disk(str(tmp_path), durability, ordered=ordered, syncs_whole=False)
    disk.settle(3)
    assert done == how
    disk.settle_all([])
    disk.settle_all([3, 4])
    assert done == how * 2
    assert disk.syncs_names is (durability is Durability.FULL and not ordered)
