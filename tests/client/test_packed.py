"""Many small files come by one answer; whatever is wrong with that, every file comes, and is what it should be."""

import io
import tarfile

import pytest
from client.middleman import Middleman
from support.daemon import RunningDaemon, StartDaemon
from support.places import Tree, read_tree

from gobblerd.client import download_version, fetch_directory

SMALL: Tree = {f"d{n % 7}/file {n} é": b"%d\n" % n * (n % 40) for n in range(300)}
TREE: Tree = {**SMALL, "larger": bytes(200_000), ".dot": b".", "empty": None}
ARCHIVE = "/archive/proj/data/1.tar"


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "proj"})
    daemon.upload("proj/data/0", {"d0/file 0 é": b"", "linked": b"linked\n"})
    daemon.upload("proj/data/1", {**TREE, "linked": b"linked\n"})
    daemon.upload("proj/large/1", {**SMALL, "huge": bytes(40 << 20)})
    return daemon


def fetched(man: Middleman) -> int:
    """Return how many files of users were asked for one by one."""
    return len([one for one in man.seen if one.path.startswith("/fetch/") and "/.." not in one.path])


def asked(man: Middleman) -> int:
    return len([one for one in man.seen if one.path.startswith("/archive/")])


def users_files(path: str) -> dict[str, object]:
    return {
        name: content
        for name, content in read_tree(path).items()
        if not name.rpartition("/")[2].startswith("..")
    }


def test_small_files_come_by_one_answer(man: Middleman, cache: str) -> None:
    """All but the one that is not small; and progress counts each once."""
    told: list[tuple[int, ...]] = []
    path = download_version(
        "proj", "data", "1", man.url, cache, progress=lambda *numbers: told.append(numbers)
    )
    assert users_files(path) == {**TREE, "linked": b"linked\n"}
    assert (asked(man), fetched(man)) == (1, 1)
    files, all_files, done, size = told[-1]
    assert files == all_files
    assert done >= size  # the registry's own documents have no size before they come


@pytest.mark.parametrize("damage", ["cut", "changed", "no archive", "older service", "not a tar"])
def test_what_does_not_come_so_is_asked_for(man: Middleman, cache: str, damage: str) -> None:
    """A broken answer, or one with wrong bytes, costs time and nothing else."""
    with io.BytesIO() as file:
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, content in {**SMALL, "..manifest": b"{}", "strange": b"x"}.items():
                assert content is not None
                member = tarfile.TarInfo(f"top/{name}")
                member.size = len(content)
                wrong = damage == "changed" and name.startswith("d3/")
                archive.addfile(member, io.BytesIO(content[::-1] if wrong else content))
        data = file.getvalue()
    head = {"Content-Type": "application/x-tar"}
    man.instead[ARCHIVE] = {
        "cut": (200, head, data[: len(data) // 2]),
        "changed": (200, head, data),
        "no archive": (503, {"Content-Type": "application/json"}, b'{"status": "ERROR", "reason": "busy"}'),
        "older service": (404, {"Content-Type": "text/plain"}, b"404 page not found\n"),
        "not a tar": (200, head, b"<html>" * 1000),
    }[damage]
    path = fetch_directory("proj/data/1", None, man.url, cache, concurrent=4)
    assert users_files(path) == {**TREE, "linked": b"linked\n"}
    assert asked(man) == 1
    least = {"cut": 100, "changed": 40}.get(damage, 300)
    assert least <= fetched(man) <= 303


def test_where_it_does_not_pay(man: Middleman, cache: str) -> None:
    """Not for what is mostly large, nor for a few files, nor for a directory that is no version."""
    fetch_directory("proj/large/1", None, man.url, cache, concurrent=2)
    fetch_directory("proj/data/0", None, man.url, cache)
    fetch_directory("proj/data/1/d1", None, man.url, cache)
    assert asked(man) == 0


def test_what_is_there_is_not_packed_again(man: Middleman, cache: str) -> None:
    """Only what is missing counts, but for `overwrite`."""
    path = fetch_directory("proj/data/1", None, man.url, cache)
    for number in range(50):
        name = next(name for name in SMALL if name.split()[1] == str(number))
        with open(f"{path}/{name}", "wb") as file:
            file.write(b"damaged")
    fetch_directory("proj/data/1", None, man.url, cache, overwrite=True)
    assert users_files(path) == {**TREE, "linked": b"linked\n"}
    assert asked(man) == 2
