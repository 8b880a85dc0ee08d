"""Releases as readers see them: from disk, over REST, and from a service that knows no expressions."""

import hashlib
import os

import pytest
from client.middleman import Middleman
from support.daemon import RunningDaemon, StartDaemon
from support.places import read_tree

from gobblerd import client
from gobblerd.client import GobblerError, GobblerUnreachable

NAMES = ("0.9.1", "0.10.0", "v1.0", "1.1.0-rc.1", "draft", "3")
CONTENT = {name: f"content of {name}\n".encode() for name in NAMES}
GO_ANSWER = (404, {"Content-Type": "text/plain"}, b"404 page not found\n")


@pytest.fixture(scope="module")
def daemon(start_module_daemon: StartDaemon) -> RunningDaemon:
    daemon = start_module_daemon()
    daemon.done("create_project", {"project": "proj"})
    for name in NAMES:
        daemon.upload(f"proj/data/{name}", {"f": CONTENT[name], "d/same": b"same", "empty": None})
    daemon.upload("proj/data/9", {"f": b"9"}, on_probation=True)
    return daemon


@pytest.fixture(params=["disk", "rest", "older service"])
def places(request: pytest.FixtureRequest, daemon: RunningDaemon, man: Middleman) -> dict[str, str | None]:
    if request.param == "disk":
        return {"registry": daemon.registry, "url": None}
    if request.param == "older service":
        for spec in ("%3E%3D0", "latest", "9", "", "%3E%3D1.1.0-a%2C%3C2", "%3E5", "draft"):
            asked = "project=proj&asset=data" + (f"&spec={spec}" if spec else "")
            man.instead[f"/resolve?{asked}"] = GO_ANSWER
    return {"registry": None, "url": man.url}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (">=0", ["0.9.1", "0.10.0", "v1.0", "3"]),
        (">=1.1.0-a,<2", ["1.1.0-rc.1"]),
        ("latest", ["3"]),
        ("draft", ["draft"]),
        (None, ["draft", "0.9.1", "0.10.0", "v1.0", "1.1.0-rc.1", "3"]),
        ("9", []),
        (">5", []),
    ],
)
def test_versions_that_are_meant(
    places: dict[str, str | None], spec: str | None, expected: list[str]
) -> None:
    """The same from everywhere: oldest to newest by precedence, nothing on probation."""
    assert client.resolve_versions("proj", "data", spec, **places) == expected


def test_what_is_not_there(daemon: RunningDaemon, man: Middleman) -> None:
    """Reading what is not there fails as all reading does; a wrong expression is the caller's."""
    with pytest.raises(FileNotFoundError):
        client.resolve_versions("proj", "none", "1", daemon.registry, None)
    with pytest.raises(GobblerError) as error:
        client.resolve_versions("proj", "none", "1", None, man.url)
    assert error.value.code == 404
    with pytest.raises(ValueError, match="'draft' is no version"):
        client.resolve_versions("proj", "data", ">=draft", None, man.url)
    with pytest.raises(GobblerUnreachable):
        client.resolve_versions("proj", "data", ">=1", None, None)


def test_release_record(places: dict[str, str | None]) -> None:
    """One document has what manifest and summary say."""
    record = client.release_record("proj", "data", "v1.0", **places)
    assert record["title"] == "data-v1.0"
    assert (record["project"], record["asset"], record["version"]) == ("proj", "data", "v1.0")
    assert record["uploader"] == "root"
    assert record["upload_start"] < record["upload_finish"]
    assert record["size"] == len(CONTENT["v1.0"]) + 4
    assert record["directories"] == ["empty"]
    linked, own = record["files"]
    assert own == {
        "path": "f",
        "size": len(CONTENT["v1.0"]),
        "md5sum": hashlib.md5(CONTENT["v1.0"]).hexdigest(),
    }
    assert (linked["path"], linked["link"]["version"]) == ("d/same", "0.10.0")
    assert client.release_record("proj", "data", "3", **places)["title"] == "data-v3"
    assert client.release_record("proj", "data", "draft", **places)["title"] == "data-vdraft"
    assert client.release_record("proj", "data", "9", **places)["on_probation"] is True


def test_download(man: Middleman, cache: str) -> None:
    """The newest that is meant arrives, every file is told of, and the second time asks for nothing of it."""
    told: list[tuple[str, int, int]] = []
    totals: list[tuple[int, ...]] = []
    path = client.download_version(
        "proj",
        "data",
        ">=0.9,<1",
        man.url,
        cache,
        max_workers=2,
        progress=lambda *numbers: totals.append(numbers),
        each=lambda *facts: told.append(facts),
    )
    assert path.endswith("proj/data/0.10.0")
    found = {name: content for name, content in read_tree(path).items() if not name.startswith("..")}
    assert found == {"f": CONTENT["0.10.0"], "d/same": b"same", "empty": None} | {
        name: content for name, content in found.items() if os.path.basename(name).startswith("..")
    }
    for name, size in (("f", len(CONTENT["0.10.0"])), ("d/same", 4)):
        assert told.count((f"proj/data/0.10.0/{name}", size, size)) == 1
    assert totals[-1][0] == totals[-1][1]
    fetched = len([one for one in man.seen if one.path.startswith("/fetch/")])
    assert client.download_version("proj", "data", ["~=0.9", "<1"], man.url, cache) == path
    assert client.download_version("proj", "data", "0.10.0", man.url, cache) == path
    assert len([one for one in man.seen if one.path.startswith("/fetch/")]) == fetched


def test_download_of_nothing(man: Middleman, cache: str) -> None:
    """What matches nothing is said, with what was asked for."""
    with pytest.raises(GobblerError, match=r"no version of proj/data is >5") as error:
        client.download_version("proj", "data", ">5", man.url, cache)
    assert error.value.code == 404
    with pytest.raises(GobblerUnreachable, match="needs the URL"):
        client.download_version("proj", "data", "3", None, cache)
    with pytest.raises(ValueError, match="at least 1"):
        client.download_version("proj", "data", "3", man.url, cache, max_workers=0)
