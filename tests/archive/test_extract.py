"""Extraction: all of an archive, checked, or nothing at all."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.daemon import eventually
from support.malice import MALICE, Evil, directory, entry, file, link, tar, zipped
from support.receipts import with_receipt

from gobblerd.archive import extract, extract_archive
from gobblerd.domain.errors import Absent, Exceeded, Invalid, Refused, Wrong

TREE = [
    directory("top"),
    file("top/f", b"12345", mode=0o6777, mtime=1_000_000_000),
    file("top/d/g", os.urandom(300_000), mode=0o400),
    link("top/l", "d/g"),
    link("top/d/up", "../d"),
    directory("top/empty"),
]


def archive(tmp_path: Path, data: bytes, name: str = "x.tar") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def nothing_is_left(tmp_path: Path, *but: str) -> None:
    assert sorted(os.listdir(tmp_path)) == sorted(but)


SOUND = [directory("top"), file("top/f", b"12345"), link("top/l", "f"), directory("top/empty")]


@pytest.mark.parametrize("evil", MALICE, ids=lambda evil: evil.id)
def test_malice_is_refused(tmp_path: Path, evil: Evil) -> None:
    """With the member named, and nothing left on disk, beside the target neither."""
    path = archive(tmp_path, evil.data, f"evil.{evil.suffix}")
    with pytest.raises(Refused) as refused:
        extract_archive(path, tmp_path / "target")
    assert evil.says in refused.value.reason
    nothing_is_left(tmp_path, path.name)


def test_what_is_extracted(tmp_path: Path) -> None:
    """Bytes, links, empty directories, times; modes without set-id bits, writable to the owner only."""
    done = extract_archive(archive(tmp_path, tar(*TREE)), tmp_path / "target")
    top = tmp_path / "target" / "top"
    assert (done.path, done.files, done.size) == (str(tmp_path / "target"), 2, 300_005)
    assert sorted(os.listdir(top)) == ["d", "empty", "f", "l"]
    assert (top / "d/g").read_bytes() == TREE[2][1]
    assert os.readlink(top / "l") == "d/g"
    assert (top / "f").stat().st_mtime == 1_000_000_000
    assert {name: stat.S_IMODE((top / name).stat().st_mode) for name in ("f", "d/g", "empty", "d", ".")} == {
        "f": 0o755,
        "d/g": 0o600,
        "empty": 0o755,
        "d": 0o755,
        ".": 0o755,
    }
    nothing_is_left(tmp_path, "x.tar", "target")


@pytest.mark.parametrize(("umask", "modes"), [(0o077, (0o700, 0o700, 0o600)), (0o022, (0o755, 0o755, 0o600))])
def test_modes_are_the_archives_less_what_the_umask_forbids(
    tmp_path: Path, umask: int, modes: tuple[int, ...]
) -> None:
    """What is private where it came from must not become readable to all by being carried."""
    path = archive(tmp_path, tar(*TREE))
    old = os.umask(umask)
    try:
        extract_archive(path, tmp_path / "target")
        assert os.umask(umask) == umask
    finally:
        os.umask(old)
    found = [stat.S_IMODE((tmp_path / "target" / at).stat().st_mode) for at in ("top/d", "top/f", "top/d/g")]
    assert tuple(found) == modes


def test_an_empty_target_is_replaced(tmp_path: Path) -> None:
    """One that holds something, or is no directory, is refused and left as it is."""
    path = archive(tmp_path, tar(*TREE))
    (tmp_path / "target").mkdir()
    extract_archive(path, tmp_path / "target")
    with pytest.raises(Wrong, match="not an empty directory"):
        extract_archive(path, tmp_path / "target")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(Wrong, match="not an empty directory"):
            extract_archive(path, tmp_path / name)
    nothing_is_left(tmp_path, "x.tar", "target", "file", "link")


def test_what_is_not_there(tmp_path: Path) -> None:
    """The archive, the directory to extract into, a file."""
    with pytest.raises(Absent, match="no archive"):
        extract_archive(tmp_path / "none", tmp_path / "target")
    path = archive(tmp_path, tar(*TREE))
    with pytest.raises(Wrong, match="no directory"):
        extract_archive(path, tmp_path / "none" / "target")
    with pytest.raises(Wrong, match="not a file"):
        extract_archive(tmp_path, tmp_path / "target")


# ---- limits


def test_members_are_limited(tmp_path: Path) -> None:
    """Directories that are only implied count."""
    path = archive(tmp_path, tar(file("top/a/b/c")))
    with pytest.raises(Exceeded, match="top/a/b/c"):
        extract_archive(path, tmp_path / "target", max_members=3)
    extract_archive(path, tmp_path / "target", max_members=4)


def test_size_is_limited_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 GiB by default; the member that is too much is named."""
    monkeypatch.setattr("gobblerd.archive.limits.SIZE", 300_000)
    path = archive(tmp_path, tar(*TREE))
    with pytest.raises(Exceeded, match="top/d/g"):
        extract_archive(path, tmp_path / "target")
    extract_archive(path, tmp_path / "target", allow_large=True)


