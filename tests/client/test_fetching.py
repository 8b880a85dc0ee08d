"""Downloads: whole or not there, continued where they were, the same for one process and for many."""

import errno
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from client.middleman import Middleman, middleman
from support.daemon import PATIENCE, PROJECT_ROOT, RunningDaemon, StartDaemon, eventually
from support.places import Tree, read_tree

from gobblerd.client import GobblerError, fetch_directory, fetch_file, fetch_manifest
from gobblerd.client.cache import Cache, local_registry
from gobblerd.client.parallel import Stop

BIG = random.Random(1).randbytes(6 << 20)
SMALL: Tree = {f"small/{n}": f"number {n}\n".encode() for n in range(20)}
TREE: Tree = {"big": BIG, **SMALL, "empty": None}
PATH = "proj/data/1"
BIG_PART = f"{hashlib.md5(f'{PATH}/big'.encode()).hexdigest()}.part"
DOWNLOAD = """
import sys
from gobblerd.client import download_version
url, cache, concurrent = sys.argv[1:]
print(download_version("proj", "data", "1", url, cache, max_workers=int(concurrent)))
"""


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "proj"})
    daemon.upload(PATH, TREE)
    return daemon


def users_files(path: str) -> dict[str, Any]:
    return {name: content for name, content in read_tree(path).items() if not name.startswith("..")}


def whole_files(cache: str, url: str) -> dict[str, Any]:
    """Return what looks complete in a cache: everything below REGISTRY."""
    return users_files(os.path.join(local_registry(cache, url), "REGISTRY", PATH))


def parts(cache: str, url: str) -> dict[str, int]:
    """Return the sizes of the parts in a cache."""
    place = os.path.join(local_registry(cache, url), "TEMP")
    names = os.listdir(place) if os.path.isdir(place) else []
    return {name: os.path.getsize(os.path.join(place, name)) for name in names if name.endswith(".part")}


def download(man: Middleman, cache: str, concurrent: int = 1) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-P", "-c", DOWNLOAD, man.url, cache, str(concurrent)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": PROJECT_ROOT},
        stdin=subprocess.DEVNULL,
    )


def finished(process: "subprocess.Popen[bytes]") -> str:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err.decode()
    return out.decode().strip()


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.long)])
def test_killed_download_is_continued(man: Middleman, cache: str, kills: int) -> None:
    """kill -9 at random moments: nothing that looks complete is not, and no byte that had come comes again."""
    man.pause = 0.002
    chance = random.Random(2)
    for _ in range(kills):
        # Of the big file only: a small one's part may become that file in the next attempt.
        seen, had = len(man.fetched("big")), parts(cache, man.url).get(BIG_PART, 0)
        with download(man, cache, concurrent=chance.choice((1, 3))) as process:
            eventually(
                lambda seen=seen, process=process: (
                    len(man.fetched("big")) > seen or process.poll() is not None
                ),
                "the download to begin",
            )
            time.sleep(chance.random() * 0.8 / kills)
            process.kill()
        for name, content in whole_files(cache, man.url).items():
            assert content == TREE.get(name), f"{name} looks complete"
        assert parts(cache, man.url).get(BIG_PART, 0) >= had or "big" in whole_files(cache, man.url)
    assert not os.path.exists(Cache(cache, man.url).marker(PATH))
    man.pause = 0.0
    with download(man, cache, 2) as process:
        assert users_files(finished(process)) == TREE
    assert os.path.exists(Cache(cache, man.url).marker(PATH))
    began = [int((one.range or "bytes=0-")[len("bytes=") : -1]) for one in man.fetched("big")]
    assert began == sorted(began)
    # The kernel may hold what was sent and never read: no more than its buffers.
    assert sum(one.sent for one in man.fetched("big")) <= len(BIG) + (len(began) - 1) * (8 << 20)
    assert parts(cache, man.url) == {}


def test_next_download_asks_for_the_rest_only(man: Middleman, cache: str) -> None:
    """A download that was killed in the middle of a file goes on with that file's next byte."""
    man.pause = 0.005
    with download(man, cache) as process:
        eventually(lambda: sum(parts(cache, man.url).values()) >= 2 << 20, "some of it to arrive")
        process.send_signal(signal.SIGKILL)
    [there] = parts(cache, man.url).values()
    man.pause = 0.0
    assert users_files(fetch_directory(PATH, None, man.url, cache)) == TREE
    first, second = man.fetched("big")
    assert first.range is None
    assert second.range == f"bytes={there}-"
    assert (
        second.headers["If-Range"].strip('"')
        == json.loads(json.dumps(fetch_manifest("proj", "data", "1", None, man.url, cache)))["big"]["md5sum"]
    )
    assert second.sent == len(BIG) - there


