"""Every subcommand of `gobbler`, in the order of a project's life, by file and over HTTP."""

import json
import os
import shutil
import time

import pytest
from examples.desk import ended
from gobbler.shell import Shell
from support.places import Symlink, Tree, read_tree, write_tree

TREE: Tree = {"a.csv": b"a,b\n", "deep/b.txt": b"text\n", "deep/none": None, "c.csv": Symlink("a.csv")}
FILES: Tree = {"a.csv": b"a,b\n", "deep/b.txt": b"text\n", "deep/none": None, "c.csv": b"a,b\n"}


@pytest.fixture(scope="module")
def data(shell: Shell) -> str:
    path = os.path.join(shell.home, "data")
    write_tree(path, {**TREE, ".dot": b"dot\n"})
    return path


@pytest.fixture(scope="module")
def lab(shell: Shell, data: str) -> str:
    """Return a project with the version lab/set/1, made by `gobbler` itself."""
    assert shell.say("project", "create", "lab", "--owner", "root") == "The project lab is there.\n"
    said = shell.say("upload", data, "lab", "set", "1", "--ignore-dot")
    assert said == "lab/set/1 is uploaded.\n"
    assert shell.left_in_staging() == []
    return "lab"


# ---- looking


def test_ls(shell: Shell, lab: str) -> None:
    """Names, a line each; with -l facts, with -R all files below; as JSON a list."""
    assert shell.say("ls").split() == ["lab"]
    assert shell.say("ls", "lab").split() == ["set"]
    assert shell.say("ls", "lab/set") == "1\n"
    assert shell.say("ls", "lab/set/1/").split() == ["a.csv", "c.csv", "deep/"]
    assert shell.say("ls", "lab/set/1/deep").split() == ["b.txt", "none/"]
    assert shell.say("ls", "-R", "lab").split() == [
        "set/1/a.csv",
        "set/1/c.csv",
        "set/1/deep/b.txt",
        "set/1/deep/none/",
    ]
    assert shell.json("ls", "lab/set/1") == ["a.csv", "c.csv", "deep/"]
    assert shell.json("ls", "-l") == [{"name": "lab", "usage": 9, "owners": ["root"]}]


def test_long_listings(shell: Shell, lab: str) -> None:
    """Columns with a head at each level."""
    assert [line.split() for line in shell.say("ls", "-l").splitlines()] == [
        ["USAGE", "OWNERS", "NAME"],
        ["9", "B", "root", "lab"],
    ]
    assert shell.say("ls", "-l", "lab").splitlines()[1].split() == ["1", "set"]
    version = shell.say("ls", "-l", "lab/set").splitlines()[1].split()
    assert version[1:] == ["root", "latest", "1"]
    assert shell.say("ls", "-lR", "lab/set/1").splitlines()[2].split()[-2:] == ["->", "lab/set/1/a.csv"]


@pytest.mark.parametrize("place", ["nowhere", "lab/nowhere", "lab/set/9", "lab/set/1/nowhere"])
def test_ls_of_what_is_not_there(shell: Shell, lab: str, place: str) -> None:
    """The sentence names it."""
    assert place in shell.refused("ls", place)


def test_info(shell: Shell, lab: str) -> None:
    """At each level what there is to know; without a place, that the service answers."""
    assert "it answers:" in shell.say("info")
    assert shell.json("info")["answers"] is True
    assert shell.json("info", "lab")["assets"] == ["set"]
    assert "owners:  root\n" in shell.say("info", "lab")
    assert shell.json("info", "lab/set")["latest"] == "1"
    assert "latest:    1\n" in shell.say("info", "lab/set")
    about = shell.json("info", "lab/set/1")
    assert {key: about[key] for key in ("files", "links", "size", "stored", "latest")} == {
        "files": 4,
        "links": 1,
        "size": 13,
        "stored": 9,
        "latest": True,
    }
    assert "uploaded by:" in shell.say("info", "lab/set/1")
    assert "nowhere" in shell.refused("info", "nowhere")


