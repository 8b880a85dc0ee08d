"""The source directory is hostile: whatever lies in it, nothing is read that its user could not read."""

import fcntl
import os
import socket
import stat
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from support.attacker import OWN, SECRET, attacking
from support.bench import Bench

from gobblerd.domain.errors import Exceeded, Forbidden, Wrong
from gobblerd.registry.source import Limits, Reader, Source, Survey, open_source, opened_for
from gobblerd.storage.files import read_all

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to give files to others (NOT TESTED on this run)"
)

ALICE, BOB, STAFF = 61001, 61002, 61050
AS_ALICE = Reader(ALICE, frozenset({ALICE, STAFF}))
AS_ROOT = Reader(0, frozenset())


@contextmanager
def opened(bench: Bench, name: str, reader: Reader = AS_ALICE) -> Iterator[Source]:
    source = open_source(bench.staging_fd, name, reader)
    try:
        yield source
    finally:
        os.close(source.fd)


def survey(
    bench: Bench, tree: dict[str, object], *, ignore_dot: bool = False, limits: Limits | None = None
) -> Survey:
    bench.source("s", tree, ALICE)
    with opened(bench, "s") as source:
        return source.survey(limits or Limits(), ignore_dot=ignore_dot)


def read(bench: Bench, path: str, reader: Reader = AS_ALICE) -> bytes:
    """Read one file of the source `s` as an upload would."""
    directory, _, name = path.rpartition("/")
    with (
        opened(bench, "s", reader) as source,
        source.opened_directory(directory) as dir_fd,
        source.opened_file(name, path, dir_fd) as fd,
    ):
        return read_all(fd, 1 << 20)


# ---- the survey


def test_a_survey_lists_what_counts(bench: Bench) -> None:
    """Files, links and directories by path; names beginning with `..` are not seen, at any depth."""
    tree = {
        "b": b"12",
        "a/x": b"345",
        "a/..x": b"",
        "l": ("link", "b"),
        "..y/z": b"1",
        "empty": None,
        ".dot/f": b"6",
    }
    found = survey(bench, tree)
    assert [(f.path, f.size) for f in found.files] == [(".dot/f", 1), ("a/x", 3), ("b", 2)]
    assert found.symlinks == [("l", "b")]
    assert sorted(found.directories) == [".dot", "a", "empty"]
    assert found.empty == ["empty"]
    assert (found.size, found.count()) == (6, 7)


def test_ignore_dot_skips_names_that_begin_with_a_dot(bench: Bench) -> None:
    """With `ignore_dot` a directory of nothing but dot files counts as empty."""
    found = survey(
        bench, {".a": b"1", ".d/f": b"1", "d/.b": b"1", "f": b"1", "d2/.l": ("link", "f")}, ignore_dot=True
    )
    assert [f.path for f in found.files] == ["f"]
    assert sorted(found.empty) == ["d", "d2"]
    assert found.symlinks == []


@pytest.mark.parametrize(
    ("tree", "empty"),
    [
        ({"d/..x": b"1"}, ["d"]),  # only internal names
        ({"d/e": None}, ["d/e"]),  # what holds an empty directory holds something
        ({"d/..e/f": b"1"}, ["d"]),
        ({"d/l": ("link", "none")}, []),
        ({"d/f": b""}, []),
    ],
)
def test_what_an_empty_directory_is(bench: Bench, tree: dict[str, object], empty: list[str]) -> None:
    """Only directories that hold nothing but internal names are entries."""
    assert survey(bench, tree).empty == empty


