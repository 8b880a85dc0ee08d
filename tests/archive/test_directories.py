"""A version or a directory as a plain directory: whole, one's own, and movable."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from support.archives import CONTENTS, TIME, leave_abandoned, make_directory, make_registry
from support.registries import Book

from gobblerd.archive import (
    Extra,
    Invalid,
    Version,
    Wrong,
    create_archive,
    export_directory,
    make_portable,
    tree_checksum,
)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return make_registry(tmp_path)


@pytest.fixture
def version(book: Book) -> Version:
    return Version(book.root, "p", "a", "2")


def test_a_version_becomes_a_directory(version: Version, book: Book, tmp_path: Path) -> None:
    """Links within it are relative, others are files; no file is the registry's own; it has the version's time."""
    made = export_directory(version, tmp_path / "copy")
    top = tmp_path / "copy"
    assert {path: (top / path).read_bytes() for path in CONTENTS} == CONTENTS
    assert (top / "none").is_dir()
    assert made.links.relative == ("again", "linked/old")
    assert made.links.replaced == ("data/old.txt",)
    assert os.readlink(top / "linked/old") == "../data/old.txt"
    assert tree_checksum(top) == tree_checksum(book.full("p/a/2"))
    inodes = {path.stat().st_ino for path in Path(book.root).rglob("*")}
    assert not [
        path
        for path in top.rglob("*")
        if path.lstat().st_ino in inodes or (path.lstat().st_nlink > 2 and path.is_file())
    ]
    assert (top / "data").stat().st_mtime == (top / "README").stat().st_mtime == TIME


def test_it_can_be_moved(version: Version, tmp_path: Path) -> None:
    """With the registry gone."""
    before = export_directory(version, tmp_path / "copy", links="bundle")
    assert before.links.replaced == ()
    checksum = tree_checksum(tmp_path / "copy")
    shutil.rmtree(version.registry)
    os.makedirs(tmp_path / "far/away")
    os.rename(tmp_path / "copy", tmp_path / "far/away/copy")
    assert tree_checksum(tmp_path / "far/away/copy") == checksum


def test_excluded_and_added_files_are_those_of_an_archive(version: Version, tmp_path: Path) -> None:
    extras = [Extra("postinstall", b"#!/bin/sh\n", executable=True)]
    export_directory(version, tmp_path / "copy", excludes=["data"], extras=extras)
    made = create_archive(version, tmp_path / "x", excludes=["data"], extras=extras)
    assert tree_checksum(tmp_path / "copy") == made.tree_checksum
    assert os.access(tmp_path / "copy/postinstall", os.X_OK)


def test_the_callers_function_runs_the_postinstall_script(version: Version, tmp_path: Path) -> None:
    called: list[tuple[str, str]] = []
    path = str(tmp_path / "copy")
    export_directory(version, path, run_postinstall=lambda *told: called.append(told), script="bin/setup")
    assert called == [(path, f"{path}/bin/setup")]


def test_rot_is_found_and_nothing_is_left(version: Version, book: Book, tmp_path: Path) -> None:
    Path(book.full("p/a/2/README")).write_bytes(b"Read me\n")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(Invalid, match=r'^"README" is not'):
        export_directory(version, tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == before


def test_a_target_must_not_be_there_or_be_empty(version: Version, book: Book, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert export_directory(version, tmp_path / "empty").files == len(CONTENTS)
    for target in ("empty", "white/file", "registry/p/x", "none/x"):
        with pytest.raises(Wrong):
            export_directory(version, tmp_path / target)
    top = make_directory(tmp_path / "top")
    for target in (top / "none", top / "below"):
        with pytest.raises(Wrong, match="lies in what is exported"):
            export_directory(top, target)


def test_the_umask_says_who_may_read_it(tmp_path: Path) -> None:
    top = make_directory(tmp_path / "top")
    (top / "private").write_bytes(b"x")
    old = os.umask(0o077)
    try:
        export_directory(top, tmp_path / "copy")
    finally:
        os.umask(old)
    found = [path for path in (tmp_path / "copy").rglob("*") if not path.is_symlink()]
    assert found
    for path in (tmp_path / "copy", *found):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else path.stat().st_mode & 0o700)


def test_what_a_killed_export_left_is_cleared_away(version: Version, tmp_path: Path) -> None:
    abandoned = leave_abandoned(tmp_path)
    export_directory(version, tmp_path / "copy")
    assert not abandoned & {*os.listdir(tmp_path)}


def test_links_of_a_directory_are_made_relative_or_replaced(tmp_path: Path) -> None:
    top = make_directory(tmp_path / "top")
    (top / "bin/up").symlink_to(top / "a.txt")
    (top / "elsewhere").symlink_to(tmp_path / "dir")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/x").write_bytes(b"x")
    before = tree_checksum(top)
    done = make_portable(top)
    assert done.relative == ("bin/up", "same", "tools")
    assert done.replaced == ("elsewhere", "far")
    assert os.readlink(top / "bin/up") == "../a.txt"
    assert (top / "far").read_bytes() == b"outside\n"
    assert not (top / "elsewhere").is_symlink()
    os.rename(top, tmp_path / "moved")
    shutil.rmtree(tmp_path / "dir")
    assert tree_checksum(tmp_path / "moved") == before


def test_links_within_a_wider_boundary_stay(tmp_path: Path) -> None:
    top = make_directory(tmp_path / "top")
    assert make_portable(top, tmp_path).replaced == ()
    assert os.readlink(top / "far") == "../outside.txt"
    with pytest.raises(Wrong, match="does not lie in"):
        make_portable(top, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("target", "why"), [("nowhere", "to nothing"), ("..", "above it"), ("/dev/null", "neither")]
)
def test_links_that_cannot_be_kept_are_refused_and_nothing_is_changed(
    target: str, why: str, tmp_path: Path
) -> None:
    top = make_directory(tmp_path / "top")
    (top / "zzz").symlink_to(target)
    before = {path: os.readlink(path) for path in top.rglob("*") if path.is_symlink()}
    with pytest.raises(Wrong, match=f"zzz.*{why}"):
        make_portable(top)
    assert {path: os.readlink(path) for path in top.rglob("*") if path.is_symlink()} == before
