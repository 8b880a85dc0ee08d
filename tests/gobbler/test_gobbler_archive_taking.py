"""`gobbler archive inspect|verify|extract|install` and `gobbler upload ARCHIVE`, as users run them."""

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from gobbler.shell import Shell
from support.malice import directory, file, link, tar
from support.places import read_tree
from support.receipts import with_receipt

TREE = [
    directory("top"),
    file("top/..summary", json.dumps({"upload_user_id": "anna"}).encode()),
    file("top/f", b"12345"),
    file("top/run.sh", b"#!/bin/sh\necho ran > ran\npwd >> ran\n", mode=0o755),
    link("top/l", "f"),
]


@pytest.fixture
def archive(shell: Shell, tmp_path: Path) -> Path:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(*TREE))
    return path


# ---- looking


def test_inspect(shell: Shell, archive: Path) -> None:
    """For people, with -l every member; as JSON; 1 for what would be refused."""
    said = shell.say("archive", "inspect", str(archive))
    assert "3 files, 1 directory, 1 link" in said
    assert "anna" in said
    assert "top/l -> f" in shell.say("archive", "inspect", "-l", str(archive))
    found = shell.json("archive", "inspect", "-l", str(archive))
    assert (found["files"], found["top"], found["receipt"], found["refusal"]) == (3, "top", None, None)
    assert [member["path"] for member in found["members"]] == [info.name for info, _ in TREE]
    archive.write_bytes(tar(file("top/f"), file("../evil")))
    result = shell.run("archive", "inspect", str(archive))
    assert result.code == 1
    assert "../evil" in result.output


def test_verify(shell: Shell, archive: Path) -> None:
    """0 and what it is, or 1 and what is wrong."""
    assert "neither receipt nor manifest" in shell.say("archive", "verify", str(archive))
    assert "--require-sha256" not in shell.refused("archive", "verify", "--require-sha256", str(archive))
    with_receipt(archive, TREE)
    assert "as its receipt say" in shell.say("archive", "verify", "--require-sha256", str(archive))
    found = shell.json("archive", "verify", str(archive))
    assert found["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    with open(archive, "ab") as opened:
        opened.write(b"more")
    result = shell.run("archive", "verify", str(archive))
    assert result.code == 1
    assert [line.split()[:2] for line in result.output.splitlines()[1:]] == [
        ["x.tar", "digest"],
        ["x.tar", "unreadable"],
    ]
    assert "2 problems" in result.errors
    bad = shell.run("archive", "verify", "--json", str(archive))
    assert (bad.code, json.loads(bad.output)["status"]) == (1, "ERROR")


# ---- taking out


def test_extract(shell: Shell, archive: Path, tmp_path: Path) -> None:
    """All of it or nothing; a target that holds something is refused."""
    target = tmp_path / "out"
    assert shell.json("archive", "extract", str(archive), str(target)) == {
        "status": "SUCCESS",
        "path": str(target),
        "files": 3,
        "size": sum(info.size for info, _ in TREE),
    }
    assert (target / "top/l").read_bytes() == b"12345"
    assert "not an empty directory" in shell.refused("archive", "extract", str(archive), str(target))
    archive.write_bytes(tar(*TREE, link("top/out", "/etc")))
    assert '"top/out"' in shell.refused("archive", "extract", str(archive), str(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["out", "x.tar"]


def test_extract_without_an_archive(shell: Shell, tmp_path: Path) -> None:
    """A mistake in the command: 2."""
    shell.refused("archive", "extract", str(tmp_path / "none"), str(tmp_path / "out"), code=2)


def test_install(shell: Shell, archive: Path, tmp_path: Path) -> None:
    """Nothing runs unless it is named; what holds the path afterwards is listed."""
    options = ("--environment", "e", "--prefix", "/opt/e")
    shell.say("archive", "install", str(archive), str(tmp_path / "a"), *options)
    assert not (tmp_path / "a/ran").exists()
    said = shell.say(
        "archive", "install", str(archive), str(tmp_path / "b"), *options, "--postinstall", "top/run.sh"
    )
    assert (tmp_path / "b/ran").exists()
    assert "That path is in 1 file:" in said
    shell.refused("archive", "install", str(archive), str(tmp_path / "c"), *options, "--postinstall", "none")


# ---- uploading


@pytest.fixture(scope="module")
def project(shell: Shell) -> str:
    shell.say("project", "create", "packed", "--owner", "root")
    return "packed"


def stored(shell: Shell, version: str) -> dict[str, object]:
    found = read_tree(shell.daemon.path("packed/set", version))
    return {path: content for path, content in found.items() if not path.startswith("..")}


def test_upload_an_archive(shell: Shell, project: str, archive: Path) -> None:
    """From anywhere: it is copied into staging with its receipt, and nothing stays there."""
    with_receipt(archive, TREE)
    assert shell.say("upload", str(archive), project, "set", "1") == "packed/set/1 is uploaded.\n"
    assert set(stored(shell, "1")) == {"f", "l", "run.sh"}
    shell.say("upload", str(archive), project, "set", "2", "--strip", "0")
    assert {path.partition("/")[0] for path in stored(shell, "2")} == {"top"}
    assert archive.exists()
    with_receipt(archive, TREE, sha256="0" * 64)
    assert "receipt" in shell.refused("upload", str(archive), project, "set", "3")
    assert shell.left_in_staging() == []


def test_upload_an_archive_that_lies_in_staging(shell: Shell, project: str, archive: Path) -> None:
    """It is taken as it is, and goes only if that was asked for."""
    there = os.path.join(shell.daemon.staging, "mine.tar")
    shutil.copy(archive, there)
    shell.say("upload", there, project, "set", "4")
    assert shell.left_in_staging() == ["mine.tar"]
    shell.say("upload", there, project, "set", "5", "--consume")
    assert shell.left_in_staging() == []


def test_upload_without_waiting(shell: Shell, project: str, archive: Path) -> None:
    """`gobbler wait` tells the answer, and clears away."""
    with_receipt(archive, TREE)
    name = shell.say("upload", str(archive), project, "set", "6", "--no-wait").strip()
    shell.say("wait", name)
    assert set(stored(shell, "6")) == {"f", "l", "run.sh"}
    assert shell.left_in_staging() == []


def test_mistakes(shell: Shell, project: str, archive: Path, tmp_path: Path) -> None:
    """`--strip` with a directory; a file that is no archive."""
    (tmp_path / "d").mkdir()
    shell.refused("upload", str(tmp_path / "d"), project, "set", "7", "--strip", "1", code=2)
    (tmp_path / "text").write_text("no archive")
    assert "no archive" in shell.refused("upload", str(tmp_path / "text"), project, "set", "7")
    assert shell.left_in_staging() == []


def test_ctrl_c_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    """In the middle of an extraction: exit code 130, and no directory."""
    path = tmp_path / "big.tar"
    path.write_bytes(tar(*[file(f"top/{n}", bytes(1 << 20)) for n in range(200)]))
    with shell.spawn("archive", "extract", str(path), str(tmp_path / "out")) as process:
        while process.poll() is None and not list(tmp_path.glob(".gobblerd-*")):
            pass
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode in {130, 0}  # 0: it was faster
    assert not list(tmp_path.glob(".gobblerd-*"))
    assert (tmp_path / "out").exists() == (process.returncode == 0)