def test_parents_are_listed_before_children(bench: Bench) -> None:
    """So that the directories can be made in that order."""
    found = survey(bench, {"a/b/c/d": None, "a/x": None, "z/y/x": None})
    for at, path in enumerate(found.directories):
        parent = path.rpartition("/")[0]
        assert not parent or parent in found.directories[:at]


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (Limits(files=4), "4"),
        (Limits(size=9), "9"),
        (Limits(depth=2), "d/e/f"),
        (Limits(path=8), "d/e/f/ten"),
    ],
)
def test_limits_are_checked_while_walking(bench: Bench, limits: Limits, names: str) -> None:
    """Files, bytes, depth and length of paths: Exceeded, naming limit or path."""
    tree = {"d/e/f/ten": b"0123456789", "d/g": ("link", "x")}
    with pytest.raises(Exceeded, match=names):
        survey(bench, tree, limits=limits)


def test_what_just_fits_its_limits_is_taken(bench: Bench) -> None:
    """Limits are the most that is allowed, and 0 is none."""
    tree = {"d/e/f/ten": b"0123456789", "d/g": ("link", "x")}
    assert survey(bench, tree, limits=Limits(files=5, size=10, depth=3, path=9)).count() == 5
    with opened(bench, "s") as source:
        assert source.survey(Limits(0, 0, 0, 0), ignore_dot=False).count() == 5


def test_a_sparse_giant_counts_with_its_size(bench: Bench) -> None:
    """Bytes are judged by size, not by blocks."""
    bench.source("s", {"f": b""}, ALICE)
    os.truncate(bench.staging / "s" / "f", 1 << 42)
    with opened(bench, "s") as source, pytest.raises(Exceeded):
        source.survey(Limits(size=1 << 40), ignore_dot=False)


def test_depth_costs_no_descriptors_and_no_stack(bench: Bench) -> None:
    """A tree of 600 levels is walked with one descriptor at a time, where no limit forbids it."""
    bench.source("s", {}, ALICE)
    fd = os.open(bench.staging / "s", os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.fchown(below, ALICE, ALICE)
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    with opened(bench, "s") as source:
        assert len(source.survey(Limits(depth=0), ignore_dot=False).directories) == 600
        with pytest.raises(Exceeded, match="256"):
            source.survey(Limits(), ignore_dot=False)
    assert len(os.listdir("/proc/self/fd")) == before
    subprocess.run(["rm", "-rf", str(bench.staging / "s")], check=True)  # deeper than shutil.rmtree can go


def test_names_must_be_utf8(bench: Bench) -> None:
    """A name of other bytes is refused, escaped in the reason."""
    bench.source("s", {}, ALICE)
    Path(os.fsdecode(os.fsencode(bench.staging) + b"/s/caf\xe9")).touch()
    with opened(bench, "s") as source, pytest.raises(Wrong, match=r"caf\\udce9"):
        source.survey(Limits(), ignore_dot=False)


def test_links_texts_must_be_utf8(bench: Bench) -> None:
    """A link's text is kept in documents, which are UTF-8."""
    bench.source("s", {}, ALICE)
    os.symlink(b"caf\xe9", os.fsencode(bench.staging) + b"/s/l")
    with opened(bench, "s") as source, pytest.raises(Wrong, match='"l"'):
        source.survey(Limits(), ignore_dot=False)


def _fifo(path: str) -> None:
    os.mkfifo(path)


def _device(path: str) -> None:
    os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))


def _socket(path: str) -> None:
    fd = os.open(os.path.dirname(path), os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"/proc/self/fd/{fd}/{os.path.basename(path)}")
    os.close(fd)


@pytest.mark.parametrize("make", [_fifo, _device, _socket])
def test_what_is_no_file_is_refused(bench: Bench, make: Callable[[str], None]) -> None:
    """FIFOs, devices and sockets are named; opening one never blocks."""
    bench.source("s", {"d/f": b"1"}, ALICE)
    make(str(bench.staging / "s" / "d" / "odd"))
    with opened(bench, "s") as source, pytest.raises(Wrong, match="d/odd"):
        source.survey(Limits(), ignore_dot=False)
    with pytest.raises(Wrong, match="d/odd"):  # swapped in after the survey
        read(bench, "d/odd")


# ---- the source itself


