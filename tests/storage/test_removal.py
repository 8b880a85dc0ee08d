"""Removing a tree that others may be changing."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from gobblerd.storage.removal import remove_tree, remove_tree_beneath


@pytest.fixture
def top(tmp_path: Path) -> int:
    return os.open(tmp_path, os.O_RDONLY)


def make_deep(path: Path, levels: int) -> None:
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_a_tree_deeper_than_any_path_goes(tmp_path: Path, top: int) -> None:
    """5,000 levels: no recursion, no descriptor per level, no path."""
    make_deep(tmp_path / "tree", 5_000)
    try:
        remove_tree_beneath(top, "tree")
        assert not (tmp_path / "tree").exists()
    finally:  # else pytest fails to remove it, and so does the next session
        subprocess.run(["rm", "-rf", tmp_path / "tree"], check=True)


def test_links_are_removed_not_followed(tmp_path: Path, top: int) -> None:
    """Neither inside the tree nor at its top."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "precious")
    (tmp_path / "link").symlink_to("precious")
    remove_tree_beneath(top, "tree")
    with pytest.raises(NotADirectoryError):
        remove_tree_beneath(top, "link")
    assert (tmp_path / "precious" / "file").exists()


def test_what_takes_too_long_is_left_to_the_next_time(
    tmp_path: Path, top: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may fill it as fast as it is removed."""
    (tmp_path / "tree" / "a" / "b").mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr("gobblerd.storage.removal._SECONDS_MOST", -1.0)
        with pytest.raises(OSError, match="next time"):
            remove_tree_beneath(top, "tree")
    remove_tree_beneath(top, "tree")
    assert os.listdir(tmp_path) == []


def test_names_like_our_own_do_not_disturb(tmp_path: Path, top: int) -> None:
    """The names we move directories to may be taken."""
    for name in (".gobblerd-purged-0", ".gobblerd-purged-1/sub", "a/.gobblerd-purged-0/b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
    (tmp_path / "tree" / "a" / ".gobblerd-purged-1").touch()
    remove_tree_beneath(top, "tree")
    assert os.listdir(tmp_path) == []


def test_an_owner_who_swaps_directories_for_links_gains_nothing(tmp_path: Path, top: int) -> None:
    """While we remove, directories become links to something precious and back."""
    (tmp_path / "precious").mkdir()
    for n in range(50):
        (tmp_path / "precious" / f"file{n}").touch()
    stop = threading.Event()
    tree = tmp_path / "tree"

    def swap() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            try:
                (tree / "d").mkdir(parents=True, exist_ok=True)
                os.rename(tree / "d", tree / f"old{n % 3}")
                (tree / "d").symlink_to(tmp_path / "precious")
                (tree / "d").unlink()
            except OSError:
                continue

    thread = threading.Thread(target=swap)
    thread.start()
    for _ in range(200):
        try:
            remove_tree_beneath(top, "tree")
        except OSError:
            continue
    stop.set()
    thread.join()
    assert len(os.listdir(tmp_path / "precious")) == 50


def test_a_tree_of_our_own_may_be_deep(tmp_path: Path) -> None:
    """Deeper than the interpreter recurses."""
    make_deep(tmp_path / "d", 1200)
    remove_tree(str(tmp_path / "d"))
    assert list(tmp_path.iterdir()) == []
    remove_tree(str(tmp_path / "d"))  # nothing there: nothing to do
