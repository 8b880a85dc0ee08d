"""A disk that is full at every possible point of an upload: it fails cleanly or succeeds wholly.

The registry lies on a tmpfs that is given, upload by upload, a little more room: from nothing to more than is
needed. Normal run: 8 sizes; `-m long`: GOBBLERD_SIZES (default 50).
"""

import os
import random
import time
from collections.abc import Iterator

import pytest
from faults.scenes import SEED, source_of
from support.checker import assert_clean
from support.daemon import Answer, RunningDaemon, StartDaemon, address
from support.documents import events
from support.images import resize, small_disk, used
from support.packing import packed
from support.places import Tree, make_directory

SIZES = int(os.environ.get("GOBBLERD_SIZES", "50"))
PAGE = 4096
NEEDED = 150  # pages; about what the upload takes, its record and its event
ROOMY = 64 << 20


def tree() -> Tree:
    choice = random.Random(SEED)
    return {f"d{n % 5}/f{n}": choice.randbytes(choice.randrange(1, 20_000)) for n in range(50)}


def pages(count: int) -> Iterator[int]:
    """Yield so many sizes, in pages, from none to a third more than what is needed."""
    for number in range(count):
        yield number * NEEDED * 4 // 3 // max(1, count - 1)


def offered(daemon: RunningDaemon, *, as_archive: bool) -> str:
    """Put the tree into staging, which is on another disk; return the source's name."""
    if not as_archive:
        return daemon.source(tree())
    name = f"packed-{len(os.listdir(daemon.staging))}.tar"
    with open(os.path.join(daemon.staging, name), "wb") as file:
        file.write(packed(tree()))
    return name


def leave(disk: str, free: int) -> None:
    """Leave so many pages free; what the daemon still writes meanwhile would make the disk too small for it."""
    before = -1
    while before != (before := used(disk)):
        time.sleep(0.3)
    resize(disk, before + free * PAGE)


def upload_with(
    daemon: RunningDaemon, disk: str, free: int, *, as_archive: bool = False
) -> tuple[Answer, Answer]:
    """Upload with so many pages free, and check what was answered; the disk has room again afterwards."""
    request = {**address(f"p/a/with-{free}"), "source": offered(daemon, as_archive=as_archive)}
    source = source_of(daemon, request)
    logged = events(daemon.registry)
    leave(disk, free)
    dropped = daemon.drop("upload", request)
    told = daemon.post(dropped)
    resize(disk, ROOMY)
    recorded = daemon.wait(dropped)
    assert source_of(daemon, request) == source, "the source is intact"
    if recorded.code == 200:
        assert told.code == 200 or told.reason.startswith("committed, not finished")
        assert sum((events(daemon.registry) - logged).values()) == 1
        assert daemon.read(f"p/a/with-{free}", "..manifest").keys() == tree().keys()
    else:
        assert (told.code, told.reason) == (500, recorded.reason)
        assert told.reason.endswith(
            ("No space left on device; nothing was changed", "No space left on device")
        )
        assert events(daemon.registry) == logged
    return told, recorded


def run(start_daemon: StartDaemon, count: int, *, as_archive: bool = False) -> None:
    with small_disk(str(ROOMY)) as disk:
        daemon = start_daemon(registry=make_directory(os.path.join(disk, "registry"), 0o755))
        daemon.may_log_traceback = True
        codes: list[int] = []
        late = 0
        for free in pages(count):
            daemon.done("create_project", {"project": "p"})
            told, recorded = upload_with(daemon, disk, free, as_archive=as_archive)
            codes.append(recorded.code)
            late += told.code != recorded.code
            assert_clean(daemon.registry)
            daemon.upload("p/a/after", {"f": b"still serving"})
            assert_clean(daemon.registry)
            daemon.done("delete_project", {"project": "p"})
        daemon.finish()
        ends = (
            f"{codes.count(500)} failed cleanly, {codes.count(200)} succeeded, {late} of them after healing"
        )
        print(f"COUNT tmpfs: {count} sizes, {ends}")  # noqa: T201 - a count for docs/reliability.md
    assert codes[0] == 500
    assert codes[-1] == 200


@pytest.mark.parametrize("as_archive", [False, True])
def test_an_upload_to_a_disk_of_some_sizes(start_daemon: StartDaemon, *, as_archive: bool) -> None:
    """Nothing of a failed upload remains, and the daemon serves on."""
    run(start_daemon, 8, as_archive=as_archive)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("as_archive", [False, True])
def test_an_upload_to_a_disk_of_many_sizes(start_daemon: StartDaemon, *, as_archive: bool) -> None:
    """The same, page by page or nearly so."""
    run(start_daemon, SIZES, as_archive=as_archive)