def test_a_source_is_a_directory_of_the_requester_s(bench: Bench) -> None:
    """Absent, a file, a link, too long a name: 400. Somebody else's: 403."""
    bench.source("bobs", {"f": b"1"}, BOB)
    bench.source("mine", {"f": b"1"}, ALICE)
    (bench.staging / "file").write_bytes(b"1")
    (bench.staging / "alias").symlink_to("mine")
    os.mkfifo(bench.staging / "pipe")
    for name in ("none", "file", "alias", "pipe", "x" * 256):
        with pytest.raises(Wrong, match=name[:200]):
            open_source(bench.staging_fd, name, AS_ALICE)
    with pytest.raises(Forbidden, match="bobs"):
        open_source(bench.staging_fd, "bobs", AS_ALICE)
    with pytest.raises(Forbidden):
        open_source(bench.staging_fd, "mine", Reader(0, frozenset()))


def test_the_source_is_held_from_the_start(bench: Bench) -> None:
    """Renaming the directory away and putting another in its place changes nothing."""
    bench.source("s", {"d/f": b"mine"}, ALICE)
    with opened(bench, "s") as source:
        os.rename(bench.staging / "s", bench.staging / "gone")
        (bench.staging / "s").symlink_to("/etc")
        with source.opened_directory("d") as dir_fd, source.opened_file("f", "d/f", dir_fd) as fd:
            assert os.read(fd, 10) == b"mine"


# ---- who may read what


def place(bench: Bench, mode: int, uid: int = BOB, gid: int = BOB) -> str:
    """Put a file of somebody's into Alice's source."""
    bench.source("s", {"f": b"secret"}, ALICE)
    path = str(bench.staging / "s" / "f")
    os.chown(path, uid, gid)
    os.chmod(path, mode)
    return path


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "readable"),
    [
        (0o600, BOB, BOB, False),
        (0o640, BOB, BOB, False),
        (0o644, BOB, BOB, True),
        (0o604, BOB, BOB, True),
        (0o640, BOB, STAFF, True),
        (0o604, BOB, STAFF, False),  # the group's bits count for the group's members, not the others'
        (0o000, ALICE, ALICE, True),  # one's own
        (0o600, 0, 0, False),
    ],
)
def test_mode_bits_decide_for_files_of_others(
    bench: Bench, *, mode: int, uid: int, gid: int, readable: bool
) -> None:
    """A file is taken if the requester owns it or its mode lets them read it."""
    place(bench, mode, uid, gid)
    if readable:
        assert read(bench, "f") == b"secret"
    else:
        with pytest.raises(Wrong, match='"f"'):
            read(bench, "f")


def test_root_reads_everything(bench: Bench) -> None:
    """Root could read it itself."""
    place(bench, 0o000)
    os.chown(bench.staging / "s", 0, 0)
    assert read(bench, "f", Reader(0, frozenset())) == b"secret"


U, G, M, O, NAMED_U, NAMED_G = 1, 4, 16, 32, 2, 8  # noqa: E741 - the tags of acl(5)
NONE = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in entries)


