"""What the tests of the C extensions ask of the machine."""

import os
import shutil
import sysconfig
from pathlib import Path

import pytest


def has_compiler() -> bool:
    """Tell whether C that includes Python.h can be compiled here."""
    headers = [Path("/usr/include/stdlib.h"), Path(sysconfig.get_path("include"), "Python.h")]
    return shutil.which("cc") is not None and all(header.exists() for header in headers)


def need_compiler() -> None:
    """Skip the test where nothing can be compiled; CI must."""
    if not has_compiler():
        assert not os.environ.get("CI"), "CI has a compiler"
        pytest.skip("no compiler, or no Python.h: building with one is not tested")
