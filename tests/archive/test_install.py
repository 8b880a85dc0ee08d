"""Installation: extract, let somebody act, and find the paths that stayed behind. Nothing runs by itself."""

import os
from pathlib import Path

import pytest
from support.malice import file, tar

from gobblerd.archive import install_archive, path_references
from gobblerd.domain.errors import Wrong

SCRIPT = b"""#!/bin/sh
mkdir -p "$GOBBLER_PREFIX"
echo "$GOBBLER_ENVIRONMENT $GOBBLER_PREFIX $GOBBLER_RUNTIME_PREFIX" > "$GOBBLER_PREFIX/said"
pwd > "$GOBBLER_PREFIX/from"
touch ran
"""


def archive(tmp_path: Path, script: bytes = SCRIPT, mode: int = 0o755) -> Path:
    path = tmp_path / "x.tar"
    path.write_bytes(tar(file("env/install.sh", script, mode=mode), file("env/f", b"data")))
    return path


def test_nothing_runs_by_itself(tmp_path: Path) -> None:
    """An archive with a script is extracted, no more."""
    done = install_archive(archive(tmp_path), tmp_path / "t", environment="e", prefix=str(tmp_path / "none"))
    assert done.path == str(tmp_path / "t")
    assert sorted(os.listdir(tmp_path / "t/env")) == ["f", "install.sh"]
    assert done.references.files == ()


def test_the_handler_is_told_everything(tmp_path: Path) -> None:
    """Extracted path, environment, physical prefix, and the prefix at run time if that is another."""
    told: list[tuple[str, str, str, str | None]] = []

    def handler(path: str, environment: str, prefix: str, runtime: str | None) -> int:
        told.append((path, environment, prefix, runtime))
        return 0

    path = archive(tmp_path)
    install_archive(path, tmp_path / "a", environment="e", prefix="/opt/e", handler=handler)
    dest = str(tmp_path / "root")
    done = install_archive(path, tmp_path / "b", environment="e", prefix="/opt/e", dest=dest, handler=handler)
    assert told == [
        (str(tmp_path / "a"), "e", "/opt/e", None),
        (str(tmp_path / "b"), "e", f"{dest}/opt/e", "/opt/e"),
    ]
    assert done.prefix == f"{dest}/opt/e"


def test_a_handler_that_fails(tmp_path: Path) -> None:
    """The code is told; what was extracted stays to be looked at."""
    with pytest.raises(Wrong, match="exit code 7"):
        install_archive(
            archive(tmp_path), tmp_path / "t", environment="e", prefix="/opt/e", handler=lambda *_: 7
        )
    assert (tmp_path / "t/env/f").exists()


@pytest.mark.parametrize("mode", [0o755, 0o644])
def test_a_script_that_was_asked_for(tmp_path: Path, mode: int) -> None:
    """It runs in the extracted directory, executable or not; paths that it left are reported."""
    done = install_archive(
        archive(tmp_path, mode=mode),
        tmp_path / "t",
        environment="e",
        prefix="/opt/e",
        dest=str(tmp_path / "root"),
        postinstall="env/install.sh",
    )
    assert (tmp_path / "t/ran").exists()
    assert (tmp_path / "root/opt/e/said").read_text() == f"e {tmp_path}/root/opt/e /opt/e\n"
    assert done.references.files == (("from", 1),)
    assert not done.references.truncated


@pytest.mark.parametrize(
    ("script", "postinstall", "says"),
    [
        (b"exit 3", "env/install.sh", "exit code 3"),
        (SCRIPT, "env/none.sh", "no script"),
        (SCRIPT, "../x.sh", "cannot be the path"),
        (SCRIPT, "/bin/sh", "cannot be the path"),
    ],
)
def test_scripts_that_fail(tmp_path: Path, script: bytes, postinstall: str, says: str) -> None:
    """Or are none of the archive's."""
    with pytest.raises(Wrong, match=says):
        install_archive(
            archive(tmp_path, script, 0o644),
            tmp_path / "t",
            environment="e",
            prefix="/opt/e",
            postinstall=postinstall,
        )


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is left, so that it can be tried again; what was meant is guessed where that is easy."""
    path = archive(tmp_path)
    for script, says in (
        ("install.sh", r'"install.sh": is "env/install.sh" meant\?'),
        ("none.sh", '"none.sh"$'),
    ):
        with pytest.raises(Wrong, match=f"the archive holds no script {says}"):
            install_archive(path, tmp_path / "t", environment="e", prefix="/opt/e", postinstall=script)
        assert not (tmp_path / "t").exists()
    install_archive(
        path,
        tmp_path / "t",
        environment="e",
        prefix="/opt/e",
        dest=str(tmp_path / "root"),
        postinstall="env/install.sh",
    )


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    """A relative prefix; handler and script together."""
    path = archive(tmp_path)
    with pytest.raises(Wrong, match="not absolute"):
        install_archive(path, tmp_path / "t", environment="e", prefix="opt")
    with pytest.raises(Wrong, match="not both"):
        install_archive(
            path,
            tmp_path / "t",
            environment="e",
            prefix="/opt",
            handler=lambda *_: 0,
            postinstall="env/install.sh",
        )
    assert not (tmp_path / "t").exists()


def test_path_references(tmp_path: Path) -> None:
    """Binary or text, also across the pieces in which files are read; the first few, and whether there are more."""
    needle = "/some/where"
    (tmp_path / "d").mkdir()
    (tmp_path / "d/twice").write_bytes(b"\0/some/where\0/some/where/else")
    (tmp_path / "a").write_bytes(b"x" * ((1 << 20) - 5) + needle.encode() + b"y" * 10 + needle.encode())
    (tmp_path / "none").write_bytes(b"/some/wherE")
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    assert path_references(tmp_path, needle).files == (("a", 2), ("d/twice", 2))
    few = path_references(tmp_path, needle, limit=1)
    assert (few.files, few.truncated) == ((("a", 2),), True)
    assert path_references(tmp_path, "").files == ()
