"""Uploads from outside staging: what is copied is what was there, checked, and cleaned up whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, eventually
from support.places import Symlink, Tree, open_directory, read_tree, write_tree

from gobblerd.client import GobblerError, copying, upload_directory, uploading
from gobblerd.client.parallel import Stopped, for_each


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "proj"})
    daemon.upload("proj/base/1", {"f": b"in the registry"})
    return daemon


@pytest.fixture
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


class Desk:
    """Uploads as the next version of an asset, and looks at what it has become."""

    def __init__(self, daemon: RunningDaemon, base: str) -> None:
        self.daemon, self.base = daemon, base
        self.source = os.path.join(base, "source")
        self.asset = f"asset-{os.path.basename(base)}"
        self._before = set(os.listdir(daemon.staging))

    def upload(self, tree: Tree | None = None, version: str = "1", **options: Any) -> dict[str, Any]:
        if tree is not None:
            write_tree(self.source, tree)
        self.send(version, **options)
        found: dict[str, Any] = self.daemon.read("proj", self.asset, version, "..manifest")
        return found

    def send(self, version: str = "1", directory: str | None = None, **options: Any) -> None:
        url = f"http://127.0.0.1:{self.daemon.port}"
        upload_directory(
            "proj", self.asset, version, directory or self.source, self.daemon.staging, url, **options
        )

    def left(self) -> list[str]:
        """Return what is in staging that was not there before."""
        return sorted(set(os.listdir(self.daemon.staging)) - self._before)


@pytest.fixture
def desk(daemon: RunningDaemon, base: str) -> Desk:
    return Desk(daemon, base)


def test_everything_is_kept(desk: Desk) -> None:
    """Files, empty directories and links arrive; the source stays as it was, the copy goes."""
    tree: Tree = {
        "a": b"a",
        "deep/er/b": b"b" * (3 << 20),
        "none/in": None,
        "up": Symlink("deep/er/b"),
        "deep/d": Symlink("../a"),
    }
    manifest = desk.upload(tree, concurrent=3)
    assert set(manifest) == {"a", "deep/er/b", "none/in", "up", "deep/d"}
    assert manifest["up"]["link"]["path"] == "deep/er/b"
    assert manifest["deep/d"]["link"]["path"] == "a"
    assert read_tree(desk.source) == tree
    assert desk.left() == []


@pytest.mark.parametrize("ignore_dot", [True, False])
def test_names_with_dots(desk: Desk, ignore_dot: bool) -> None:  # noqa: FBT001 - a parameter
    """Names with two dots are never copied, names with one only if they are asked for."""
    tree: Tree = {
        "a": b"a",
        ".dot": b"dot",
        ".git/x": b"x",
        "..own": b"o",
        "sub/..links": b"l",
        "sub/b": b"b",
    }
    copied: list[int] = []
    manifest = desk.upload(tree, ignore_dot=ignore_dot, progress=lambda _, files, *__: copied.append(files))
    assert set(manifest) == {"a", "sub/b"} | (set() if ignore_dot else {".dot", ".git/x"})
    assert set(copied) == {len(manifest)}


def test_links_go_where_they_went(desk: Desk) -> None:
    """Links out of the tree still go to the registry, absolute or not; absolute ones into the tree stay in it."""
    target = desk.daemon.path("proj/base/1/f")
    os.makedirs(desk.source)
    tree: Tree = {
        "absolute": Symlink(target),
        "relative": Symlink(os.path.relpath(target, desk.source)),
        "sub/relative": Symlink(os.path.relpath(target, os.path.join(desk.source, "sub"))),
        "sub/inside": Symlink(os.path.join(desk.source, "file")),
        "file": b"file",
    }
    manifest = desk.upload(tree)
    there = {"project": "proj", "asset": "base", "version": "1", "path": "f"}
    assert [manifest[name]["link"] for name in ("absolute", "relative", "sub/relative")] == [there] * 3
    assert manifest["sub/inside"]["link"]["path"] == "file"


def test_linked_directory_is_not_entered(desk: Desk) -> None:
    """A symbolic link to a directory is not followed: the daemon refuses it by its name, and nothing is left."""
    write_tree(os.path.join(desk.base, "elsewhere"), {"secret": b"secret"})
    with pytest.raises(GobblerError, match="linked") as caught:
        desk.upload({"a": b"a", "linked": Symlink("../elsewhere"), "loop": Symlink(".")})
    assert caught.value.code == 400
    assert desk.left() == []


@pytest.mark.parametrize("depth", ["", "sub"])
def test_from_inside_staging(desk: Desk, depth: str) -> None:
    """A directory directly in staging is not copied and stays; one deeper in it is copied as from anywhere else."""
    inside = os.path.join(desk.daemon.staging, "mine")
    write_tree(os.path.join(inside, depth), {"a": b"a"})
    told: list[Any] = []
    desk.send(directory=os.path.join(inside, depth, ""), progress=lambda *numbers: told.append(numbers))
    assert bool(told) == bool(depth)
    assert read_tree(os.path.join(inside, depth)) == {"a": b"a"}
    assert set(desk.daemon.read("proj", desk.asset, "1", "..manifest")) == {"a"}
    desk.send("2", directory=os.path.join(inside, depth), consume=True)
    os.unlink(os.path.join(inside, depth, "a"))
    os.removedirs(os.path.join(inside, depth))


def test_relative_paths(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Staging and source may be named relative to where one is, in whatever way."""
    write_tree(os.path.join(desk.daemon.staging, "mine"), {"a": b"a"})
    monkeypatch.chdir(desk.daemon.staging)
    url = f"http://127.0.0.1:{desk.daemon.port}"
    upload_directory("proj", desk.asset, "1", "./mine", ".", url, consume=True)
    assert os.listdir("mine") == []
    os.rmdir("mine")


