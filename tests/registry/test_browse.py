"""Readers see what the registry holds, and nothing else that the daemon could read."""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.corpus import WHITELISTED_BYTES, Corpus, exchanges, unpack, versions
from support.places import Symlink, Users, ids_of, open_directory, write_tree

from gobblerd.domain.errors import Absent, Fault, Wrong
from gobblerd.registry import listed, listing
from gobblerd.registry.browse import Browser
from gobblerd.registry.content_types import content_type

SECRET = b"secret"


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return unpack(str(tmp_path))


@pytest.fixture
def root(tmp_path: Path) -> str:
    path = str(tmp_path / "registry")
    write_tree(path, {"p/a/v/f": b"file"})
    return path


@pytest.fixture(params=["extension", "python"])
def listed_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let directories be listed either way."""
    if request.param == "python":
        monkeypatch.setattr(listing, "NAMES", None)
    elif listing.NAMES is None:
        pytest.skip("the C extension was not built")


def browser_of(root: str, *whitelist: str) -> Browser:
    return Browser(root, lambda: whitelist)


def read(browser: Browser, path: str) -> bytes:
    with browser.open(path) as file:
        return os.pread(file.fd, file.size, 0)


def write_manifest(root: str, entries: Mapping[str, Any]) -> None:
    Path(root, "p/a/v/..manifest").write_text(json.dumps(entries), encoding="utf-8")


def listed_entry(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "md5sum": hashlib.md5(data).hexdigest()}


def etag_of(browser: Browser, path: str = "p/a/v/f") -> str:
    with browser.open(path) as file:
        return file.etag


def test_every_file_of_a_go_registry_is_what_its_manifest_says(corpus: Corpus) -> None:
    """Links within, between and out of versions included; the checksum is the entity tag."""
    browser = browser_of(corpus.registry, corpus.whitelisted)
    count = 0
    for version in versions(corpus.registry):
        manifest = json.loads(read(browser, "/".join((*version, "..manifest"))))
        for path, entry in manifest.items():
            if not entry["md5sum"]:
                continue
            with browser.open("/".join((*version, path))) as file:
                assert hashlib.md5(os.pread(file.fd, 1 << 20, 0)).hexdigest() == entry["md5sum"] == file.etag
            count += 1
    assert count > 25


def test_lists_what_the_go_service_listed_less_its_lock_files(corpus: Corpus) -> None:
    top, below = exchanges()["reads"][:2]
    browser = browser_of(corpus.registry)
    assert list(browser.list("", recursive=False)) == [
        name for name in json.loads(top["body"]) if "LOCK" not in name
    ]
    found = list(browser.list("alpha/a/1", recursive=True))
    assert sorted(found) == sorted(json.loads(below["body"]))


@pytest.mark.parametrize("path", ["", ".", "./", "p/..", "p/a/../..", "x/.."])
def test_ways_to_say_the_registry_itself(root: str, path: str) -> None:
    """The path is normalised by its text, then judged: `x` need not exist."""
    assert list(browser_of(root).list(path, recursive=False)) == ["p/"]


@pytest.mark.parametrize("path", ["..", "../registry", "p/../..", "/", "/etc", "//etc", "a\0b", "\udcff"])
def test_a_path_that_leaves_the_registry_is_wrong(root: str, path: str) -> None:
    browser = browser_of(root)
    with pytest.raises(Wrong):
        browser.list(path, recursive=True)
    with pytest.raises(Wrong):
        browser.open(path)


@pytest.mark.parametrize("path", ["q", "p/a/w", "p/a/v/f/g", "p/" + "x" * 300, "p/x/../../q"])
def test_what_is_not_there_is_absent(root: str, path: str) -> None:
    browser = browser_of(root)
    with pytest.raises(Absent):
        browser.list(path, recursive=False)
    with pytest.raises(Absent):
        browser.open(path)


@pytest.mark.usefixtures("listed_by")
@pytest.mark.parametrize("name", ["..LOCK", "..LOCK_NEWDIR", "..LOCK_USAGE", "..gobblerd", "..transactions"])
@pytest.mark.parametrize("place", ["", "p", "p/a", "p/a/v", "p/a/v/d"])
def test_hidden_names_do_not_exist_for_readers(root: str, place: str, name: str) -> None:
    """Neither as files nor as directories, at any depth, nor through a link."""
    write_tree(os.path.join(root, place, name), {"inside": SECRET})
    os.symlink(
        os.path.relpath(os.path.join(root, place, name, "inside"), os.path.join(root, "p/a/v")),
        f"{root}/p/a/v/link",
    )
    browser = browser_of(root)
    for path in (f"{place}/{name}", f"{place}/{name}/inside", "p/a/v/link"):
        with pytest.raises(Absent):
            browser.open(path.lstrip("/"))
    with pytest.raises(Absent):
        browser.list(f"{place}/{name}".lstrip("/"), recursive=False)
    for recursive in (True, False):
        assert not any(name in found for found in browser.list(place, recursive=recursive))


@pytest.mark.usefixtures("listed_by")
def test_internal_documents_are_listed_and_served(root: str) -> None:
    write_tree(
        root, {"..logs/2026": b"{}", "p/..usage": b"{}", "p/a/..latest": b"{}", "p/a/v/..summary": b"{}"}
    )
    browser = browser_of(root)
    names = list(browser.list("", recursive=True))
    assert sorted(names) == ["..logs/2026", "p/..usage", "p/a/..latest", "p/a/v/..summary", "p/a/v/f"]
    for name in names[:-1]:
        assert read(browser, name) in {b"{}", b"file"}
    with browser.open("..logs/2026") as file:
        assert file.content_type == "application/json"


@pytest.mark.usefixtures("listed_by")
def test_recursive_lists_only_empty_directories(root: str) -> None:
    """A directory that holds nothing a reader can see is empty to them."""
    write_tree(root, {"p/b/..LOCK": b"", "p/c/d/e": None, "p/a/v/x/y": b""})
    assert sorted(browser_of(root).list("p", recursive=True)) == ["a/v/f", "a/v/x/y", "b/", "c/d/e/"]
    assert list(browser_of(root).list("p", recursive=False)) == ["a/", "b/", "c/"]
    assert list(browser_of(root).list("p/b", recursive=True)) == []


@pytest.mark.usefixtures("listed_by")
def test_symlinks_are_listed_as_files_and_never_entered(root: str, tmp_path: Path) -> None:
    write_tree(str(tmp_path / "outside"), {"secret": SECRET})
    os.symlink(tmp_path / "outside", f"{root}/p/a/v/out")
    os.symlink("..", f"{root}/p/a/v/up")
    browser = browser_of(root)
    assert sorted(browser.list("p/a/v", recursive=True)) == ["f", "out", "up"]
    assert list(browser.list("p/a/v", recursive=False)) == ["f", "out", "up"]
    with pytest.raises(Wrong):
        browser.list("p/a/v/out", recursive=False)
    with pytest.raises(Absent):
        browser.list("p/a/v/up/v", recursive=False)


def test_a_directory_that_is_closed_does_not_hide_the_rest(users: Users) -> None:
    """As another account's: it is listed as a directory, and all that is beside it."""
    with open_directory() as root:
        write_tree(root, {"p/a/v/f": b"f", "p/a/w/g": b"g", "p/b/f": b"f"})
        os.chmod(f"{root}/p/a/v", 0o700)
        os.seteuid(ids_of(users.alice)[0])
        try:
            names = sorted(browser_of(root).list("p", recursive=True))
        finally:
            os.seteuid(0)
    assert names == ["a/v/", "a/w/g", "b/f"]