def test_two_processes_on_one_cache(man: Middleman, cache: str) -> None:
    """Two at once end with one good copy, and share the work: each file is fetched once."""
    man.pause = 0.001
    with download(man, cache, 2) as one, download(man, cache, 2) as other:
        assert finished(one) == finished(other)
    assert whole_files(cache, man.url) == TREE
    assert len(man.fetched("big")) == 1
    assert parts(cache, man.url) == {}


def test_death_of_one_does_not_stop_the_other(man: Middleman, cache: str) -> None:
    """Whoever waits for a file that another process is fetching takes over when that one is killed."""
    man.pause = 0.006
    with download(man, cache) as first:
        eventually(lambda: sum(parts(cache, man.url).values()) > 1 << 20, "the first to be at work")
        with download(man, cache) as second:
            eventually(lambda: len(man.fetched("19")) == 1, "the second to do what else there is")
            first.kill()
            assert users_files(finished(second)) == TREE
    assert man.fetched("big")[-1].range is not None


def test_broken_connection_is_mended(man: Middleman, cache: str) -> None:
    """A connection that breaks in the middle of a file is made again, and the file continued."""
    man.cut_after = 1 << 20
    path = fetch_file(f"{PATH}/big", None, man.url, cache)
    with open(path, "rb") as file:
        assert file.read() == BIG
    assert [one.range is None for one in man.fetched("big")] == [True, False]


def test_service_that_starts_again(start_daemon: StartDaemon, cache: str) -> None:
    """A download goes on when the service is killed under it and comes back."""
    daemon = start_daemon()
    daemon.done("create_project", {"project": "proj"})
    content = random.Random(5).randbytes(40 << 20)
    daemon.upload(PATH, {"big": content})
    url = f"http://127.0.0.1:{daemon.port}"
    killed: list[int] = []

    def kill(_files: int, _all: int, done: int, _size: int) -> None:
        if done > 1 << 20 and not killed:
            daemon.kill()
            killed.append(done)
            daemon.spawn()

    with open(fetch_file(f"{PATH}/big", None, url, cache, progress=kill), "rb") as file:
        assert file.read() == content
    assert killed
    eventually(lambda: daemon.get("/healthz").code == 200, "the service to be back")