def test_documents(shell: Shell, lab: str) -> None:
    """With --json they are what the registry holds."""
    assert shell.json("manifest", "lab", "set", "1") == shell.daemon.read("lab", "set", "1", "..manifest")
    lines = shell.say("manifest", "lab", "set", "1").splitlines()
    assert len(lines) == 5
    assert lines[1].split()[-1] == "a.csv"
    assert shell.json("summary", "lab", "set", "1") == shell.daemon.read("lab", "set", "1", "..summary")
    assert "uploaded by:" in shell.say("summary", "lab", "set", "1")
    assert shell.json("latest", "lab", "set") == {"version": "1"}
    assert shell.say("latest", "lab", "set") == "1\n"
    assert shell.json("usage", "lab") == {"total": 9}
    assert shell.say("usage", "lab") == "9 bytes\n"
    assert shell.json("usage") == {"lab": 9}
    assert shell.say("usage").split() == ["9", "B", "lab"]
    assert shell.json("permissions", "show", "lab") == shell.daemon.read("lab", "..permissions")
    assert "nobody" in shell.say("permissions", "show", "lab", "set")
    assert shell.json("quota", "show", "lab")["usage"] == 9
    assert "baseline:" in shell.say("quota", "show", "lab")


# ---- fetching


def test_fetch(shell: Shell, lab: str) -> None:
    """The files are where it says, or in the directory that was given; the version is the latest by default."""
    path = shell.say("fetch", "lab", "set").strip()
    with open(os.path.join(path, "deep/b.txt"), "rb") as file:
        assert file.read() == b"text\n"
    assert shell.json("fetch", "lab", "set", "1")["path"] == path
    target = os.path.join(shell.home, "here")
    assert "4 files" in shell.say("fetch", "lab", "set", "latest", "-o", target)
    assert read_tree(target) == FILES
    os.unlink(os.path.join(target, "a.csv"))
    assert shell.json("fetch", "lab", "set", "1", "-o", target)["path"] == target
    assert read_tree(target) == FILES


def test_a_killed_fetch_continues(shell: Shell, lab: str) -> None:
    """Killed at any moment, DIR holds whole files only; the next fetch completes it and leaves nothing else."""
    source, target = os.path.join(shell.home, "big"), os.path.join(shell.home, "killed")
    write_tree(source, {f"{number}.bin": os.urandom(3_000_000) for number in range(8)})
    shell.say("upload", source, "lab", "big", "1")
    for delay in (0.25, 0.3, 0.35):
        with shell.spawn("fetch", "lab", "big", "-o", target) as process:
            time.sleep(delay)
            process.kill()
            process.communicate()
        whole = {
            path: data
            for path, data in read_tree(target).items()
            if path.endswith(".bin") and "/" not in path
        }
        assert whole.items() <= read_tree(source).items()
    shell.say("fetch", "lab", "big", "-o", target)
    assert read_tree(target) == read_tree(source)


def test_several_fetches_into_one_directory(shell: Shell, lab: str) -> None:
    """As the tasks of a job array do: all get everything, and nothing else is left."""
    source, target = os.path.join(shell.home, "shared"), os.path.join(shell.home, "together")
    write_tree(source, {f"{number}.bin": os.urandom(1_000_000) for number in range(12)})
    shell.say("upload", source, "lab", "shared", "1")
    tasks = [shell.spawn("fetch", "lab", "shared", "-o", target) for _ in range(4)]
    results = [ended(task) for task in tasks]
    assert [(result.code, result.errors) for result in results] == [(0, "")] * len(tasks)
    assert read_tree(target) == read_tree(source)


def test_a_directory_in_which_all_is_there_is_not_written_to(shell: Shell, lab: str) -> None:
    """It may be somebody else's."""
    target = os.path.join(shell.home, "complete")
    shell.say("fetch", "lab", "set", "1", "-o", target)
    before = os.stat(target).st_mtime_ns
    shell.say("fetch", "lab", "set", "1", "-o", target)
    assert os.stat(target).st_mtime_ns == before


