"""Reading the registry: what is absent, what is damaged, and which version is the latest."""

import json
import os

import pytest
from support.bench import Bench

from gobblerd.domain.errors import Fault
from gobblerd.domain.names import ROOT, Address
from gobblerd.domain.permissions import NOBODY
from gobblerd.domain.version import Latest
from gobblerd.registry.metadata import Metadata

P, A, V = Address("p"), Address("p", "a"), Address("p", "a", "1")


@pytest.fixture
def metadata(bench: Bench) -> Metadata:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"12", "l": ("link", "f")})
    bench.upload("p/a/2", {"g": b"345"})
    bench.upload("p/b/1", {"h": b"6"}, on_probation=True)
    return Metadata(str(bench.root))


def test_what_is_there(metadata: Metadata) -> None:
    """Directories only; internal ones have no address, but the root has one."""
    root = metadata.root
    with open(f"{root}/p/file", "w", encoding="utf-8"):
        pass
    os.symlink("none", f"{root}/p/dangling")
    os.symlink("circle", f"{root}/p/circle")
    for place in (ROOT, P, A, V):
        assert metadata.has(place)
    for place in (
        Address("q"),
        Address("q", "a"),
        Address("p", "file"),
        Address("p", "file", "x"),
        Address("p", "dangling"),
        Address("p", "circle"),
        Address("p", "circle", "x"),
    ):
        assert not metadata.has(place)


def test_listings(metadata: Metadata) -> None:
    """By name; internal names, files, links and names that nothing can have are left out."""
    root = metadata.root
    os.mkdir(f"{root}/p/..odd")
    os.mkdir(f"{root}/p/old\\rule")
    os.mkdir(os.fsencode(root) + b"/p/caf\xe9")
    os.symlink("a", f"{root}/p/alias")
    with open(f"{root}/p/file", "w", encoding="utf-8"):
        pass
    assert metadata.projects() == [P]
    assert metadata.children(P) == [A, Address("p", "b"), Address("p", "old\\rule")]
    assert list(metadata.versions_below(P)) == [V, Address("p", "a", "2"), Address("p", "b", "1")]
    assert list(metadata.versions_below(V)) == [V]


def test_needed_documents(metadata: Metadata) -> None:
    """Missing or damaged: a Fault that names the file by its path in the registry."""
    needed = {
        "p/..permissions": lambda: metadata.permissions(P),
        "p/..usage": lambda: metadata.usage("p"),
        "p/a/1/..summary": lambda: metadata.summary(V),
        "p/a/1/..manifest": lambda: metadata.manifest(V),
    }
    for path, read in needed.items():
        read()
        for content in ("{", None):
            if content is None:
                os.unlink(f"{metadata.root}/{path}")
            else:
                with open(f"{metadata.root}/{path}", "w", encoding="utf-8") as file:
                    file.write(content)
            with pytest.raises(Fault) as caught:
                read()
            assert f'"{path}"' in caught.value.reason
            assert metadata.root not in caught.value.reason


def test_optional_documents(metadata: Metadata) -> None:
    """Absent is None or nobody; damaged is a Fault, but for checksums, which are ours alone."""
    assert metadata.permissions(A) == NOBODY
    assert metadata.quota("p") is not None
    for path in ("p/..quota", "p/a/..latest", "p/a/1/..checksums"):
        os.unlink(f"{metadata.root}/{path}")
    assert metadata.quota("p") is None
    assert metadata.latest(A) is None
    assert metadata.checksums(V) == {}
    for path in ("p/..quota", "p/a/..latest", "p/a/1/..checksums", "p/a/..permissions"):
        with open(f"{metadata.root}/{path}", "w", encoding="utf-8") as file:
            file.write("{")
    for read in (lambda: metadata.quota("p"), lambda: metadata.latest(A), lambda: metadata.permissions(A)):
        with pytest.raises(Fault):
            read()
    assert metadata.checksums(V) == {}


def test_the_latest_is_computed(metadata: Metadata) -> None:
    """From the summaries that can be read, probational ones and those on the way out apart."""
    assert metadata.computed_latest(A) == Latest("2")
    assert metadata.computed_latest(A, frozenset({Address("p", "a", "2")})) == Latest("1")
    assert metadata.computed_latest(Address("p", "b")) is None
    with open(f"{metadata.root}/p/a/2/..summary", "w", encoding="utf-8") as file:
        json.dump({"upload_user_id": "u", "upload_start": "x", "upload_finish": "y"}, file)
    assert metadata.readable_summary(Address("p", "a", "2")) is None
    assert metadata.computed_latest(A) == Latest("1")


def test_stored_bytes(metadata: Metadata) -> None:
    """Without the links."""
    assert metadata.stored_bytes(V) == 2
