"""Where a symbolic link goes is decided by its text, joined and normalised; nothing is resolved but a whitelist."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.domain.errors import Wrong
from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.registry.symlinks import (
    LocalTarget,
    Surroundings,
    WhitelistedTarget,
    aliases,
    below,
    link_text,
)

AROUND = Surroundings(("/stage/s", "/mnt/real/stage/s"), ("/data/reg", "/mnt/real/reg"), ())


@pytest.mark.parametrize(
    ("path", "text", "target"),
    [
        ("l", "f", "f"),
        ("l", "./d//f", "d/f"),
        ("d/l", "../f", "f"),
        ("d/l", "f/", "d/f"),
        ("d/e/l", "../../d/../f", "f"),
        ("l", "/stage/s/d/f", "d/f"),
        ("l", "//stage//s/./f", "f"),
        ("l", "/mnt/real/stage/s/f", "f"),
        ("l", "../s/f", "f"),
        ("l", "no\nsuch\\file", "no\nsuch\\file"),
    ],
)
def test_links_within_the_source(path: str, text: str, target: str) -> None:
    """Relative and absolute, through either spelling of the staging directory."""
    assert AROUND.target(path, text) == LocalTarget(target)


@pytest.mark.parametrize(
    "text",
    [
        "/data/reg/p/a/1/d/f",
        "///data/reg/p//a/./1/x/../d/f",
        "/mnt/real/reg/p/a/1/d/f",
        "../../data/reg/p/a/1/d/f",
        "../../reg/p/a/1/d/f",  # from where the staging directory really is
    ],
)
def test_links_into_the_registry(text: str) -> None:
    """Through either spelling of the registry, and relative from either spelling of the staging directory."""
    assert AROUND.target("l", text) == FileAddress("p", "a", "1", "d/f")


@pytest.mark.parametrize(
    "text",
    [
        "/data/reg",
        "/data/reg/p/a/1",
        "/data/reg/p/..permissions",
        "/data/reg/p/a/1/..manifest",
        "/data/reg/p/a/1/d/..links",
        "/data/reg/..transactions/1/2/f",
        "/data/reg/..logs/x",
        "/data/reg/p/a/..latest",
        "/data/regular/p/a/1/f",  # by components, not by prefix
        "/stage/s2/f",
        "/stage/s/..x",
        "d/..x/f",
        "/etc/passwd",
        "..",
        ".",
        "/",
        "",
    ],
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    """Internal names, directories of the registry, and every place outside."""
    with pytest.raises(Wrong, match='"link"') as refused:
        AROUND.target("link", text)
    assert "/etc" not in refused.value.reason  # no path outside staging and registry


@pytest.mark.parametrize(
    ("text", "says"),
    [(".", "the source itself"), ("/stage/s", "the source itself"), ("/data/reg", "the registry itself")],
)
def test_a_link_to_the_top_is_called_one(text: str, says: str) -> None:
    """It does go to the source, or to the registry, and is refused for another reason."""
    with pytest.raises(Wrong, match=f"goes to {says}"):
        AROUND.target("link", text)


def test_whitelisted_files(tmp_path: Path) -> None:
    """Kept by the path that was written, made absolute; the resolved one must not lead out."""
    white, white2 = tmp_path / "white", tmp_path / "white2"
    (white / "d").mkdir(parents=True)
    white2.mkdir()
    (white / "f").write_bytes(b"1")
    (white2 / "f").write_bytes(b"2")
    (white / "inner").symlink_to("f")
    (white / "outer").symlink_to(white2 / "f")
    (white / "dangling").symlink_to("none")
    (white / "out").symlink_to(white2)
    around = Surroundings((str(tmp_path / "stage" / "s"),), (str(tmp_path / "reg"),), (f"{white}/",))
    real = os.path.realpath(white)
    assert around.target("l", f"{white}/d/../f") == WhitelistedTarget(f"{white}/f", f"{real}/f")
    assert around.target("l", "../../white/f") == WhitelistedTarget(f"{white}/f", f"{real}/f")
    assert around.target("l", f"{white}/inner") == WhitelistedTarget(f"{white}/inner", f"{real}/f")
    for text in ("outer", "out/f", "dangling", "d", "none", ""):
        with pytest.raises(Wrong, match='"the/link"') as refused:
            around.target("the/link", f"{white}/{text}")
        assert str(tmp_path) not in refused.value.reason
    with pytest.raises(Wrong):
        around.target("l", f"{white2}/f")


def test_a_whitelisted_directory_that_is_itself_a_link(tmp_path: Path) -> None:
    """The whitelist's own spelling counts; what it stands for is where the files must be."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_bytes(b"1")
    (tmp_path / "white").symlink_to("real")
    around = Surroundings(("/stage/s",), ("/reg",), (str(tmp_path / "white"),))
    assert isinstance(around.target("l", str(tmp_path / "white" / "f")), WhitelistedTarget)