def test_a_file_is_no_directory(root: str) -> None:
    with pytest.raises(Wrong, match="not a directory"):
        browser_of(root).list("p/a/v/f", recursive=False)


@pytest.mark.usefixtures("listed_by")
def test_names_that_are_not_utf8_are_left_out(root: str) -> None:
    for name in (b"bad\xff", b"baddir\xff/"):
        path = os.path.join(os.fsencode(root), b"p/a/v/", name)
        os.makedirs(path) if name.endswith(b"/") else Path(os.fsdecode(path)).write_bytes(b"")
    write_tree(root, {"p/a/v/gut-é": b""})
    assert list(browser_of(root).list("p/a/v", recursive=True)) == ["f", "gut-é"]
    assert list(browser_of(root).list("p/a/v", recursive=False)) == ["f", "gut-é"]


@pytest.mark.usefixtures("listed_by")
def test_a_directory_larger_than_a_page_is_listed_whole(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files and subdirectories of every page; each page in order."""
    monkeypatch.setattr(listing, "PAGE", 7)
    tree = {f"p/a/v/big/{i:03}": b"" for i in range(50)} | {f"p/a/v/big/d{i}/x": b"" for i in range(20)}
    write_tree(root, tree)
    browser = browser_of(root)
    expected = sorted(os.path.relpath(path, "p/a/v/big") for path in tree)
    assert sorted(browser.list("p/a/v/big", recursive=True)) == expected
    assert sorted(browser.list("p/a/v/big", recursive=False)) == sorted(
        {name.partition("/")[0] + "/" * ("/" in name) for name in expected}
    )
    pieces = browser.pieces("p/a/v/big", recursive=True)
    assert max(len(json.loads(b"[" + piece + b"]")) for piece in pieces) <= 7


@pytest.fixture
def odd(root: str) -> str:
    """A registry with names that are hard to sort, to write as JSON, or not to be shown at all."""
    starts = [
        b"",
        b"same start ",
        b"\x01\x08\t\n\x0c\r\x1f\x7f",
        b'"',
        b"\\",
        "é".encode(),
        "\U0001f600".encode(),
    ]
    ends = [
        b"a",
        b"a!",
        b"a0",
        b"a" * 8,
        b"a" * 9,
        b"a" * 9 + b"b",
        b"\xff",
        b"\xed\xa0\x80",
        "\uffff".encode(),
    ]
    place = os.path.join(os.fsencode(root), b"p/a/odd")
    for name in (start + end for start in starts for end in ends):
        os.makedirs(os.path.join(place, b"files"), exist_ok=True)
        with open(os.path.join(place, b"files", name), "wb"):
            pass
        os.makedirs(os.path.join(place, b"directories", name))
        os.makedirs(os.path.join(place, b"trees", name, name))
        with open(os.path.join(place, b"trees", name, b"x" + name), "wb"):
            pass
        os.symlink(name, os.path.join(place, b"directories", b"link" + name))
    write_tree(root, {f"p/a/odd/{name}": b"" for name in listing.HIDDEN})
    return root


@pytest.mark.parametrize("recursive", [True, False])
@pytest.mark.parametrize("page", [3, 10_000])
def test_the_extension_lists_as_python_does(
    odd: str, monkeypatch: pytest.MonkeyPatch, page: int, *, recursive: bool
) -> None:
    """Byte for byte, piece by piece: order, escapes, what is left out, what counts as empty."""
    if listing.NAMES is None:
        pytest.skip("the C extension was not built")
    monkeypatch.setattr(listing, "PAGE", page)
    browser = browser_of(odd)
    places = ["", "p/a/odd", "p/a/odd/files", "p/a/odd/directories", "p/a/odd/trees"]
    fast = [list(browser.pieces(place, recursive=recursive)) for place in places]
    monkeypatch.setattr(listing, "NAMES", None)
    assert fast == [list(browser.pieces(place, recursive=recursive)) for place in places]
    assert sum(map(len, fast)) > len(places) - 1


@pytest.mark.usefixtures("listed_by")
def test_a_directory_that_cannot_be_read(tmp_path: Path) -> None:
    """What cannot be listed is an error, not an end."""
    (tmp_path / "file").touch()
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Not a directory"):
            list(listing.names_below(fd))
    finally:
        os.close(fd)


@pytest.mark.usefixtures("listed_by")
def test_a_directory_that_was_removed_is_empty(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    fd = os.open(tmp_path / "gone", os.O_RDONLY)
    try:
        (tmp_path / "gone").rmdir()
        assert list(listing.names_below(fd)) == []
    finally:
        os.close(fd)


@pytest.mark.usefixtures("listed_by")
def test_deep_trees_are_listed(root: str) -> None:
    deep = "/".join(["d"] * 150)
    write_tree(root, {f"p/a/v/{deep}/x": b""})
    assert list(browser_of(root).list("p/a/v", recursive=True)) == ["f", f"{deep}/x"]


@pytest.mark.usefixtures("listed_by")
def test_listing_leaves_no_descriptor_open(root: str) -> None:
    """Whether it is read to the end, begun and given up, or never begun."""
    write_tree(root, {f"p/a/v/{i}/{j}": b"" for i in range(5) for j in range(5)})
    before = sorted(os.listdir("/proc/self/fd"))
    browser = browser_of(root)
    list(browser.list("", recursive=True))
    pieces = browser.pieces("", recursive=True)
    next(pieces)
    pieces.close()
    browser.pieces("", recursive=True).close()
    for path in ("p/a/v/none", "p/a/v", "p/none/v/f", "p/a/v/0/0"):
        with contextlib.suppress(Absent):
            browser.open(path).__exit__(None, None, None)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("path", ["p", "p/a/v", "p/a/v/d", "", "."])
def test_a_directory_is_no_file(root: str, path: str) -> None:
    write_tree(root, {"p/a/v/d": None})
    with pytest.raises(Absent):
        browser_of(root).open(path)


def test_only_regular_files_are_opened(root: str) -> None:
    """A FIFO does not block, a socket does not fail."""
    os.mkfifo(f"{root}/p/a/v/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{root}/p/a/v/socket")
        for name in ("fifo", "socket"):
            with pytest.raises(Absent):
                browser_of(root).open(f"p/a/v/{name}")


ESCAPES = {
    "absolute": "{outside}/secret",
    "relative, out": "../../../../outside/secret",
    "relative, out and in": "../../../../registry/p/a/v/f",
    "into metadata": "../..permissions",
    "into internal directories": "../../../..transactions/x/secret",
    "to a lock": "../..LOCK",
    "to a manifest": "..manifest",
    "to a directory": "../v",
    "to a project's file": "../../file",
    "dangling": "none",
    "to itself": "link",
    "chain": "other",
    "through a linked directory": "linked/secret",
}


@pytest.mark.parametrize("target", ESCAPES.values(), ids=ESCAPES)
def test_links_that_the_registry_did_not_make_are_not_followed(
    root: str, tmp_path: Path, target: str
) -> None:
    outside = str(tmp_path / "outside")
    write_tree(outside, {"secret": SECRET})
    write_tree(
        root,
        {
            "p/file": SECRET,
            "p/a/..permissions": SECRET,
            "p/a/..LOCK": SECRET,
            "..transactions/x/secret": SECRET,
            "p/a/v/other": Symlink("f"),
            "p/a/v/linked": Symlink(outside),
            "p/a/v/link": Symlink(target.format(outside=outside)),
        },
    )
    write_manifest(root, {"link": listed_entry(SECRET), "other": listed_entry(b"file")})
    browser = browser_of(root)
    with pytest.raises(Absent):
        browser.open("p/a/v/link")
    with pytest.raises(Absent):
        browser.open("p/a/v/linked/secret")
    assert read(browser, "p/a/v/other") == b"file"


@pytest.mark.parametrize(
    "place", ["link", "p/link", "p/a/link", "p/a/v/..link", "p/a/v/..d/link", "..logs/link"]
)
def test_links_outside_the_users_files_of_a_version_are_not_followed(root: str, place: str) -> None:
    target = os.path.relpath("p/a/v/f", os.path.dirname(place))
    write_tree(root, {place: Symlink(target)})
    with pytest.raises(Absent):
        browser_of(root).open(place)


@pytest.mark.parametrize("linked", ["p", "p/a", "p/a/v", "p/a/v/d"])
def test_directories_that_are_links_are_not_entered(root: str, tmp_path: Path, linked: str) -> None:
    """Even links that stay inside the registry: the registry makes none to directories."""
    write_tree(root, {"q/a/v/d/f": SECRET})
    os.rename(f"{root}/p", tmp_path / "moved")
    full = os.path.join(root, linked)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    os.symlink(os.path.relpath(os.path.join(root, "q" + linked[1:]), os.path.dirname(full)), full)
    with pytest.raises(Absent):
        browser_of(root).open("p/a/v/d/f")


class Outside:
    """A version `p/a/v` whose file `w` is a link out of the registry, and a directory for it to go to."""

    def __init__(self, root: str, base: Path) -> None:
        self.root = root
        self.directory = str(base / "white")
        write_tree(self.directory, {"big": WHITELISTED_BYTES, "sub/x": WHITELISTED_BYTES})
        write_tree(str(base / "whitened"), {"big": SECRET})
        write_tree(str(base / "black"), {"secret": SECRET})

    def link(self, target: str, entry: Mapping[str, Any] | None = None) -> None:
        os.symlink(target, f"{self.root}/p/a/v/w")
        write_manifest(self.root, {"w": entry or listed_entry(WHITELISTED_BYTES)})


@pytest.fixture
def outside(root: str, tmp_path: Path) -> Outside:
    return Outside(root, tmp_path)


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_listed_link_into_a_whitelisted_directory_is_followed(outside: Outside, slash: str) -> None:
    outside.link(outside.directory + "/sub/x")
    browser = browser_of(outside.root, "/nowhere", outside.directory + slash)
    assert read(browser, "p/a/v/w") == WHITELISTED_BYTES
    assert etag_of(browser, "p/a/v/w") == hashlib.md5(WHITELISTED_BYTES).hexdigest()


def test_a_link_to_a_listed_whitelisted_link_is_followed(outside: Outside) -> None:
    outside.link(outside.directory + "/big")
    write_tree(outside.root, {"p/a/v2/w": Symlink("../v/w"), "p/a/v2/..manifest": b"{}"})
    assert read(browser_of(outside.root, outside.directory), "p/a/v2/w") == WHITELISTED_BYTES
    with pytest.raises(Absent):
        browser_of(outside.root).open("p/a/v2/w")


def test_the_whitelist_is_the_current_one(outside: Outside) -> None:
    outside.link(outside.directory + "/big")
    whitelist = [outside.directory]
    browser = Browser(outside.root, lambda: whitelist)
    assert read(browser, "p/a/v/w") == WHITELISTED_BYTES
    whitelist.clear()
    with pytest.raises(Absent):
        browser.open("p/a/v/w")


@pytest.mark.parametrize("entry", [{"x": 1}, {"size": 12, "md5sum": "0" * 32, "link": {"project": "p"}}])
def test_a_whitelisted_link_must_be_a_plain_file_of_the_manifest(
    outside: Outside, entry: dict[str, Any]
) -> None:
    """Else anything that could put a link into the registry could read whatever is whitelisted."""
    outside.link(outside.directory + "/big", entry)
    browser = browser_of(outside.root, outside.directory)
    if "link" not in entry:
        write_manifest(outside.root, {"other": entry})
    with pytest.raises(Absent):
        browser.open("p/a/v/w")
    os.unlink(f"{outside.root}/p/a/v/..manifest")
    with pytest.raises(Absent):
        browser.open("p/a/v/w")


@pytest.mark.parametrize(
    "target",
    [
        "{white}/../black/secret",
        "{white}ned/big",
        "{white}",
        "{white}/sub",
        "{white}/out",
        "{white}/dir/secret",
        "{white}/fifo",
        "{white}/none",
        "{white}/loop",
    ],
)
def test_whitelisted_links_may_not_leave_their_directory(
    outside: Outside, tmp_path: Path, target: str
) -> None:
    """By their text or through links, and they must lead to regular files."""
    white = outside.directory
    os.symlink(tmp_path / "black/secret", f"{white}/out")
    os.symlink(tmp_path / "black", f"{white}/dir")
    os.symlink("loop", f"{white}/loop")
    os.mkfifo(f"{white}/fifo")
    outside.link(target.format(white=white))
    with pytest.raises(Absent):
        browser_of(outside.root, white).open("p/a/v/w")


def test_a_link_that_only_leads_into_a_whitelisted_directory_is_not_followed(
    outside: Outside, tmp_path: Path
) -> None:
    """Whoever owns the way there could turn it elsewhere."""
    os.symlink(outside.directory, tmp_path / "way")
    outside.link(f"{tmp_path}/way/big")
    with pytest.raises(Absent):
        browser_of(outside.root, outside.directory).open("p/a/v/w")


def test_a_relative_link_at_the_end_of_a_link_is_not_followed(
    outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even one that would be whitelisted from where the daemon happens to run."""
    monkeypatch.chdir("/")
    outside.link(f"{outside.directory}/big".lstrip("/"))
    write_tree(outside.root, {"p/a/v2/w": Symlink("../v/w")})
    with pytest.raises(Absent):
        browser_of(outside.root, outside.directory).open("p/a/v2/w")


def test_links_inside_a_whitelisted_directory_may_be_links_themselves(
    outside: Outside, tmp_path: Path
) -> None:
    """And so may the whitelisted directory: what counts is where both really are."""
    os.symlink("sub", f"{outside.directory}/alias")
    os.symlink("white", tmp_path / "name")
    outside.link(f"{tmp_path}/name/alias/x")
    assert read(browser_of(outside.root, f"{tmp_path}/name"), "p/a/v/w") == WHITELISTED_BYTES


def test_the_entity_tag_is_the_manifests_checksum(root: str) -> None:
    write_manifest(root, {"f": listed_entry(b"file")})
    assert etag_of(browser_of(root)) == hashlib.md5(b"file").hexdigest()


@pytest.mark.parametrize(
    "entry",
    [
        {"size": 5, "md5sum": "0" * 32},
        {"size": 4, "md5sum": 'x"\r\n'},
        {"size": 4, "md5sum": None},
        {"size": 4.0, "md5sum": "0" * 32},
        [],
        None,
    ],
)
def test_the_entity_tag_is_never_a_checksum_that_cannot_be_the_files(root: str, entry: Any) -> None:
    """Another size, or a manifest that is damaged: the tag is made of the inode."""
    write_manifest(root, {"f": entry})
    status = os.stat(f"{root}/p/a/v/f")
    assert etag_of(browser_of(root)) == f"{status.st_mtime_ns:x}-4-{status.st_ino:x}"


def test_a_changed_manifest_is_read_again(root: str) -> None:
    browser = browser_of(root)
    for digit in "01":
        write_manifest(root, {"f": {"size": 4, "md5sum": digit * 32}, "more": {"size": int(digit) * 1000}})
        assert etag_of(browser) == digit * 32
    os.unlink(f"{root}/p/a/v/..manifest")
    assert "-" in etag_of(browser)


def test_a_file_of_the_same_name_in_another_version_has_its_own_tag(root: str) -> None:
    write_manifest(root, {"f": listed_entry(b"file")})
    write_tree(
        root, {"p/a/v2/f": b"elif", "p/a/v2/..manifest": json.dumps({"f": listed_entry(b"elif")}).encode()}
    )
    browser = browser_of(root)
    assert etag_of(browser) != etag_of(browser, "p/a/v2/f") == hashlib.md5(b"elif").hexdigest()


def test_metadata_files_are_tagged_by_their_inode(root: str) -> None:
    write_manifest(root, {"..manifest": listed_entry(b"x")})
    assert "-" in etag_of(browser_of(root), "p/a/v/..manifest")


def test_large_manifests_are_not_parsed_in_a_hurry(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`open_at_once` leaves that, and files outside the registry, to another thread."""
    monkeypatch.setattr(listed, "QUICK_MOST", 10)
    write_manifest(root, {"f": listed_entry(b"file")})
    browser = browser_of(root)
    assert browser.open_at_once("p/a/v/f") is None
    browser.open("p/a/v/f").__exit__(None, None, None)
    found = browser.open_at_once("p/a/v/f")  # remembered now
    assert found is not None
    with found:
        assert found.etag == hashlib.md5(b"file").hexdigest()


def test_remembered_manifests_are_bounded(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "KEPT_IN_ALL", 1000)
    manifest = json.dumps({"f": listed_entry(b"file")}).encode()
    write_tree(
        root,
        {
            f"p/a/{i}/{name}": data
            for i in range(50)
            for name, data in (("f", b"file"), ("..manifest", manifest))
        },
    )
    browser = browser_of(root)
    for i in range(50):
        assert etag_of(browser, f"p/a/{i}/f") == hashlib.md5(b"file").hexdigest()
    assert len(browser._listed._kept) == 1000 // len(manifest)


def test_an_unreachable_registry_is_a_fault_and_not_absence(root: str) -> None:
    """A client that mirrors must not take a lost mount for deletions."""
    browser = browser_of(root + "-gone")
    with pytest.raises(Fault):
        browser.open("p/a/v/f")
    with pytest.raises(Fault):
        browser.list("p", recursive=True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.json", "application/json"),
        ("x.TXT", "text/plain; charset=utf-8"),
        ("x", "application/octet-stream"),
        ("txt", "application/octet-stream"),
        ("x.tar.gz", "application/gzip"),
        ("x.unheard-of", "application/octet-stream"),
        ("..manifest", "application/json"),
    ],
)
def test_content_types_come_from_the_name(name: str, expected: str) -> None:
    assert content_type(("p", "a", "v", name)) == expected
