"""Fixtures for archives."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory on a disk with 4 KiB left; needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a disk to fill (NOT TESTED on this run)")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        (disk / "ballast").write_bytes(bytes(60 << 10))
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)
