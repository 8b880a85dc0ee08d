"""Filesystems in files: an image of ext4, XFS or btrfs whose power can be cut at any moment.

The image lies in a loop-mounted btrfs, where `cp --reflink=always` of the whole image takes milliseconds and
is atomic against writes; mounting the copy replays its journal, as after a power cut. What the page cache held
and nobody synced is not in the image. Known limit: the copy has every write that the loop device completed, in
order, so a disk that loses its own write cache in spite of flushes, or reorders writes, is not tested here.
Everything that is mounted is unmounted again, also when a test fails.
"""

import contextlib
import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support.places import make_directory, open_directory

_OUTER = "3G"  # sparse; copies share their blocks


@dataclass(frozen=True, slots=True)
class Kind:
    """A filesystem to be made in an image: its size, who makes it, and how a copy is mounted beside it."""

    size: str
    make: tuple[str, ...]
    package: str
    copies: str = "loop"


KINDS = {
    "ext4": Kind("192M", ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0"), "e2fsprogs"),
    "xfs": Kind("300M", ("mkfs.xfs", "-q", "-f"), "xfsprogs", "loop,nouuid"),
    "btrfs": Kind("300M", ("mkfs.btrfs", "-q", "-f"), "btrfs-progs"),
}


def _run(*command: str) -> None:
    found = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert found.returncode == 0, f"{' '.join(command)}: {found.stderr}"


def _make(kind: Kind, image: str, size: str) -> None:
    _run("truncate", "-s", size, image)
    _run(*kind.make, image)


def require_images(*kinds: str) -> None:
    """Skip the test where these filesystems cannot be made or mounted."""
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: needs root to mount images")
    needed = [(KINDS[kind].make[0], KINDS[kind].package) for kind in kinds]
    for program, package in (*needed, ("losetup", "mount")):
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
    _make(KINDS["btrfs"], image, _OUTER)
    mount = subprocess.run(["mount", "-o", "loop", image, point], check=False, capture_output=True)
    if mount.returncode != 0:
        pytest.skip("NOT TESTED: a btrfs image cannot be mounted here")
    try:
        yield point
    finally:
        _run("umount", point)


class Power:
    """A filesystem in an image, mounted at `point`, and the means to cut its power."""

    def __init__(self, base: str, outer: str, kind: Kind) -> None:
        """Make the filesystem; `mounted` below mounts it."""
        self.image = os.path.join(outer, "disk.img")
        self.point = os.path.join(base, "disk")
        self._base, self._outer, self._kind = base, outer, kind
        _make(kind, self.image, kind.size)

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
            with mounted(copy, point, self._kind.copies):
                yield point
        finally:
            os.unlink(copy)


@contextlib.contextmanager
def power(kind: str = "ext4") -> Iterator[Power]:
    """Yield a mounted filesystem whose power can be cut; skip where images cannot be mounted."""
    require_images("btrfs", kind)
    with open_directory() as base, _outer(base) as outer:
        made = Power(base, outer, KINDS[kind])
        _require_mountable(made, kind)
        with mounted(made.image, made.point):
            yield made


def _require_mountable(disk: Power, kind: str) -> None:
    """Skip the test where the kernel has no such filesystem."""
    os.makedirs(disk.point, exist_ok=True)
    if subprocess.run(["mount", "-o", "loop", disk.image, disk.point], check=False).returncode != 0:
        pytest.skip(f"NOT TESTED: an image of {kind} cannot be mounted here")
    _run("umount", disk.point)


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
def plain_disk(size: str, *, journal: bool = True) -> Iterator[str]:
    """Mount a fresh ext4 image of so many bytes, which lies directly on this machine's own filesystem."""
    require_images("ext4")
    with open_directory() as base:
        image, kind = os.path.join(base, "plain.img"), KINDS["ext4"]
        features = "has_journal" if journal else "^has_journal"
        _make(dataclasses.replace(kind, make=(*kind.make, "-O", features)), image, size)
        with mounted(image, os.path.join(base, "plain")) as point:
            yield point