def test_rights_are_the_umask_s(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that only its owner may read is copied so that the daemon may read it too."""
    write_tree(desk.source, {"private": b"p", "sub/p": b"p"})
    for path in ("private", "sub/p", "sub"):
        os.chmod(os.path.join(desk.source, path), 0o700)
    modes: list[int] = []

    def look(copy: str) -> None:
        modes.extend(
            os.stat(os.path.join(copy, path)).st_mode & 0o777 for path in ("private", "sub/p", "sub", ".")
        )
        remove(copy)

    remove = uploading._remove
    monkeypatch.setattr(uploading, "_remove", look)
    desk.upload(consume=False)
    assert modes == [0o644, 0o644, 0o755, 0o755]


def test_progress(desk: Desk) -> None:
    """Progress begins with nothing, ends with everything, and only grows, also with several threads."""
    told: list[tuple[int, int, int, int]] = []
    tree: Tree = {str(n): b"x" * (n << 16) for n in range(40)}
    desk.upload(tree, concurrent=4, progress=lambda *numbers: told.append(numbers))
    size = sum(len(content) for content in tree.values() if isinstance(content, bytes))
    assert told[0] == (0, 40, 0, size)
    assert told[-1] == (40, 40, size, size)
    assert told == sorted(told, key=lambda numbers: numbers[2])


def test_what_cannot_be_uploaded(desk: Desk) -> None:
    """A FIFO, an absent directory, a file, and what holds staging itself are refused before anything is asked."""
    write_tree(desk.source, {"a": b"a"})
    os.mkfifo(os.path.join(desk.source, "fifo"))
    with pytest.raises(ValueError, match="fifo"):
        desk.send()
    for directory, error in (
        (os.path.join(desk.base, "absent"), FileNotFoundError),
        (os.path.join(desk.source, "a"), NotADirectoryError),
        (desk.daemon.staging, ValueError),
        (os.path.dirname(desk.daemon.staging), ValueError),
        (os.path.join(desk.daemon.staging, "absent"), NotADirectoryError),
    ):
        with pytest.raises(error):
            desk.send(directory=directory)
    assert desk.left() == []


def test_refused_upload_leaves_nothing(desk: Desk) -> None:
    """After a refusal the copy and the request are gone."""
    desk.upload({"a": b"a"})
    with pytest.raises(GobblerError, match="exists"):
        desk.upload()
    assert desk.left() == []


def test_damaged_copy_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that is not what was read (pygobbler would take it) is an error, and nothing is uploaded."""
    write = copying._write_all
    monkeypatch.setattr(copying, "_write_all", lambda fd, data: write(fd, data[:-1] + b"\0"))
    with pytest.raises(ValueError, match="damaged"):
        desk.upload({"a": b"content"})
    monkeypatch.setattr(copying, "_write_all", lambda fd, data: write(fd, data[:-1]))
    with pytest.raises(ValueError, match="damaged"):
        desk.send()
    assert desk.left() == []


def test_file_that_changes_is_noticed(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that grows while it is copied is an error, not a mixture."""
    write_tree(desk.source, {"a": b"content"})
    write = copying._write_all

    def grow(fd: int, data: bytes) -> None:
        write(fd, data)
        if data == b"content":
            with open(os.path.join(desk.source, "a"), "ab") as file:
                file.write(b"more")

    monkeypatch.setattr(copying, "_write_all", grow)
    with pytest.raises(ValueError, match="changed while"):
        desk.send()
    assert desk.left() == []


UPLOAD = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever the shell that started us ignores
from gobblerd.client import upload_directory
slowly = lambda done, *_: (os.write(1, b"%d\\n" % done), time.sleep(0.02))
upload_directory("proj", "asset", "1", sys.argv[1], sys.argv[2], None, concurrent=int(sys.argv[3]), progress=slowly)
"""


@pytest.mark.parametrize("concurrent", [1, 3])
def test_interrupted_copy_is_removed(desk: Desk, concurrent: int) -> None:
    """Ctrl-C in the middle of copying, with threads or without, leaves neither directory nor request behind."""
    write_tree(desk.source, {str(n): b"x" * 1000 for n in range(300)})
    command = [sys.executable, "-P", "-c", UPLOAD, desk.source, desk.daemon.staging, str(concurrent)]
    environment = {**os.environ, "PYTHONPATH": PROJECT_ROOT}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        copies = eventually(desk.left, "the copying to begin")
        eventually(lambda: len(os.listdir(os.path.join(desk.daemon.staging, copies[0]))) > 5, "some files")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert err.strip().endswith(b"KeyboardInterrupt")
    assert int(out.split()[-1]) < 300, "nothing goes on copying"
    assert desk.left() == []


def test_first_error_ends_all_threads() -> None:
    """When one thread fails, the others end at their next check, and the failure is what the caller sees."""
    begun = threading.Barrier(3)

    def work(item: int, stop: Any) -> None:
        begun.wait(10)
        if item == 0:
            raise LookupError(item)
        for _ in range(10_000):
            stop.pause(0.01)
        raise AssertionError("nobody told this thread to end")

    with pytest.raises(LookupError):
        for_each(range(100), work, 3)
    assert issubclass(Stopped, Exception)
