"""Where everything is measured: a fresh journaled ext4 on a loop device, or tmpfs for who is not root.

A machine's root filesystem is what it is: without a journal, or slow after the removal of many files. A
fresh ext4 is the same on every machine. `Scratch.what` says which it became, for the report.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Scratch:
    """A directory to measure in, and what it is on."""

    path: str
    what: str


@contextlib.contextmanager
def scratch(below: str, size: int, *, mounted: bool = True) -> Iterator[Scratch]:
    """Make a directory for the length of a block; `size` in bytes is how much an image may grow to."""
    base = tempfile.mkdtemp(prefix="benchmarks-", dir=below)
    os.chmod(base, 0o755)  # requests may come from other users
    try:
        if mounted and os.geteuid() == 0 and shutil.which("mkfs.ext4"):
            with _image(base, size) as path:
                yield Scratch(path, "ext4 on a loop device")
        elif mounted and os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > size // 2:
            with tempfile.TemporaryDirectory(prefix="benchmarks-", dir="/dev/shm") as path:
                yield Scratch(path, "tmpfs (not root: no loop mount; durability costs nothing here)")
        else:
            yield Scratch(base, f"the filesystem of {below} (neither loop mount nor room in /dev/shm)")
    finally:
        shutil.rmtree(base, ignore_errors=True)


@contextlib.contextmanager
def _image(base: str, size: int) -> Iterator[str]:
    image, mount = os.path.join(base, "image"), os.path.join(base, "mount")
    os.mkdir(mount)
    with open(image, "wb") as file:
        file.truncate(size)
    # An inode for each 4 KiB: millions of small files are among the workloads.
    _run("mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=1,nodiscard", image)
    _run("mount", "-o", "loop", image, mount)
    try:
        yield mount
    finally:
        _run("umount", mount)
        os.unlink(image)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")


def settle(path: str) -> None:
    """Write out what is dirty on the filesystem of `path`, so that nobody pays for what came before."""
    _run("sync", "-f", path)


def remove(path: str) -> None:
    """Remove a tree, whatever its size."""
    if os.path.lexists(path):
        _run("rm", "-rf", "--", path)