@pytest.mark.parametrize(
    ("entries", "gid", "readable"),
    [
        # a named user is granted
        ([(U, 6, NONE), (NAMED_U, 4, ALICE), (G, 0, NONE), (M, 4, NONE), (O, 0, NONE)], BOB, True),
        # granted, but masked
        ([(U, 6, NONE), (NAMED_U, 4, ALICE), (G, 4, NONE), (M, 0, NONE), (O, 0, NONE)], BOB, False),
        # a named user is denied what everybody may
        ([(U, 6, NONE), (NAMED_U, 0, ALICE), (G, 4, NONE), (M, 4, NONE), (O, 4, NONE)], STAFF, False),
        # somebody else is named: the group bits in the mode are the mask, and grant nothing
        ([(U, 6, NONE), (NAMED_U, 4, BOB), (G, 0, NONE), (M, 7, NONE), (O, 0, NONE)], STAFF, False),
        # the owning group is granted
        ([(U, 6, NONE), (NAMED_U, 0, BOB), (G, 4, NONE), (M, 4, NONE), (O, 0, NONE)], STAFF, True),
        # a named group is granted; one of several is enough
        (
            [
                (U, 6, NONE),
                (G, 0, NONE),
                (NAMED_G, 0, ALICE),
                (NAMED_G, 4, STAFF),
                (M, 4, NONE),
                (O, 0, NONE),
            ],
            BOB,
            True,
        ),
        # a named group is denied what everybody may
        ([(U, 6, NONE), (G, 4, NONE), (NAMED_G, 0, STAFF), (M, 4, NONE), (O, 4, NONE)], BOB, False),
        # nothing names them: the others' entry, which no mask limits
        ([(U, 6, NONE), (NAMED_U, 0, BOB), (G, 0, NONE), (M, 0, NONE), (O, 4, NONE)], BOB, True),
    ],
)
def test_acls_decide_as_the_kernel_does(
    bench: Bench, *, entries: list[tuple[int, int, int]], gid: int, readable: bool
) -> None:
    """Named users, groups and the mask, in the order of acl(5); checked against a real process too."""
    path = place(bench, 0o640, BOB, gid)
    try:
        os.setxattr(path, "system.posix_acl_access", acl(*entries))
    except OSError as error:
        pytest.skip(f"no ACLs on this filesystem: {error.strerror} (NOT TESTED on this run)")
    with opened_path(path) as fd:
        assert AS_ALICE.may(fd, 4) == readable == kernel_lets_alice_read(fd)