def test_fetch_by_expression(shell: Shell, lab: str) -> None:
    """The newest version that is meant is fetched; what means nothing is said, with its exit code."""
    write_tree(os.path.join(shell.home, "spec"), {"f": b"1"})
    shell.say("upload", "spec", "lab", "spec", "0.9.1")
    shell.say("upload", "spec", "lab", "spec", "0.10.0")
    shell.say("upload", "spec", "lab", "spec", "1.0-rc.1", "--probation")
    assert shell.json("fetch", "lab", "spec", "<1")["version"] == "0.10.0"
    assert "is latest,<0.9" in shell.refused("fetch", "lab", "spec", "latest,<0.9")
    assert shell.json("fetch", "lab", "spec", "~=0.9.0")["version"] == "0.9.1"
    assert shell.json("fetch", "lab", "spec", "1.0-rc.1")["version"] == "1.0-rc.1"
    assert "no version of lab/spec is >=1.0-a" in shell.refused("fetch", "lab", "spec", ">=1.0-a")
    assert "'draft' is no version" in shell.refused("fetch", "lab", "spec", ">=draft", code=2)


def test_fetch_overwrites_nothing(shell: Shell, lab: str) -> None:
    """A file of the user's that is something else stays, and the sentence names it."""
    target = os.path.join(shell.home, "mine")
    write_tree(target, {"a.csv": b"mine"})
    assert f"{target}/a.csv" in shell.refused("fetch", "lab", "set", "-o", target, code=2)
    assert read_tree(target) == {"a.csv": b"mine"}


def test_fetch_of_what_is_not_there(shell: Shell, lab: str) -> None:
    """The sentence names it."""
    assert "lab/set/9" in shell.refused("fetch", "lab", "set", "9")
    assert "latest version of lab/nothing" in shell.refused("fetch", "lab", "nothing")


# ---- changing


def test_uploads(shell: Shell, lab: str, data: str) -> None:
    """On probation, with dots, from within staging and consumed."""
    assert "on probation" in shell.say("upload", data, "lab", "up", "probational", "--probation")
    assert shell.daemon.read("lab", "up", "probational", "..summary")["on_probation"] is True
    assert ".dot" in shell.daemon.read("lab", "up", "probational", "..manifest")
    inside = os.path.join(shell.daemon.staging, "inside")
    write_tree(inside, {"x": b"x"})
    answer = shell.json("upload", inside, "lab", "up", "2", "--consume")
    assert answer == {
        "status": "SUCCESS",
        "project": "lab",
        "asset": "up",
        "version": "2",
        "on_probation": False,
    }
    assert os.listdir(inside) == []
    os.rmdir(inside)
    assert "exists already" in shell.refused("upload", data, "lab", "up", "2")
    assert shell.left_in_staging() == []


def test_upload_without_waiting(shell: Shell, lab: str, data: str) -> None:
    """The name that is printed is what `gobbler wait` takes; it clears away what was left."""
    name = shell.say("upload", data, "lab", "later", "1", "--no-wait").strip()
    assert name.startswith("request-upload-")
    assert json.loads(shell.say("wait", name)) == {"status": "SUCCESS"}
    assert shell.json("wait", name) == {"status": "SUCCESS"}, "the answer stays for a while"
    assert shell.left_in_staging() == []
    again = shell.json("upload", data, "lab", "later", "1", "--no-wait")["request"]
    assert "exists already" in shell.refused("wait", again)
    assert "there is neither" in shell.refused("wait", "request-upload-none")
    assert "begin with" in shell.refused("wait", "none", code=2)


def test_permissions_as_a_go_service_wrote_them(shell: Shell, lab: str) -> None:
    """It writes null for a list without entries: to be shown, and added to, like an empty one."""
    shell.say("project", "create", "adopted")
    project = os.path.join(shell.daemon.registry, "adopted")
    os.mkdir(os.path.join(project, "mine"))
    for path in (project, os.path.join(project, "mine")):
        with open(os.path.join(path, "..permissions"), "w", encoding="utf-8") as file:
            json.dump({"owners": ["bob"], "uploaders": None}, file)
    found = {"owners": ["bob"], "uploaders": []}
    assert shell.json("permissions", "show", "adopted") == found
    assert shell.json("permissions", "show", "adopted", "mine") == found
    for place in (["adopted"], ["adopted", "mine"]):
        assert "nobody" in shell.say("permissions", "show", *place)
        assert "bob" in shell.say("info", "/".join(place))
        shell.say("permissions", "set", *place, "--uploader", "eve")
        assert shell.json("permissions", "show", *place) == {"owners": ["bob"], "uploaders": [{"id": "eve"}]}


