"""`gobbler mirror` as users type it."""

import json
import os
from pathlib import Path

import pytest
from archive.backends.shelf import read_archive, strays
from gobbler.shell import Shell
from support.places import make_directory, write_tree


@pytest.fixture(scope="module")
def source(over_http: Shell) -> str:
    write_tree(os.path.join(over_http.home, "made"), {"a": b"1", "d/b": b"22", "e": None})
    over_http.say("project", "create", "lab")
    for name in ("0.9.1", "0.10.0", "autumn"):
        over_http.say("upload", "made", "lab", "set", name)
    return over_http.exported["GOBBLER_URL"]


@pytest.fixture
def shelf(over_http: Shell) -> Path:
    place = Path(make_directory(os.path.join(over_http.home, f"shelf-{os.urandom(3).hex()}"), 0o755))
    (place / ".rmearchive").touch()
    return place


def test_a_mirror(over_http: Shell, source: str, shelf: Path) -> None:
    """What would be copied, what was, and what is there already are lines for people."""
    planned = over_http.say("mirror", source, str(shelf), "lab/set/<1", "--dry-run")
    assert planned.splitlines() == [
        "lab/set/0.9.1 would be copied: 2 files, 3 B",
        "lab/set/0.10.0 would be copied: 2 files, 3 B",
    ]
    assert os.listdir(shelf) == [".rmearchive"]
    copied = over_http.say("mirror", source, str(shelf), "lab/set/<1", "--workers", "2")
    assert copied.splitlines()[0] == "lab/set/0.9.1 copied: 2 files, 3 B"
    assert read_archive(shelf, "lab", "set")["0.10.0"] == {"a": b"1", "d/b": b"22", "e": None}
    assert strays(shelf) == []
    there = over_http.say("mirror", source, str(shelf), "lab/set/<1")
    assert there.splitlines()[0] == "lab/set/0.9.1 is there already"


def test_a_mirror_as_json(over_http: Shell, source: str, shelf: Path) -> None:
    """One document, with everything that became of each release; one that failed is exit code 1."""
    result = over_http.run("mirror", source, str(shelf), "lab/set", "--json")
    assert result.code == 1
    found = json.loads(result.output)
    assert (found["status"], found["from"], found["to"]) == ("ERROR", source, str(shelf))
    outcomes = {one["version"]: one["outcome"] for one in found["releases"]}
    assert outcomes == {"0.9.1": "copied", "0.10.0": "copied", "autumn": "failed"}


def test_into_a_registry_of_another_service(over_http: Shell, by_file: Shell, source: str) -> None:
    """With its staging directory it goes there; with the one of the environment, which is not its own, it does not."""
    by_file.say("project", "create", "lab")
    there = by_file.daemon.registry
    said = over_http.refused("mirror", source, there, "lab/set/0.9.1")
    assert "is not the staging directory of" in said
    done = over_http.say("mirror", source, there, "lab/set/0.9.1", "--staging", by_file.daemon.staging)
    assert done == "lab/set/0.9.1 copied: 2 files, 3 B\n"
    assert by_file.json("latest", "lab", "set")["version"] == "0.9.1"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nowhere", "SHELF", "lab/set"), 1, "no directory"),
        (("SHELF", "SHELF", "lab/set"), 1, "no release at"),
        (("SHELF", "SHELF", "lab"), 1, "PROJECT/ASSET"),
        (("SHELF", "SHELF", "lab/set/>=x"), 2, "no version"),
        (("HOME", "SHELF", "lab/set"), 1, "touch .rmearchive"),
        (("http://127.0.0.1:1", "SHELF", "lab/set"), 3, "cannot reach"),
        (("ftp://example.org", "SHELF", "lab/set"), 1, "http or https"),
    ],
)
def test_what_cannot_be_mirrored(
    over_http: Shell, shelf: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """One sentence on standard error, and an exit code."""
    named = [word.replace("SHELF", str(shelf)).replace("HOME", over_http.home) for word in arguments]
    assert said in over_http.refused("mirror", *named, code=code)
