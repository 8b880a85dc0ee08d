"""Renaming: an archive gets its name from what it is, and takes nobody else's with it."""

import os
import shutil
from pathlib import Path

import pytest
from support.archives import make_directory, make_registry
from support.registries import Book

from gobblerd.archive import (
    Invalid,
    Version,
    Wrong,
    create_archive,
    load_receipt,
    rename_archive,
    update_archive,
)
from gobblerd.archive.receipt import receipt_path


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return make_registry(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.parametrize("form", ["tar.zst", "zip"])
def test_a_versions_archive_is_called_after_its_receipt(form: str, book: Book, out: Path) -> None:
    """The receipt goes along, and names the file; an archive that is called so already stays."""
    made = create_archive(Version(book.root, "p", "a", "2"), out / "anything", format=form)
    path = rename_archive(made.path)
    name = f"p_a_2_{made.tree_checksum[:16]}.{form}"
    assert path == str(out / name)
    assert sorted(os.listdir(out)) == [name, f"{name}.receipt.json"]
    assert load_receipt(receipt_path(path)) == made.receipt.renamed(name)  # type: ignore[union-attr]
    assert rename_archive(path) == path


def test_the_digits_are_of_the_tree_or_of_the_file(book: Book, out: Path) -> None:
    made = create_archive(Version(book.root, "p", "a", "2"), out / "anything")
    by_file = update_archive(made.path, checksum="file").path
    assert os.path.basename(by_file) == f"p_a_2_{made.sha256[:16]}.tar.zst"
    assert os.path.exists(made.path)


def test_an_archive_without_a_receipt_needs_a_version(out: Path, tmp_path: Path) -> None:
    """And is called after its file name; its tree is read from it."""
    made = create_archive(make_directory(tmp_path / "top"), out / "app.tar.gz")
    os.unlink(made.receipt_path)
    with pytest.raises(Wrong, match="say which version"):
        rename_archive(made.path)
    path = rename_archive(made.path, "1.0")
    assert os.path.basename(path) == f"app_1.0_{made.tree_checksum[:16]}.tar.gz"


def test_another_version_than_the_receipts_is_refused(book: Book, out: Path) -> None:
    made = create_archive(Version(book.root, "p", "a", "2"), out / "x")
    with pytest.raises(Wrong, match='of version "2", not "3"'):
        rename_archive(made.path, "3")


def test_a_damaged_archive_is_not_renamed(book: Book, out: Path) -> None:
    made = create_archive(Version(book.root, "p", "a", "2"), out / "x.tar")
    with open(made.path, "r+b") as file:
        file.seek(700)
        file.write(b"!")
    with pytest.raises(Invalid, match="not what is said of it"):
        rename_archive(made.path)
    assert sorted(os.listdir(out)) == ["x.tar", "x.tar.receipt.json"]


def test_older_archives_of_exactly_that_asset_go(book: Book, out: Path) -> None:
    """`a` takes neither `a_server` nor another project's, nor what nobody knows, nor another format."""
    for place in ("p/a/3", "p/a_server/1", "q/a/1"):
        book.version(place, {"f": place.encode()})
    new = create_archive(Version(book.root, "p", "a", "3"), out / "new")
    old = create_archive(Version(book.root, "p", "a", "1"), out)
    others = [
        create_archive(Version(book.root, *place), out).path
        for place in (("p", "a_server", "1"), ("q", "a", "1"))
    ]
    others.append(create_archive(Version(book.root, "p", "a", "1"), out, format="zip").path)
    digits = "0123456789abcdef"
    for name in (f"p_a_server_1_{digits}.tar.zst", f"p_a_x_1_{digits}.tar.zst", "p_a.tar.zst"):
        shutil.copy(old.path, out / name)
        others.append(str(out / name))
    certain = out / f"p_a_0_{digits}.tar.zst"  # has no receipt, but can be read in one way only
    shutil.copy(old.path, certain)
    done = update_archive(new.path, clean=True, keep=False)
    assert done.removed == (certain.name, os.path.basename(old.path))
    assert {path for path in others if not os.path.exists(path)} == set()
    assert not os.path.exists(old.receipt_path)
    assert not os.path.exists(new.path)


def test_directories_archives_are_cleared_by_their_own_name(out: Path, tmp_path: Path) -> None:
    """`app` does not take `app_server` with it."""
    digits = "0123456789abcdef"
    made = create_archive(make_directory(tmp_path / "app"), out / "app.zip")
    os.unlink(made.receipt_path)
    for name in (f"app_1.0_{digits}.zip", f"app_server_1.0_{digits}.zip", f"app2_1.0_{digits}.zip"):
        (out / name).write_bytes(b"x")
    assert update_archive(made.path, "1.1", clean=True).removed == (f"app_1.0_{digits}.zip",)


def test_it_goes_to_another_directory_and_the_original_is_kept_or_not(
    book: Book, out: Path, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    made = create_archive(Version(book.root, "p", "a", "2"), out / "x")
    done = update_archive(made.path, destdir=there, keep=True)
    assert os.path.dirname(done.path) == str(there)
    assert os.path.exists(made.path)
    update_archive(made.path, destdir=there, keep=False)
    assert os.listdir(out) == []
    assert len(os.listdir(there)) == 2


def test_another_archive_of_that_name_is_not_replaced(book: Book, out: Path) -> None:
    made = create_archive(Version(book.root, "p", "a", "2"), out / "x")
    (out / f"p_a_2_{made.tree_checksum[:16]}.tar.zst").write_bytes(b"precious")
    with pytest.raises(Wrong, match="is another archive"):
        rename_archive(made.path)


@pytest.mark.parametrize("name", ["notes.txt", "none.zip"])
def test_what_is_no_archive_is_refused(name: str, out: Path) -> None:
    (out / "notes.txt").touch()
    with pytest.raises(Wrong, match="is no archive"):
        rename_archive(out / name, "1")
