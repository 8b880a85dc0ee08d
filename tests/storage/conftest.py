"""Fixtures for tests of what has a fast and a plain way, and of how the fast one is built."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gobblerd.storage import native

BOTH = ["native", "plain"]
PROJECT = Path(__file__).parents[2]


@pytest.fixture(params=BOTH)
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with the C extension, and without it."""
    way = str(request.param)
    if way == "plain":
        monkeypatch.setattr(native, "NATIVE", None)
        monkeypatch.setattr(native, "SINGLE", None)
    elif native.NATIVE is None or native.SINGLE is None:
        pytest.skip("the C extension was not built (no compiler?): only the plain way is tested")
    return way


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that can build: an environment of its own, or this one if it has all that is needed."""
    found = subprocess.run(
        [sys.executable, "-c", "import setuptools; print(setuptools.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0 and int(found.stdout.split(".")[0]) >= 77:
        return Path(sys.executable)
    place = tmp_path_factory.mktemp("builder")
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    python = place / "bin" / "python"
    got = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "setuptools>=77"],
        capture_output=True,
        text=True,
        check=False,
    )
    if got.returncode != 0:
        if os.environ.get("CI"):
            pytest.fail(f"setuptools cannot be had: {got.stderr}")
        pytest.skip("setuptools >= 77 is not at hand and cannot be fetched: builds are not tested")
    return python


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git would have, so that builds leave nothing here and find nothing built."""
    place = tmp_path_factory.mktemp("sources") / "gobblerd"
    place.mkdir()
    for name in ("gobblerd", "pyproject.toml", "setup.py", "README.md", "LICENSE"):
        subprocess.run(["cp", "-r", PROJECT / name, place], check=True)
    for built in place.rglob("*.so"):
        built.unlink()
    return place
