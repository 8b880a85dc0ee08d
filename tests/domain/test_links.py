"""Chains of links, as values."""

import itertools

import pytest

from gobblerd.domain.links import Chains, Doomed, gather, is_proper, is_proper_path, step
from gobblerd.domain.manifest import FileAddress, Link
from gobblerd.domain.names import Address


def file(name: str) -> FileAddress:
    """`name` is a version of p/a; the file in it is always `f`."""
    return FileAddress("p", "a", name, "f")


def chain(*names: str) -> dict[FileAddress, Link | None]:
    """Return files of which each links to the next, with ancestors as an upload writes them."""
    files = [file(name) for name in names]
    links: dict[FileAddress, Link | None] = {
        each: Link.to(after, files[-1]) for each, after in itertools.pairwise(files)
    }
    links[files[-1]] = None
    return links


def rerouted(links: dict[FileAddress, Link | None], name: str, *doomed: str) -> Link | None:
    link = links[file(name)]
    assert link is not None
    known = gather([step(link)], lambda files: {each: links[each] for each in files if each in links})
    return Chains(known, Doomed(Address("p", "a", each) for each in doomed)).rerouted(*step(link))


@pytest.mark.parametrize(
    ("doomed", "expected"),
    [
        (["3"], Link.to(file("2"), file("1"))),  # the parent goes: the next one is nearest, the end farthest
        (["3", "2"], Link.to(file("1"))),  # what is nearest is farthest, too
        (["1"], Link.to(file("3"), file("2"))),  # the ancestor goes: the last living file becomes real
        (["1", "2"], Link.to(file("3"))),
        (["3", "1"], Link.to(file("2"))),
        (["2"], Link.to(file("3"), file("1"))),
        (["1", "2", "3"], None),
    ],
)
def test_nearest_and_farthest_living(doomed: list[str], expected: Link | None) -> None:
    """A link's new parent is the nearest living file of its chain, its ancestor the farthest."""
    assert rerouted(chain("4", "3", "2", "1"), "4", *doomed) == expected


def test_absent_parent_leaves_the_ancestor() -> None:
    """Where the parent's version is gone already, the ancestor that the link names is where it goes."""
    links = chain("3", "2", "1")
    del links[file("2")]
    assert rerouted(links, "3", "2") == Link.to(file("1"))
    assert rerouted(links, "3", "1") is None


def test_circle_ends() -> None:
    """A damaged chain that runs in a circle is followed once."""
    links: dict[FileAddress, Link | None] = {
        file("1"): Link.to(file("2")),
        file("2"): Link.to(file("3")),
        file("3"): Link.to(file("2")),
    }
    assert rerouted(links, "1", "2") == Link.to(file("3"))
    assert rerouted(links, "1", "2", "3") is None


def test_long_chains_share_their_rests() -> None:
    """Chains as long as an asset has versions are no problem, neither for the stack nor for time."""
    names = [str(number) for number in range(5000, 0, -1)]
    links = chain(*names)
    starts = [step(link) for link in links.values() if link]
    chains = Chains(
        gather(starts, lambda files: {each: links[each] for each in files}), Doomed([Address("p", "a", "1")])
    )
    assert chains.rerouted(*starts[0]) == Link.to(file("4999"), file("2"))
    assert [chains.rerouted(*each) for each in starts][-1] is None


def test_manifests_are_asked_for_in_rounds() -> None:
    """All chains advance together, so that each version is asked for once if they are of one length."""
    asked: list[set[FileAddress]] = []
    links: dict[FileAddress, Link | None] = {
        FileAddress("p", "a", version, path): Link.to(FileAddress("p", "a", below, path))
        for version, below in (("3", "2"), ("2", "1"))
        for path in "xyz"
    } | {FileAddress("p", "a", "1", path): None for path in "xyz"}

    def look_up(files: set[FileAddress]) -> dict[FileAddress, Link | None]:
        asked.append(files)
        return {each: links[each] for each in files}

    known = gather([step(link) for each, link in links.items() if link and each.version == "3"], look_up)
    assert [{each.version for each in files} for files in asked] == [{"2"}, {"1"}]
    assert len(known) == 6


def test_doomed_places() -> None:
    """A place dooms everything at and below it, and nothing with a name that merely begins alike."""
    doomed = Doomed([Address("p"), Address("q", "a"), Address("r", "a", "1")])
    assert Address("p", "x", "y") in doomed
    assert FileAddress("q", "a", "9", "f") in doomed
    assert Address("r", "a", "1") in doomed
    for living in (
        Address("pp", "x", "y"),
        Address("q", "b", "1"),
        Address("r", "a", "2"),
        Address("r", "b", "1"),
    ):
        assert living not in doomed
    assert doomed.takes(Link.to(FileAddress("z", "a", "1", "f"), FileAddress("p", "a", "1", "f")))
    assert not doomed.takes(Link.to(FileAddress("z", "a", "1", "f")))


@pytest.mark.parametrize(
    "path", ["", "/x", "x/", "a//b", "./a", "a/../b", "..links", "a/..links", "a\0", "\udc80"]
)
def test_improper_paths(path: str) -> None:
    """What metadata says is not taken for a file's path if no upload could have made it."""
    assert not is_proper_path(path)
    assert not is_proper(FileAddress("p", "a", "1", path))


def test_proper_addresses() -> None:
    """Names of versions must be names, too."""
    assert is_proper(FileAddress("p", "a", "1", "d/é x.txt"))
    assert not is_proper(FileAddress("..", "a", "1", "f"))
    assert not is_proper(FileAddress("p", "a/b", "1", "f"))