def test_permissions(shell: Shell, lab: str) -> None:
    """Added to what there is, or instead of it; entries with limits, or as JSON."""
    shell.say("project", "create", "rights", "--uploader", "eve,asset=a,trusted", "--global-write")
    shell.say(
        "permissions", "set", "rights", "--owner", "alice", "--uploader", '{"id": "bob", "version": "7"}'
    )
    assert shell.json("permissions", "show", "rights") == {
        "owners": ["root", "alice"],
        "uploaders": [{"id": "eve", "asset": "a", "trusted": True}, {"id": "bob", "version": "7"}],
        "global_write": True,
    }
    assert "uploader eve: asset a, trusted" in shell.say("permissions", "show", "rights")
    before = shell.daemon.read("rights", "..permissions")
    shell.say("permissions", "set", "rights", "--owner", "alice", "--uploader", "eve,asset=a,trusted")
    assert shell.daemon.read("rights", "..permissions") == before  # what is said again is there once
    done = shell.json(
        "permissions", "set", "rights", "--replace", "--owner", "root", "--no-uploaders", "--no-global-write"
    )
    assert done == {"status": "SUCCESS"}
    assert shell.daemon.read("rights", "..permissions") == {
        "owners": ["root"],
        "uploaders": [],
        "global_write": False,
    }
    shell.say("permissions", "set", "rights", "asset", "--owner", "carol")
    assert shell.json("permissions", "show", "rights", "asset") == {"owners": ["carol"], "uploaders": []}
    shell.refused("permissions", "set", "rights", code=2)
    shell.refused("permissions", "set", "rights", "--uploader", "x,colour=red", code=2)


def test_probation(shell: Shell, lab: str, data: str) -> None:
    """Listed, approved, rejected."""
    for version in ("1", "2"):
        shell.say("upload", data, "lab", "trial", version, "--probation")
    assert [row["version"] for row in shell.json("probation", "list", "lab", "trial")] == ["1", "2"]
    assert "lab/trial/2" in shell.say("probation", "list")
    assert shell.say("probation", "approve", "lab", "trial", "1") == "lab/trial/1 is approved.\n"
    assert shell.json("probation", "reject", "lab", "trial", "2") == {"status": "SUCCESS"}
    assert shell.say("ls", "lab/trial") == "1\n"
    assert "not on probation" in shell.refused("probation", "approve", "lab", "trial", "1")


def test_quota(shell: Shell, lab: str) -> None:
    """Sizes may be written as people write them."""
    shell.say("quota", "set", "lab", "--baseline", "1.5TB", "--growth-rate", "2GiB", "--year", "2020")
    assert shell.daemon.read("lab", "..quota") == {
        "baseline": 1_500_000_000_000,
        "growth_rate": 2 << 30,
        "year": 2020,
    }
    assert shell.json("quota", "set", "lab", "--baseline", "5") == {"status": "SUCCESS"}
    shell.refused("quota", "set", "lab", "--baseline", "much", code=2)
    shell.refused("quota", "set", "lab", code=2)


def test_upkeep(shell: Shell, lab: str, data: str) -> None:
    """Validate, reindex, refresh."""
    shell.say("upload", data, "lab", "kept", "1")
    assert shell.say("validate", "lab", "kept", "1") == "lab/kept/1 is valid.\n"
    assert shell.json("validate", "lab", "kept", "1") == {"status": "SUCCESS"}
    with open(shell.daemon.path("lab", "kept", "1", "extra"), "wb") as file:
        file.write(b"extra")
    result = shell.run("validate", "lab", "kept", "1")
    assert result.code == 1
    assert "extra file" in result.errors
    assert result.output.splitlines()[1].split()[0] == "extra"
    broken = shell.run("validate", "lab", "kept", "1", "--json")
    assert (broken.code, json.loads(broken.output)["code"]) == (1, 422)
    assert json.loads(broken.output)["problems"][0]["path"] == "extra"
    assert "indexed anew" in shell.say("reindex", "lab", "kept", "1")
    assert shell.json("reindex", "lab", "kept", "1") == {"status": "SUCCESS"}
    assert shell.json("refresh", "usage", "lab")["total"] == shell.daemon.read("lab", "..usage")["total"]
    assert "occupies" in shell.say("refresh", "usage", "lab")
    assert shell.json("refresh", "latest", "lab", "kept")["version"] == "1"
    assert "is 1." in shell.say("refresh", "latest", "lab", "kept")