@pytest.mark.parametrize(
    ("path", "directory", "rest"),
    [
        ("/a/b", "/a", "b"),
        ("/a", "/a", ""),
        ("/a/b", "/", "a/b"),
        ("/ab", "/a", None),
        ("/", "/a", None),
        ("/a/b/c", "/a/b/", "c"),
    ],
)
def test_below_compares_components(path: str, directory: str, rest: str | None) -> None:
    """A directory's name that begins another's is not its parent."""
    assert below(path, directory) == rest


def test_aliases(tmp_path: Path) -> None:
    """As configured and resolved; one where they are the same."""
    (tmp_path / "l").symlink_to("r")
    real = os.path.realpath(tmp_path)
    assert aliases(f"{real}/l/") == (f"{real}/l", f"{real}/r")
    assert aliases(f"{real}/./r") == (f"{real}/r",)


@pytest.mark.parametrize(
    ("file", "target", "text"),
    [
        ("p/a/1/f", "p/a/1/g", "g"),
        ("p/a/2/d/f", "p/a/1/d/f", "../../1/d/f"),
        ("p/a/1/f", "q/b/2/x/y", "../../../q/b/2/x/y"),
        ("p/a/2/d/f", "p/b/2/d/f", "../../../b/2/d/f"),
        ("p/a/1/d/e/f", "p/a/1/f", "../../f"),
    ],
)
def test_links_on_disk_are_relative(file: str, target: str, text: str) -> None:
    """To the ancestor if there is one, so that the registry can be moved as a whole."""
    here, there = (FileAddress(*each.split("/", 3)) for each in (file, target))
    assert link_text(here.place, here.path, Link.to(there)) == text
    assert link_text(here.place, here.path, Link.to(FileAddress("x", "y", "z", "w"), there)) == text


NESTED = Surroundings(("/data/reg/p/a/1/s", "/stage/s"), ("/data/reg", "/data/reg/p/a/1/x"), ("/white",))
PARTS = st.sampled_from(["p", "a", "1", "f", "d", "s", "x", "..", ".", "..LOCK", ".hidden", "", "ü", "a..b"])
TOPS = st.sampled_from(
    ["/data/reg/p/a/1/", "/mnt/real/reg/p/a/1/", "/data/reg/", "/stage/s/", "/white/", "../", ""]
)
TEXTS = st.lists(st.tuples(TOPS, st.lists(PARTS, max_size=6).map("/".join)).map("".join).filter(bool))


def judged(around: Surroundings, path: str, text: str) -> object:
    try:
        return around.target(path, text)
    except Wrong as error:
        return error.reason


@given(texts=TEXTS, around=st.sampled_from([AROUND, NESTED]))
def test_many_links_go_where_each_goes(texts: list[str], around: Surroundings) -> None:
    """Whatever the texts before it say, and wherever the source and the registry lie."""
    links = [(f"d/l{index}", text) for index, text in enumerate(texts)]
    each = {path: judged(around, path, text) for path, text in links}
    bad = [reason for reason in each.values() if isinstance(reason, str)]
    if bad:
        with pytest.raises(Wrong) as raised:
            around.targets(links)
        assert raised.value.reason == bad[0]
    good = [link for link in links if not isinstance(each[link[0]], str)]
    assert around.targets(good) == {path: each[path] for path, _ in good}