def test_room_is_checked_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes with the reserve, and inodes."""
    path = archive(tmp_path, tar(*TREE))
    with pytest.raises(Exceeded, match="stay free"):
        extract_archive(path, tmp_path / "target", reserve=1 << 60)
    monkeypatch.setattr(extract, "RESERVED_INODES", 1 << 60)
    if os.statvfs(tmp_path).f_files:
        with pytest.raises(Exceeded, match="files and directories"):
            extract_archive(path, tmp_path / "target")
    nothing_is_left(tmp_path, "x.tar")


# ---- receipts


def test_with_a_receipt(tmp_path: Path) -> None:
    """It is found beside the archive, and required if asked for."""
    path = archive(tmp_path, tar(*SOUND))
    with pytest.raises(Invalid, match="no receipt"):
        extract_archive(path, tmp_path / "target", require_sha256=True)
    with_receipt(path, SOUND)
    ticks: list[tuple[int, int]] = []
    extract_archive(path, tmp_path / "target", require_sha256=True, progress=lambda *t: ticks.append(t))
    assert ticks == sorted(ticks)
    assert ticks[-1][0] == ticks[-1][1]


@pytest.mark.parametrize("which", ["digest", "member", "manifest"])
def test_what_differs_is_not_extracted(tmp_path: Path, which: str) -> None:
    """From the receipt's digest, from its inventory, from the manifest inside."""
    tree = [*SOUND, file("top/..manifest", b"{}")] if which == "manifest" else SOUND
    path = archive(tmp_path, tar(*tree))
    if which == "digest":
        with_receipt(path, SOUND, sha256="0" * 64)
    elif which == "member":
        with_receipt(path, [*SOUND[:-1], file("top/more", b"")])
    with pytest.raises(Invalid, match="not what is said of it"):
        extract_archive(path, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert not list(tmp_path.glob(".gobbler*"))


def test_a_receipt_that_is_none(tmp_path: Path) -> None:
    """422 rather than ignored."""
    path = archive(tmp_path, tar(*TREE))
    archive(tmp_path, b"{}", "x.tar.receipt.json")
    with pytest.raises(Invalid, match="_type"):
        extract_archive(path, tmp_path / "target")


# ---- interruption


def test_nothing_is_left_after_an_interruption(tmp_path: Path) -> None:
    """Whatever the progress callback raises."""
    path = archive(tmp_path, tar(*[file(f"top/{n}", os.urandom(300_000)) for n in range(9)]))
    seen = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal seen
        seen = max(seen, len(list(tmp_path.glob(".gobbler*"))))
        if done > total * 3 // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_archive(path, tmp_path / "target", progress=interrupt)
    assert seen == 1
    nothing_is_left(tmp_path, "x.tar")


SLOW = """
import sys, time
from gobblerd.archive import extract_archive
def progress(done, total):
    if done > total // 2:
        print("half", flush=True)
        time.sleep(0.01)
extract_archive(sys.argv[1], sys.argv[2], progress=progress)
"""


def test_nothing_is_left_after_ctrl_c(tmp_path: Path) -> None:
    """A real SIGINT to a real process, in the middle of writing."""
    path = archive(tmp_path, tar(*[file(f"top/{n}", os.urandom(400_000)) for n in range(40)]))
    command = [sys.executable, "-c", SLOW, str(path), str(tmp_path / "target")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".gobbler*")) and time.monotonic() < deadline:
            time.sleep(0.001)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode != 0
    nothing_is_left(tmp_path, "x.tar")


def test_what_a_killed_one_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    """Before it looks whether there is room; what somebody else extracts beside it stays."""
    path = archive(tmp_path, tar(*[file(f"top/{n}", os.urandom(400_000)) for n in range(40)]))

    def extracting(target: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", SLOW, str(path), str(tmp_path / target)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        return process

    with extracting("target") as killed:
        eventually(lambda: list(tmp_path.glob(".gobblerd-*/content/top/*")), "a file to be written")
        killed.kill()
        killed.communicate()
    left = {*tmp_path.glob(".gobblerd-*")}
    assert len(left) == 1
    with extracting("beside") as beside:
        eventually(lambda: {*tmp_path.glob(".gobblerd-*")} - left, "the other to begin")
        with pytest.raises(Exceeded, match="stay free"):
            extract_archive(path, tmp_path / "target", reserve=1 << 60)
        assert not left & {*tmp_path.iterdir()}
        assert extract_archive(path, tmp_path / "target").files == 40
        beside.communicate()
    assert beside.returncode == 0
    nothing_is_left(tmp_path, "x.tar", "target", "beside")


def test_somebody_takes_the_target_meanwhile(tmp_path: Path) -> None:
    """Their directory stays as it is."""
    path = archive(tmp_path, tar(*TREE))

    def take(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "target").mkdir(exist_ok=True)
            (tmp_path / "target/theirs").touch()

    with pytest.raises(Wrong, match="could not be put in its place"):
        extract_archive(path, tmp_path / "target", progress=take)
    assert os.listdir(tmp_path / "target") == ["theirs"]
    nothing_is_left(tmp_path, "x.tar", "target")


@pytest.mark.parametrize("mtime", [-5, 2**62, 1_700_000_000])
def test_impossible_times(tmp_path: Path, mtime: Any) -> None:
    """A time that no system call takes is no reason to fail."""
    extract_archive(archive(tmp_path, tar(file("top/f", mtime=mtime))), tmp_path / "target")


def test_a_zip_without_modes(tmp_path: Path) -> None:
    """As Windows makes it: 0644 and 0755."""
    first, second = entry("top/d/"), entry("top/d/f")
    for each in (first, second):
        each.create_system, each.external_attr = 0, 0x10 if each is first else 0
    extract_archive(archive(tmp_path, zipped((first, b""), (second, b"1"))), tmp_path / "target")
    assert stat.S_IMODE((tmp_path / "target/top/d/f").stat().st_mode) == 0o644
