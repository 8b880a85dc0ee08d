"""Tools that others wrote read our archives, and find what is in them."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from support.archives import CONTENTS, FORMATS, TIME, make_registry

from gobblerd.archive import Version, create_archive, tree_checksum
from gobblerd.archive.receipt import Links

GNU_TAR = ["tar", "--no-same-owner", "-xf"]
BSD_TAR = ["bsdtar", "--no-same-owner", "-xf"]
READERS = [
    *(("tar", form, GNU_TAR) for form in FORMATS if form != "zip"),
    *(("bsdtar", form, BSD_TAR) for form in FORMATS),
    ("unzip", "zip", ["unzip", "-q"]),
]


def needed(tool: str) -> None:
    if shutil.which(tool) is None:
        assert "CI" not in os.environ, f"{tool} is missing, and .ci/run has no line for it"
        pytest.skip(f"{tool} is not installed (NOT TESTED on this run)")


@pytest.mark.parametrize("links", ["files", "preserve"])
@pytest.mark.parametrize(("tool", "form", "command"), READERS)
def test_tools_take_out_what_was_put_in(
    tool: str, form: str, command: list[str], links: Links, tmp_path: Path
) -> None:
    """Files, empty directories, links, long and non-ASCII names, modes and times."""
    needed(tool)
    book = make_registry(tmp_path)
    made = create_archive(Version(book.root, "p", "a", "2"), tmp_path / "v", format=form, links=links)  # type: ignore[arg-type]
    target = tmp_path / "out"
    target.mkdir()
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "TZ": "America/New_York"}
    subprocess.run([*command, made.path], check=True, cwd=target, env=environ)
    top = target / "p_a_2"
    assert tree_checksum(top) == made.tree_checksum == tree_checksum(book.full("p/a/2"))
    assert {path for path in CONTENTS if not (top / path).is_file()} == set()
    assert (top / "none").is_dir()
    for path in ("README", "data/new.bin", "none", "data", "."):
        status = (top / path).stat()
        assert stat.S_IMODE(status.st_mode) == (0o755 if (top / path).is_dir() else 0o644)
        if not (tool == "unzip" and (top / path).is_dir()):  # which makes directories before their files
            assert status.st_mtime == TIME


@pytest.mark.parametrize(
    ("tool", "form", "command"),
    [
        ("zstd", "tar.zst", ["zstd", "-q", "-t"]),
        ("gzip", "tar.gz", ["gzip", "-t"]),
        ("xz", "tar.xz", ["xz", "-t"]),
        ("bzip2", "tar.bz2", ["bzip2", "-t"]),
        ("unzip", "zip", ["unzip", "-tq"]),
    ],
)
def test_tools_find_nothing_wrong(tool: str, form: str, command: list[str], tmp_path: Path) -> None:
    needed(tool)
    root = make_registry(tmp_path).root
    made = create_archive(Version(root, "p", "a", "2"), tmp_path / "v", format=form)
    subprocess.run([*command, made.path], check=True, stdout=subprocess.DEVNULL)


def test_zstd_knows_the_size_and_has_a_checksum(tmp_path: Path) -> None:
    needed("zstd")
    root = make_registry(tmp_path).root
    plain = create_archive(Version(root, "p", "a", "2"), tmp_path / "v", format="tar")
    made = create_archive(Version(root, "p", "a", "2"), tmp_path / "v")
    told = subprocess.run(["zstd", "-lv", made.path], capture_output=True, text=True, check=True).stdout
    assert f"({plain.size} B)" in told
    assert "XXH64" in told