def test_clone(shell: Shell, lab: str) -> None:
    """A directory of links: uploaded, it takes no space; it needs the registry's directory."""
    target = os.path.join(shell.home, "clone")
    if "GOBBLER_REGISTRY" not in shell.exported:
        assert "--registry" in shell.refused("clone", "lab", "set", "1", target, code=2)
        return
    assert "holds links" in shell.say("clone", "lab", "set", "1", target)
    before = shell.json("usage", "lab")
    shell.say("upload", target, "lab", "cloned", "1")
    assert shell.json("usage", "lab") == before
    shutil.rmtree(target)
    assert shell.json("clone", "lab", "set", "1", target) == {"status": "SUCCESS", "path": target}
    assert "lab/set/9" in shell.refused("clone", "lab", "set", "9", target)


def test_reroute_and_removal(shell: Shell, lab: str, data: str) -> None:
    """Links are shown, saved, and then what they went to is removed, level by level."""
    for version in ("1", "2"):
        shell.say("upload", data, "lab", "gone", version)
    planned = shell.json("reroute", "lab/gone/1", "--dry-run")
    assert {change["path"] for change in planned["changes"]} >= {"lab/gone/2/a.csv"}
    assert "would change" in shell.say("reroute", "lab/gone/1", "--dry-run")
    assert "changed." in shell.say("reroute", "lab/gone/1")
    assert "a/b/c/d" in shell.refused("reroute", "a/b/c/d", code=2)
    assert shell.say("version", "remove", "lab", "gone", "1") == "The version lab/gone/1 is gone.\n"
    assert shell.say("validate", "lab", "gone", "2") == "lab/gone/2 is valid.\n"
    assert shell.json("asset", "remove", "lab", "gone", "--force") == {"status": "SUCCESS"}
    shell.say("project", "create", "short")
    assert shell.say("project", "remove", "short", "--yes") == "The project short is gone.\n"
    assert shell.daemon.read("short", "..usage") is None


# ---- any request


def test_any_request(shell: Shell, lab: str) -> None:
    """The action is an option, a key, or the file's name; the document comes from a file or standard input."""
    assert json.loads(shell.say("request", "-", "--action", "health_check", given="{}")) == {
        "status": "SUCCESS"
    }
    assert shell.json("request", "-", given='{"action": "refresh_usage", "project": "lab"}')["total"] > 0
    for name in ("refresh_usage.json", "request-refresh_usage-mine"):
        path = os.path.join(shell.home, name)
        write_tree(shell.home, {name: b'{"project": "lab"}'})
        assert json.loads(shell.say("request", path))["total"] > 0
    dropped = shell.say("request", path, "--no-wait").strip()
    assert json.loads(shell.say("wait", dropped))["total"] > 0
    assert shell.left_in_staging() == []
    assert '"dance"' in shell.refused("request", "-", "--action", "dance", given="{}")
    assert "not JSON" in shell.refused("request", "-", "--action", "x", given="{", code=2)
    assert "not a JSON object" in shell.refused("request", "-", "--action", "x", given="[]", code=2)
    assert "--action" in shell.refused("request", "-", given="{}", code=2)


def test_do_any_action(shell: Shell, lab: str) -> None:
    """Options are made from the action's model."""
    assert json.loads(shell.say("do", "health_check")) == {"status": "SUCCESS"}
    assert shell.json("do", "refresh_latest", "--project", "lab", "--asset", "set") == {
        "status": "SUCCESS",
        "version": "1",
    }
    places = '[{"project": "lab", "asset": "set"}]'
    assert "changes" in shell.json("do", "reroute_links", "--to-delete", places, "--dry-run")
    assert "there is no project" in shell.refused(
        "do", "set_quota", "--project", "nowhere", "--baseline", "5"
    )
    assert "--asset" in shell.refused("do", "refresh_latest", "--project", "lab", code=2)
    assert "not JSON" in shell.refused("do", "reroute_links", "--to-delete", "lab", code=2)
