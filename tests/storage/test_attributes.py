"""gobblerd.storage.attributes: what the kernel says of how a name stands, and what stands in for it."""

import os
import stat
from pathlib import Path

import pytest
from support.obstacles import immutable, mounted

from gobblerd.storage import attributes, native
from gobblerd.storage.attributes import APPEND_ONLY, IMMUTABLE, MOUNT_POINT, standing


def cannot_tell(path: str, follow: bool) -> tuple[()]:  # noqa: FBT001 - as the extension's
    return ()


@pytest.fixture(params=["has statx", "has none"])
def kernel(request: pytest.FixtureRequest, either: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A kernel with the system call, and one without it."""
    if request.param == "has none":
        monkeypatch.setattr(attributes, "_STATX", None)
        if native.SINGLE is not None:
            monkeypatch.setattr(native.SINGLE, "standing", cannot_tell)
    return str(request.param)


def test_mode_and_owner(kernel: str, tmp_path: Path) -> None:
    """With the system call and without it the same; of a link what is asked for."""
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


def test_other_troubles_are_raised(kernel: str, tmp_path: Path) -> None:
    """They name the path."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop") as caught:
        standing(f"{tmp_path}/loop/x")
    assert caught.value.filename == f"{tmp_path}/loop/x"
    with pytest.raises(ValueError, match="null"):
        standing("a\0b")


def test_any_name(kernel: str, tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are part of it."""
    (tmp_path / "f\udcff").touch()
    (tmp_path / "ü").touch()
    assert all(standing(f"{tmp_path}/{name}") for name in ("f\udcff", "ü"))


def test_attributes_and_mounts(either: str, tmp_path: Path) -> None:
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
