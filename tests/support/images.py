"""Filesystems in files: an ext4 image whose power can be cut at any moment.

The image lies in a loop-mounted btrfs, where `cp --reflink=always` of the whole image takes milliseconds and
is atomic against writes; mounting the copy replays its journal, as after a power cut. What the page cache held
and nobody synced is not in the image. Known limit: the copy has every write that the loop device completed, in
order, so a disk that loses its own write cache in spite of flushes, or reorders writes, is not tested here.
Everything that is mounted is unmounted again, also when a test fails.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from support.places import make_directory, open_directory

_OUTER = "600M"  # btrfs needs at least 110 MiB; copies share their blocks
_INNER = "96M"


def _run(*command: str) -> None:
    found = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == 0, f"{' '.join(command)}: {found.stderr}"


def require_images() -> None:
    """Skip the test where the filesystems cannot be made or mounted."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs root to mount images")
    for program, package in (("mkfs.btrfs", "btrfs-progs"), ("mkfs.ext4", "e2fsprogs"), ("losetup", "mount")):
        if shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
            pytest.skip(f"NOT TESTED: {program} is not installed (package {package})")
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("NOT TESTED: no loop devices here")


@contextlib.contextmanager
def mounted(image: str, point: str, options: str = "loop") -> Iterator[str]:
    """Mount an image for the length of a block."""
    os.makedirs(point, exist_ok=True)
    _run("mount", "-o", options, image, point)
    try:
        yield point
    finally:
        _run("umount", point)


@contextlib.contextmanager
def _outer(base: str) -> Iterator[str]:
    image, point = os.path.join(base, "outer.img"), make_directory(os.path.join(base, "outer"), 0o755)
    _run("truncate", "-s", _OUTER, image)
    _run("mkfs.btrfs", "-q", "-f", image)
    mount = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True)
    if mount.returncode != 0:
        pytest.skip("NOT TESTED: a btrfs image cannot be mounted here")
    try:
        yield point
    finally:
        _run("umount", point)


class Power:
    """An ext4 in an image, mounted at `point`, and the means to cut its power."""

    def __init__(self, base: str, outer: str) -> None:
        """Make the filesystem; `mounted` below mounts it."""
        self.image = os.path.join(outer, "disk.img")
        self.point = os.path.join(base, "disk")
        self._base, self._outer = base, outer
        _run("truncate", "-s", _INNER, self.image)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", self.image)

    def cut(self, name: str) -> str:
        """Copy the image as it is at this moment, what was never synced excepted; return the copy's path."""
        copy = os.path.join(self._outer, f"{name}.img")
        _run("cp", "--reflink=always", self.image, copy)
        return copy

    @contextlib.contextmanager
    def after(self, copy: str) -> Iterator[str]:
        """Mount a copy, as the machine does when the power is back; the copy is removed afterwards."""
        point = os.path.join(self._base, f"after-{os.path.basename(copy)}")
        try:
            with mounted(copy, point):
                yield point
        finally:
            os.unlink(copy)


@contextlib.contextmanager
def power() -> Iterator[Power]:
    """Yield a mounted ext4 whose power can be cut; skip where images cannot be mounted."""
    require_images()
    with open_directory() as base, _outer(base) as outer:
        made = Power(base, outer)
        with mounted(made.image, made.point):
            yield made


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[str]:
    """Mount a tmpfs of so many bytes."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs root to mount a small disk")
    with open_directory() as base:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", base], check=False
        )
        if mount.returncode != 0:
            pytest.skip("NOT TESTED: tmpfs cannot be mounted here")
        try:
            yield base
        finally:
            _run("umount", "--lazy", base)


def resize(disk: str, size: int) -> None:
    """Give a mounted tmpfs another size, in bytes."""
    _run("mount", "-o", f"remount,size={size}", disk)


def used(disk: str) -> int:
    """Return how many bytes of a filesystem are in use."""
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@contextlib.contextmanager
def plain_disk(size: str) -> Iterator[str]:
    """Mount a fresh ext4 image of so many bytes, which lies directly on this machine's own filesystem."""
    require_images()
    with open_directory() as base:
        image = os.path.join(base, "plain.img")
        _run("truncate", "-s", size, image)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image)
        with mounted(image, os.path.join(base, "plain")) as point:
            yield point
