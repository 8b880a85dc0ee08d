"""gobblerd.storage.attributes: what the kernel says of how a name stands, and what stands in for it."""

import os
import stat
from pathlib import Path

import pytest
from support.obstacles import immutable, mounted

from gobblerd.storage import attributes
from gobblerd.storage.attributes import APPEND_ONLY, IMMUTABLE, MOUNT_POINT, standing


@pytest.mark.parametrize("has_statx", [True, False])
def test_mode_and_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_statx: bool) -> None:
    """With the system call and without it the same; of a link what is asked for."""
    if not has_statx:
        monkeypatch.setattr(attributes, "_STATX", None)
    (tmp_path / "f").touch(0o640)
    (tmp_path / "l").symlink_to("f")
    (tmp_path / "lost").symlink_to("nowhere")
    for name, follow in (("", False), ("f", False), ("l", False), ("l", True), ("lost", False)):
        found, right = (
            standing(f"{tmp_path}/{name}", follow=follow),
            (tmp_path / name).stat if follow else None,
        )
        status = right() if right else (tmp_path / name).lstat()
        assert found is not None
        assert (found.mode, found.uid) == (status.st_mode, status.st_uid)
        assert found.is_directory == stat.S_ISDIR(status.st_mode)
        assert found.attributes & (IMMUTABLE | APPEND_ONLY | MOUNT_POINT) == 0
    for absent, follow in (("lost", True), ("none", False), ("f/x", False)):
        assert standing(f"{tmp_path}/{absent}", follow=follow) is None


def test_other_troubles_are_raised(tmp_path: Path) -> None:
    """They name the path."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop"):
        standing(f"{tmp_path}/loop/x")


def test_attributes_and_mounts(tmp_path: Path) -> None:
    """Each is seen while it is there; a bind mount of the same filesystem is another mount."""
    if os.geteuid() != 0:
        pytest.skip("needs root: attributes and mounts (NOT TESTED on this run)")
    place = tmp_path / "d"
    place.mkdir()

    def found() -> tuple[int, bool]:
        here, above = standing(str(place)), standing(str(tmp_path))
        assert here is not None
        assert above is not None
        return here.attributes & (IMMUTABLE | APPEND_ONLY | MOUNT_POINT), here.mount == above.mount

    assert found() == (0, True)
    with immutable(place):
        assert found() == (IMMUTABLE, True)
    with immutable(place, APPEND_ONLY):
        assert found() == (APPEND_ONLY, True)
    with mounted(place):
        assert found() == (MOUNT_POINT, False)
    assert found() == (0, True)
