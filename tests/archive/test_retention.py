"""Pruning a directory of archives: what any rule keeps stays, and what is somebody's own is never touched."""

import json
import os
from pathlib import Path

import pytest
from support.archives import leave_abandoned
from support.registries import Book

from gobblerd.archive import Version, create_archive
from gobblerd.archive.receipt import receipt_path
from gobblerd.archive.retention import Retention, prune_archives

DAY = 86_400
NOW = 1_800_000_000


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return a directory with archives of p/app 1-4, p/app_server 1, q/app 1; app's by age: 40, 30, 20, 10 days."""
    book = Book(str(tmp_path / "registry"))
    os.mkdir(book.root)
    path = tmp_path / "out"
    path.mkdir()
    places = [
        ("p", "app", "1"),
        ("p", "app", "2"),
        ("p", "app", "3"),
        ("p", "app", "4"),
        ("p", "app_server", "1"),
    ]
    for at, place in enumerate([*places, ("q", "app", "1")]):
        book.version("/".join(place), {"f": str(place).encode()})
        finish = f"2026-01-{at + 1:02}T00:00:00Z"
        book.edit(
            "/".join((*place, "..summary")),
            {"upload_user_id": "x", "upload_start": finish, "upload_finish": finish},
        )
        made = create_archive(Version(book.root, *place), path, format="tar")
        age(made.path, 40 - 10 * min(at, 3))
    return path


def age(path: str, days: float) -> None:
    for each in (path, receipt_path(path)):
        if os.path.exists(each):
            os.utime(each, (NOW - days * DAY, NOW - days * DAY))


def short(names: tuple[str, ...]) -> list[str]:
    """Return the names without their checksums."""
    return [name.rpartition("_")[0] for name in names]


def left(out: Path) -> list[str]:
    archives = [name for name in os.listdir(out) if name.endswith(".tar")]
    assert sorted(os.listdir(out)) == sorted([*archives, *(f"{name}.receipt.json" for name in archives)])
    return sorted(short(tuple(archives)))


ALL = ["p_app_1", "p_app_2", "p_app_3", "p_app_4", "p_app_server_1", "q_app_1"]


@pytest.mark.parametrize(
    ("retention", "removed"),
    [
        (Retention(), []),
        (Retention(pins=("*",)), []),
        (Retention(keep_last=1), ["p_app_1", "p_app_2", "p_app_3"]),
        (Retention(keep_last=3), ["p_app_1"]),
        (Retention(keep_last=9), []),
        (Retention(keep_last=0), ALL),
        (Retention(keep_days=25), ["p_app_1", "p_app_2"]),
        (Retention(keep_days=15), ["p_app_1", "p_app_2", "p_app_3"]),
        (Retention(keep_days=5), ALL),
        (Retention(keep_last=1, keep_days=25), ["p_app_1", "p_app_2"]),
        (Retention(keep_last=1, keep_days=5), ["p_app_1", "p_app_2", "p_app_3"]),
        (Retention(keep_last=1, pins=("p/app/2",)), ["p_app_1", "p_app_3"]),
        (Retention(keep_last=0, pins=("p/*",)), ["q_app_1"]),
        (Retention(keep_last=0, pins=("p_app_[12]_*",)), ["p_app_3", "p_app_4", "p_app_server_1", "q_app_1"]),
    ],
)
def test_what_no_rule_keeps_is_removed_with_its_receipt(
    retention: Retention, removed: list[str], out: Path
) -> None:
    """`app_server` is another asset than `app`, and q's `app` another one than p's."""
    planned = prune_archives(out, retention, dry_run=True, now=NOW * 10**9)
    assert left(out) == ALL
    done = prune_archives(out, retention, now=NOW * 10**9)
    assert done == planned
    assert short(done.removed) == removed
    assert left(out) == sorted(set(ALL) - set(removed)) == sorted(short(done.kept))


def test_the_newest_is_the_version_that_was_uploaded_last_not_the_archive_that_was_written_last(
    out: Path,
) -> None:
    for name in os.listdir(out):
        if name.startswith("p_app_1_") and name.endswith(".tar"):
            age(str(out / name), 0)
    assert short(prune_archives(out, Retention(keep_last=1), now=NOW * 10**9).removed) == [
        "p_app_1",
        "p_app_2",
        "p_app_3",
    ]


def test_archives_of_one_version_in_several_formats_count_as_one_version(out: Path, tmp_path: Path) -> None:
    create_archive(Version(str(tmp_path / "registry"), "p", "app", "4"), out, format="zip")
    pruned = prune_archives(out, Retention(keep_last=2), now=NOW * 10**9)
    assert short(pruned.removed) == ["p_app_1", "p_app_2"]


def test_what_is_somebodys_own_stays_and_is_named(out: Path) -> None:
    """No receipt and an equivocal name, a receipt of something else, a directory, a link, a text."""
    (out / "p_app_server_1_0123456789abcdef.zip").write_bytes(b"x")
    (out / "theirs.tar").write_bytes(b"x")
    (out / "theirs.tar.receipt.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    (out / "d.tar").mkdir()
    (out / "l.tar").symlink_to("theirs.tar")
    pruned = prune_archives(out, Retention(keep_last=0), now=NOW * 10**9)
    assert pruned.unsure == ("p_app_server_1_0123456789abcdef.zip", "theirs.tar")
    assert sorted(os.listdir(out)) == [
        "d.tar",
        "l.tar",
        "notes.txt",
        "p_app_server_1_0123456789abcdef.zip",
        "theirs.tar",
        "theirs.tar.receipt.json",
    ]


def test_a_receipt_of_another_archive_proves_nothing(out: Path) -> None:
    """It names the file that it is of."""
    (receipt,) = (name for name in os.listdir(out) if name.startswith("q_app") and name.endswith(".json"))
    (out / "mine.tar").write_bytes(b"x")
    (out / "mine.tar.receipt.json").write_bytes((out / receipt).read_bytes())
    assert "mine.tar" in prune_archives(out, Retention(keep_last=0), now=NOW * 10**9).unsure


def test_a_name_that_can_be_read_in_one_way_only_needs_no_receipt(out: Path) -> None:
    (out / "p_x_1_0123456789abcdef.zip").write_bytes(b"x")
    assert (
        "p_x_1_0123456789abcdef.zip" in prune_archives(out, Retention(keep_last=0), now=NOW * 10**9).removed
    )


def test_leftovers_of_a_crash_go(out: Path) -> None:
    """Half written files, and receipts whose archive never came; young receipts may be waiting for theirs."""
    abandoned = leave_abandoned(out)
    for name in ("old", "young"):
        (out / f"{name}.tar.receipt.json").write_text(json.dumps({}))
    age(str(out / "old.tar"), 1)
    os.utime(out / "young.tar.receipt.json", (NOW, NOW))
    prune_archives(out, Retention(), now=NOW * 10**9)
    assert {"old.tar.receipt.json", "young.tar.receipt.json"} & set(os.listdir(out)) == {
        "young.tar.receipt.json"
    }
    assert not abandoned & {*os.listdir(out)}
