"""A directory of a version as people see it: directories first, sizes, links, a part at a time."""

import json
import os
from pathlib import Path

import pytest

from gobblerd.domain.errors import Absent, Wrong
from gobblerd.registry.browse import Browser
from gobblerd.registry.contents import Item, contents


@pytest.fixture
def version(tmp_path: Path) -> Path:
    made = tmp_path / "p" / "a" / "1"
    (made / "sub").mkdir(parents=True)
    (made / "..manifest").write_text("{}")
    (made / "b.txt").write_bytes(b"12345")
    (made / "link").symlink_to("b.txt")
    (made / "outside").symlink_to("/nowhere/x")
    (made / "dangling").symlink_to("gone")
    link = {"project": "p", "asset": "a", "version": "1", "path": "b.txt"}
    (made / "..links").write_text(json.dumps({"link": link}))
    return tmp_path


def browser(root: Path) -> Browser:
    return Browser(str(root), lambda: ())


def test_directories_come_first_and_links_say_where_they_go(version: Path) -> None:
    found = contents(browser(version), "p/a/1", 0, 10)
    items = {item.name: item for item in found.items}
    assert [item.name for item in found.items] == ["sub", "b.txt", "dangling", "link", "outside"]
    assert found.total == 5
    assert items["sub"] == Item("sub", is_directory=True)
    assert items["b.txt"] == Item("b.txt", is_directory=False, size=5)
    assert items["link"].size == 5
    assert str(items["link"].link and items["link"].link.parent) == "p/a/1/b.txt"
    assert items["outside"] == Item("outside", is_directory=False, is_outside=True)
    assert items["dangling"] == Item("dangling", is_directory=False)


def test_only_a_part_is_looked_at(version: Path) -> None:
    for n in range(500):
        (version / "p/a/1/sub" / f"f{n:03d}").touch()
    found = contents(browser(version), "p/a/1/sub", 100, 3)
    assert (found.total, [item.name for item in found.items]) == (500, ["f100", "f101", "f102"])


def test_a_damaged_links_file_hides_nothing_else(version: Path) -> None:
    (version / "p/a/1/..links").write_text("{")
    assert contents(browser(version), "p/a/1", 0, 10).total == 5


@pytest.mark.parametrize("path", ["p/a/2", "p/a/1/none"])
def test_what_is_not_there_is_absent(version: Path, path: str) -> None:
    with pytest.raises(Absent):
        contents(browser(version), path, 0, 10)


@pytest.mark.parametrize("path", ["..", "p/a/1/../../../..", "/etc"])
def test_nothing_outside_is_listed(version: Path, path: str) -> None:
    with pytest.raises(Wrong):
        contents(browser(version), path, 0, 10)


def test_a_link_to_a_directory_is_not_entered(version: Path) -> None:
    os.symlink("/etc", version / "p/a/1/trap")
    with pytest.raises((Absent, Wrong)):
        contents(browser(version), "p/a/1/trap", 0, 10)