@contextmanager
def opened_path(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def kernel_lets_alice_read(fd: int) -> bool:
    child = os.fork()
    if child == 0:
        os.setgroups([ALICE, STAFF])
        os.setgid(ALICE)
        os.setuid(ALICE)
        try:
            os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def test_a_directory_that_the_requester_could_not_enter_is_refused(bench: Bench) -> None:
    """A 0700 directory of another user's is not entered, by the survey or later."""
    bench.source("s", {"d/f": b"everyone's"}, ALICE)
    os.chown(bench.staging / "s/d", BOB, BOB)
    os.chmod(bench.staging / "s/d", 0o700)
    with opened(bench, "s") as source, pytest.raises(Wrong, match='"d"'):
        source.survey(Limits(), ignore_dot=False)
    with pytest.raises(Wrong, match='"d"'):
        read(bench, "d/f")
    os.chmod(bench.staging / "s/d", 0o711)  # may be searched, not listed
    with opened(bench, "s") as source, pytest.raises(Wrong, match='"d"'):
        source.survey(Limits(), ignore_dot=False)


def test_no_component_is_followed(bench: Bench) -> None:
    """A directory swapped for a link to another is not entered; a file swapped for a link is not read."""
    bench.source("s", {"d/f": b"1", "real/f": b"2"}, ALICE)
    os.rename(bench.staging / "s/d", bench.staging / "s/old")
    (bench.staging / "s/d").symlink_to("real")
    (bench.staging / "s/l").symlink_to("real/f")
    for path in ("d/f", "l"):
        with pytest.raises(Wrong, match="changed"):
            read(bench, path)


def test_a_file_under_a_lease_is_the_user_s_fault(bench: Bench) -> None:
    """A write lease makes a non-blocking open fail: 400, not a fault of the storage."""
    bench.source("s", {"f": b"1"}, 0)
    holder = os.open(bench.staging / "s/f", os.O_RDWR)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
    except OSError as error:
        os.close(holder)
        pytest.skip(f"no leases on this filesystem: {error.strerror} (NOT TESTED on this run)")
    fcntl.fcntl(holder, fcntl.F_SETSIG, 28)  # SIGWINCH in place of SIGIO, which would kill us
    try:
        with pytest.raises(Wrong, match='"f"'):
            read(bench, "f", Reader(0, frozenset()))
    finally:
        os.close(holder)


def test_what_the_service_account_may_not_read(bench: Bench) -> None:
    """400 that names the file and the chmod: the user can mend that."""
    bench.source("s", {"d/f": b"1", "shut/f": b"1"}, ALICE)
    bench.source("closed", {"f": b"1"}, ALICE)
    for path in ("s/d/f", "closed", "s/shut"):
        os.chmod(bench.staging / path, 0o600)
    os.seteuid(BOB)  # as a daemon that is not root
    try:
        with pytest.raises(Wrong, match=r'"closed".*chmod'):
            open_source(bench.staging_fd, "closed", AS_ALICE)
        with pytest.raises(Wrong, match=r'"d/f".*chmod'):
            read(bench, "d/f")
        with opened(bench, "s") as source, pytest.raises(Wrong, match=r'"shut".*chmod'):
            source.survey(Limits(), ignore_dot=False)
    finally:
        os.seteuid(0)


# ---- files outside (whitelisted)


def test_a_file_outside_behind_a_closed_directory(tmp_path: Path) -> None:
    """Below the whitelisted directory the way must be open to the requester; above it, and to root, it is."""
    white = Path(os.path.realpath(tmp_path)) / "white"
    (white / "d/e").mkdir(parents=True)
    (white / "d/e/f").write_bytes(b"data")
    for mode, can in ((0o711, True), (0o700, False)):
        os.chmod(white / "d", mode)
        for reader, within in ((AS_ALICE, white), (AS_ALICE, white / "d/e"), (AS_ROOT, white)):
            with ExitStack() as stack:
                if not can and (reader, within) == (AS_ALICE, white):
                    stack.enter_context(pytest.raises(Wrong, match='"shown" goes through a directory'))
                stack.enter_context(opened_for(f"{white}/d/e/f", reader, "shown", str(within)))
    os.chmod(white / "d", 0o711)
    with opened_for(f"{white}/d/e/f", AS_ROOT, "shown", "/") as fd:
        assert os.read(fd, 10) == b"data"


def test_a_file_outside_is_read_on_behalf_of_the_requester(bench: Bench, tmp_path: Path) -> None:
    """Its mode decides; a path whose directory was swapped for a link since it was resolved is not read."""
    outside = tmp_path / "outside"
    (outside / "d").mkdir(parents=True)
    for name, mode in (("open", 0o644), ("closed", 0o600)):
        (outside / "d" / name).write_bytes(b"data")
        os.chmod(outside / "d" / name, mode)
    path = os.path.realpath(outside / "d" / "open")
    with opened_for(path, AS_ALICE, "shown") as fd:
        assert os.read(fd, 10) == b"data"
    with pytest.raises(Wrong, match="shown"), opened_for(f"{outside}/d/closed", AS_ALICE, "shown"):
        pass
    os.rename(outside / "d", outside / "real")
    (outside / "d").symlink_to("real")
    with pytest.raises(Wrong, match="changed"), opened_for(path, AS_ALICE, "shown"):
        pass


# ---- races

ROUNDS = int(os.environ.get("GOBBLERD_RACES", "300"))  # the full count is 5,000


def test_a_racing_attacker_gets_no_secret(bench: Bench, tmp_path: Path) -> None:
    """Whatever is swapped for whatever while we read: only bytes that were the requester's come out."""
    (tmp_path / "private").mkdir()
    secret = tmp_path / "private" / "f"
    secret.write_bytes(SECRET)
    os.chmod(secret, 0o600)
    bench.source("s", {"d/f": b"one"}, ALICE)
    outcomes = {"read": 0, "refused": 0}
    with attacking(str(bench.staging / "s"), str(secret), ALICE):
        while sum(outcomes.values()) < ROUNDS or 0 in outcomes.values():
            try:
                assert read(bench, "d/f") in {b"", *OWN, b"twother"}
                outcomes["read"] += 1
            except Wrong:
                outcomes["refused"] += 1
            assert sum(outcomes.values()) < 100 * ROUNDS, "the attacker does not attack"
