"""Temporary files and directories: theirs who write them, whoever clears up meanwhile."""

import os
import threading
from pathlib import Path

from gobblerd.archive.writing import is_temporary, remove_abandoned, temporary, temporary_directory


def test_what_is_being_written_survives_those_who_clear_up(tmp_path: Path) -> None:
    """Also in the moment between its creation and its lock."""
    stop = threading.Event()

    def clear_up() -> None:
        while not stop.is_set():
            remove_abandoned(str(tmp_path))

    threads = [threading.Thread(target=clear_up) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for at in range(300):
            with temporary(str(tmp_path)) as found:
                found.file.write(b"x")
                found.rename(str(tmp_path / f"file-{at}"))
            with temporary_directory(str(tmp_path)) as path:
                os.rename(path, tmp_path / f"directory-{at}")
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert len(os.listdir(tmp_path)) == 600


def test_what_nobody_writes_any_more_goes(tmp_path: Path) -> None:
    (tmp_path / ".gobblerd-00.partial").touch()
    (tmp_path / ".gobblerd-01.partial/deep").mkdir(parents=True)
    (tmp_path / "gobblerd.partial").touch()
    with temporary(str(tmp_path)) as found, temporary_directory(str(tmp_path)) as path:
        assert remove_abandoned(str(tmp_path)) == 0
        assert sorted(os.listdir(tmp_path)) == sorted(
            ["gobblerd.partial", *map(os.path.basename, (found.path, path))]
        )
    assert os.listdir(tmp_path) == ["gobblerd.partial"]
    assert is_temporary(os.path.basename(path))