def test_filesystem_without_locks(man: Middleman, cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cache's filesystem knows no locks, files are fetched all the same, and no parts are left."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert users_files(fetch_directory(PATH, None, man.url, cache, concurrent=2)) == TREE
    with pytest.raises(GobblerError):
        fetch_file(f"{PATH}/absent", None, man.url, cache)
    assert os.listdir(os.path.join(local_registry(cache, man.url), "TEMP")) == []


def test_second_time_asks_nobody(man: Middleman, cache: str) -> None:
    """A directory that was fetched whole is returned without any request, until `overwrite`."""
    first = fetch_directory(PATH, None, man.url, cache)
    seen = len(man.seen)
    assert fetch_directory(PATH, None, man.url, cache) == first
    assert len(man.seen) == seen
    with open(os.path.join(first, "small", "1"), "wb") as file:
        file.write(b"changed")
    fetch_directory(PATH, None, man.url, cache, overwrite=True)
    assert users_files(first) == TREE


def test_interrupted_overwriting_is_not_whole(man: Middleman, cache: str) -> None:
    """A directory of which only a part was overwritten does not count as whole any more."""
    fetch_directory(PATH, None, man.url, cache)
    man.instead[f"/fetch/{PATH}/small/7"] = (403, {}, b"")
    with pytest.raises(GobblerError):
        fetch_directory(PATH, None, man.url, cache, overwrite=True)
    man.instead.clear()
    seen = len(man.seen)
    assert users_files(fetch_directory(PATH, None, man.url, cache)) == TREE
    assert len(man.seen) > seen


def test_part_that_was_published_meanwhile(cache: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens a part just before another process publishes it gets a new one, never the published file."""
    place, flock, published = Cache(cache, "http://x"), fcntl.flock, os.path.join(cache, "published")

    def late(fd: int, how: int) -> None:
        if not os.path.exists(published):
            [name] = os.listdir(os.path.join(place.root, "TEMP"))
            os.rename(os.path.join(place.root, "TEMP", name), published)
        flock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with place.part("p/a/1/f", Stop(), wait=True) as part:
        assert part is not None
        assert os.path.samestat(os.fstat(part.fd), os.stat(part.path))
        assert not os.path.samestat(os.fstat(part.fd), os.stat(published))


def test_what_is_there_and_right_is_kept(man: Middleman, cache: str) -> None:
    """Files fetched one by one are not fetched again with their directory; one that was changed is."""
    good = fetch_file(f"{PATH}/big", None, man.url, cache)
    bad = fetch_file(f"{PATH}/small/3", None, man.url, cache)
    with open(bad, "wb") as file:
        file.write(b"Number 3\n")
    inode = os.stat(good).st_ino
    assert users_files(fetch_directory(PATH, None, man.url, cache)) == TREE
    assert os.stat(good).st_ino == inode
    assert (len(man.fetched("big")), len(man.fetched("3"))) == (1, 2)


def test_pygobbler_s_cache_is_used(daemon: RunningDaemon, cache: str) -> None:
    """What pygobbler fetched is not fetched again, and what we fetched serves pygobbler."""
    import pygobbler

    for theirs, ours in ((pygobbler, None), (None, pygobbler)):
        place = os.path.join(cache, "a" if theirs else "b")
        with middleman(daemon.port) as man:
            (theirs.fetch_directory if theirs else fetch_directory)(PATH, "/absent", man.url, place)
            seen = len(man.seen)
            found = (ours.fetch_directory if ours else fetch_directory)(PATH, "/absent", man.url, place)
            assert users_files(found) == TREE
            assert len(man.seen) == seen


@pytest.mark.parametrize(
    "hidden", [{"ETag"}, {"ETag", "Last-Modified"}, {"ETag", "Last-Modified", "Content-Length"}]
)
def test_services_that_say_less(man: Middleman, cache: str, hidden: set[str]) -> None:
    """Without entity tags, dates or lengths, a file is still checked against the manifest."""
    man.without = frozenset(hidden)
    with open(fetch_file(f"{PATH}/big", None, man.url, cache), "rb") as file:
        assert file.read() == BIG
    assert man.fetched("..manifest")
    assert users_files(fetch_directory(PATH, None, man.url, cache, concurrent=2)) == TREE


@pytest.mark.parametrize("hidden", [frozenset(), frozenset({"ETag"})])
def test_damage_is_refused(daemon: RunningDaemon, man: Middleman, cache: str, hidden: frozenset[str]) -> None:
    """A file that is not what its manifest says is an error, and never in the cache."""
    man.without = hidden
    daemon.upload("proj/damaged/1", {"f": b"right", "g": b"other"})
    with open(daemon.path("proj/damaged/1/f"), "wb") as file:
        file.write(b"wrong")
    for fetch in (
        lambda: fetch_file("proj/damaged/1/f", None, man.url, cache),
        lambda: fetch_directory("proj/damaged/1", None, man.url, cache),
    ):
        with pytest.raises(GobblerError, match="manifest says") as caught:
            fetch()
        assert caught.value.code is None
        assert not os.path.exists(os.path.join(local_registry(cache, man.url), "REGISTRY/proj/damaged/1/f"))
    daemon.done("delete_asset", {"project": "proj", "asset": "damaged"})


def test_version_uploaded_anew(daemon: RunningDaemon, man: Middleman, cache: str) -> None:
    """Where a version of the same name is another one now, nothing of the old one is mixed into it."""
    place = {"project": "proj", "asset": "again", "version": "1"}
    daemon.upload("proj/again/1", {"old": b"old", "same": b"same", "changed": b"1", "kind": b"file"})
    found = fetch_directory("proj/again/1", None, man.url, cache)
    daemon.done("delete_version", place)
    new: Tree = {"new": b"new", "same": b"same", "changed": b"2", "kind/of": b"directory"}
    daemon.upload("proj/again/1", new)
    seen = len(man.seen)
    fetch_directory("proj/again/1", None, man.url, cache)
    assert len(man.seen) == seen, "as pygobbler: what was fetched whole is not looked at again ..."
    fetch_manifest(**place, registry=None, url=man.url, cache=cache, overwrite=True)
    fetch_directory("proj/again/1", None, man.url, cache)
    assert users_files(found) == new, "... but a new manifest in the cache tells"
    assert len(man.fetched("same")) == 1
    daemon.done("delete_asset", {"project": "proj", "asset": "again"})


def test_changed_file_is_not_continued(daemon: RunningDaemon, man: Middleman, cache: str) -> None:
    """A part of an old file is not completed with the rest of a new one of the same name."""
    place = {"project": "proj", "asset": "moving", "version": "1"}
    old, new = (random.Random(seed).randbytes(3 << 20) for seed in (3, 4))
    daemon.upload("proj/moving/1", {"f": old})
    man.pause = 0.01
    command = [sys.executable, "-P", "-c", DOWNLOAD.replace("data/1", "moving/1"), man.url, cache, "1"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": PROJECT_ROOT}, stderr=subprocess.DEVNULL
    ) as process:
        eventually(lambda: sum(parts(cache, man.url).values()) > 1 << 20, "a part to arrive")
        process.kill()
    daemon.done("delete_version", place)
    daemon.upload("proj/moving/1", {"f": new})
    man.pause = 0.0
    with open(fetch_file("proj/moving/1/f", None, man.url, cache), "rb") as file:
        assert file.read() == new
    assert man.fetched("f")[-1].sent == len(new)
    daemon.done("delete_asset", {"project": "proj", "asset": "moving"})


def test_whole_part_needs_no_byte(man: Middleman, cache: str) -> None:
    """Killed between the last byte and the renaming, nothing but the question is asked again."""
    path = fetch_file(f"{PATH}/big", None, man.url, cache)
    md5sum = fetch_manifest("proj", "data", "1", None, man.url, cache)["big"]["md5sum"]
    with Cache(cache, man.url).part(f"{PATH}/big", Stop(), wait=True) as part:
        assert part is not None
        part.restart(f'"{md5sum}"')
        os.write(part.fd, BIG)
        os.unlink(path)
    with open(fetch_file(f"{PATH}/big", None, man.url, cache), "rb") as file:
        assert file.read() == BIG
    assert man.fetched("big")[-1].sent < 1000


def test_damaged_part_is_not_completed(man: Middleman, cache: str) -> None:
    """A part that was damaged on disk is found out in the end, and the file fetched from its beginning."""
    md5sum = fetch_manifest("proj", "data", "1", None, man.url, cache)["big"]["md5sum"]
    with Cache(cache, man.url).part(f"{PATH}/big", Stop(), wait=True) as part:
        assert part is not None
        part.restart(f'"{md5sum}"')
        os.write(part.fd, b"\0" * 1000)
    with open(fetch_file(f"{PATH}/big", None, man.url, cache), "rb") as file:
        assert file.read() == BIG
    assert [one.range for one in man.fetched("big")] == ["bytes=1000-", None]


def test_other_directories(man: Middleman, cache: str) -> None:
    """Directories above and below a version are fetched as well, and checked too."""
    assert users_files(fetch_directory(f"{PATH}/small/", None, man.url, cache)) == {
        name.removeprefix("small/"): content for name, content in SMALL.items()
    }
    whole = read_tree(fetch_directory("proj", None, man.url, cache, concurrent=2))
    assert whole["data/1/big"] == BIG
    assert whole["data/1/empty"] is None
    assert "..permissions" in whole


def test_paths_stay_in_the_cache(man: Middleman, cache: str) -> None:
    """Neither a caller's path nor a service's listing leads out of the cache."""
    for path in ("../../etc", "/etc/passwd", "a/../../b"):
        with pytest.raises(ValueError, match="not a path within"):
            fetch_file(path, None, man.url, cache)
    for listed in ("../../x", "/etc/x"):
        man.instead["/list?path=evil&recursive=true"] = (
            200,
            {"Content-Type": "application/json"},
            json.dumps([listed]).encode(),
        )
        with pytest.raises(GobblerError, match="elsewhere"):
            fetch_directory("evil", None, man.url, cache)
    assert not os.path.exists(os.path.join(cache, "x"))


def test_progress(man: Middleman, cache: str) -> None:
    """Progress begins with nothing, ends with everything, and never goes back in a download without trouble."""
    told: list[tuple[int, int, int, int]] = []
    fetch_directory(PATH, None, man.url, cache, concurrent=3, progress=lambda *numbers: told.append(numbers))
    files = len(TREE) - 1
    size = sum(len(content) for content in TREE.values() if isinstance(content, bytes))
    assert told[0][0] == told[0][2] == 0
    assert told[-1][0] == told[-1][1] >= files
    assert told[-1][2] >= told[-1][3] >= size
    assert [numbers[2] for numbers in told] == sorted(numbers[2] for numbers in told)


def test_concurrent_must_be_positive(man: Middleman, cache: str) -> None:
    """No threads at all is an error, as it is to pygobbler."""
    with pytest.raises(ValueError, match="concurrent"):
        fetch_directory(PATH, None, man.url, cache, concurrent=0)
