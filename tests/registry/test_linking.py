"""The symbolic links of a staged tree: all are there when the block ends, however many, or it fails."""

import os
import threading
from pathlib import Path

import pytest

from gobblerd.registry import linking as module
from gobblerd.registry.linking import MANY, Linking

COUNTS = [0, 1, MANY - 1, MANY, 3 * MANY + 7]


def links(count: int, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{index}": f"../there/{index}" for index in range(count)}


def made(top: Path) -> dict[str, str]:
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            found[str(path.relative_to(top))] = os.readlink(path)
    return found


@pytest.mark.parametrize("count", COUNTS)
def test_all_links_are_there_at_the_end(tmp_path: Path, count: int) -> None:
    """Added at once, one by one, and into several directories."""
    (tmp_path / "d" / "e").mkdir(parents=True)
    wanted = links(count) | links(count, "d/a") | links(count, "d/e/")
    with Linking(str(tmp_path)) as linking:
        linking.add(links(count).items())
        for link in links(count, "d/a").items():
            linking.add([link])
        linking.add(iter(links(count, "d/e/").items()))
    assert made(tmp_path) == wanted


@pytest.mark.parametrize("count", COUNTS)
def test_a_link_that_cannot_be_made_is_an_error(tmp_path: Path, count: int) -> None:
    """Nothing is replaced, wherever it was added; without its directory none is made elsewhere."""
    (tmp_path / "there").write_bytes(b"precious")
    with pytest.raises(FileExistsError), Linking(str(tmp_path)) as linking:
        linking.add([*links(count, "a").items(), ("there", "x"), *links(count, "b").items()])
    assert (tmp_path / "there").read_bytes() == b"precious"
    with pytest.raises(FileNotFoundError), Linking(str(tmp_path)) as linking:
        linking.add([("none/x", "x"), *links(count, "none/").items()])


def test_a_directory_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """The tree is ours alone; if it should not be, nothing is made outside it."""
    (tmp_path / "top").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "top" / "d").symlink_to("../outside")
    with pytest.raises(OSError, match="d"), Linking(str(tmp_path / "top")) as linking:
        linking.add(links(MANY, "d/").items())
    assert os.listdir(tmp_path / "outside") == []


def test_a_block_that_fails_leaves_nobody_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun is waited for, what was not is not made: the tree may be removed at once."""
    begun, go_on = threading.Event(), threading.Event()
    make_links = module.make_links

    def slow(dir_fd: int, some: list[tuple[str, str]]) -> None:
        begun.set()
        go_on.wait(60)
        make_links(dir_fd, some)

    monkeypatch.setattr(module, "make_links", slow)

    def fail() -> None:
        with Linking(str(tmp_path)) as linking:
            linking.add(links(MANY, "a").items())
            linking.add(links(MANY, "b").items())
            linking.add(links(1, "c").items())
            assert begun.wait(60)
            threading.Timer(0.1, go_on.set).start()
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert made(tmp_path) == links(MANY, "a")
    assert go_on.is_set()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("links")] == []


def test_an_early_failure_stops_what_comes_after(tmp_path: Path) -> None:
    """Whoever adds more learns of it, and need not go on to the end."""
    (tmp_path / "a0").touch()
    added = []

    def add_many() -> None:
        with Linking(str(tmp_path)) as linking:
            for index in range(100_000):
                linking.add(links(MANY, "a" if index == 0 else f"b{index}-").items())
                added.append(index)

    with pytest.raises(FileExistsError):
        add_many()
    assert len(added) < 100_000
