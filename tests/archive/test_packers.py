"""Archives of conda-workspaces and venvstacks: extracted, or refused with the member named.

Both run in an environment of their own, which the test makes. conda itself is not on PyPI, so its modules
are stood in for; what writes the archive is conda-workspaces' own code. Only with `-m long`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gobblerd.archive import extract_archive, inspect_archive, tree_checksum, verify_archive
from gobblerd.domain.errors import Wrong

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]  # it installs both, with what they need
PACKERS = ("conda-workspaces==0.12.0", "venvstacks==0.7.0")

WORKSPACE = """
import importlib.abc, importlib.machinery, pathlib, sys
from unittest.mock import MagicMock

class CondaError(Exception):
    def __init__(self, *args, **kwargs):
        super().__init__(*args)

class Conda(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in {"conda", "conda_lockfiles"}:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        module = MagicMock(name=spec.name)
        module.__path__, module.__spec__, module.__name__ = [], spec, spec.name
        module.CondaError = CondaError
        return module
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Conda())
from conda_workspaces import archive

root, output, compression = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
files = sorted(path for path in root.rglob("*") if path.is_symlink() or path.is_file())
with archive.open_tar_for_write(output, compression, None) as tar:
    archive.add_files_to_tar(tar, root, files)
"""

ENVIRONMENT = """
import sys
from venvstacks.pack_venv import create_archive
print(create_archive(sys.argv[1], sys.argv[2], show_progress=False))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the interpreter of an environment with both packers."""
    top = tmp_path_factory.mktemp("packers")
    subprocess.run([sys.executable, "-m", "venv", top], check=True)
    found = str(top / "bin/python")
    command = [found, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKERS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED: {' and '.join(PACKERS)} cannot be installed: {done.stderr[-300:]}")
    return found


def run(python: str, program: str, *arguments: object) -> str:
    command = [python, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    top = tmp_path / "workspace"
    (top / "src").mkdir(parents=True)
    (top / "conda.toml").write_text('[workspace]\nname = "w"\n')
    (top / "conda.lock").write_text("version: 1\n")
    (top / "src/run.py").write_text("print(1)\n")
    (top / "src/run.py").chmod(0o755)
    (top / "latest.py").symlink_to("src/run.py")
    return top


@pytest.mark.parametrize(
    ("suffix", "compression"), [("tar.zst", "zst"), ("tar.gz", "gz"), ("tar.bz2", "bz2")]
)
def test_a_workspace(tmp_path: Path, python: str, workspace: Path, suffix: str, compression: str) -> None:
    """In each of the formats that conda-workspaces writes."""
    path = tmp_path / f"w.{suffix}"
    run(python, WORKSPACE, workspace, path, compression)
    assert inspect_archive(path).format == suffix
    assert verify_archive(path).is_sound
    extract_archive(path, tmp_path / "to")
    assert tree_checksum(tmp_path / "to") == tree_checksum(workspace)
    assert os.readlink(tmp_path / "to/latest.py") == "src/run.py"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """Return a directory as venvstacks packs them, a module in it."""
    top = tmp_path / "layer"
    modules = top / "lib/python3.11/site-packages"
    modules.mkdir(parents=True)
    (modules / "thing.py").write_text("x = 1\n")
    (modules / "__pycache__").mkdir()
    (modules / "__pycache__/thing.pyc").write_bytes(b"cache")
    (top / "lib64").symlink_to("lib")
    (top / "bin").mkdir()
    (top / "bin/tool").write_text("#!/bin/sh\n")
    (top / "bin/tool").chmod(0o755)
    return top


def test_an_environment(tmp_path: Path, python: str, environment: Path) -> None:
    """With its postinstall script, which nobody runs; a link to a directory stays one."""
    path = run(python, ENVIRONMENT, environment, tmp_path / "packed")
    found = inspect_archive(path)
    assert (found.format, found.top, found.refusal) == ("tar.xz", "layer", None)
    extract_archive(path, tmp_path / "to")
    top = tmp_path / "to/layer"
    assert sorted(os.listdir(top)) == ["bin", "lib", "lib64", "postinstall.py"]
    assert os.readlink(top / "lib64") == "lib"
    assert (top / "lib64/python3.11/site-packages/thing.py").read_text() == "x = 1\n"


def test_an_environment_that_needs_another(tmp_path: Path, python: str, environment: Path) -> None:
    """A layer's links to its neighbour lead out of the archive: the first of them is named."""
    (tmp_path / "base/bin").mkdir(parents=True)
    (tmp_path / "base/bin/python").write_text("")
    (environment / "bin/python").symlink_to("../../base/bin/python")
    path = run(python, ENVIRONMENT, environment, tmp_path / "packed")
    with pytest.raises(Wrong, match=r'"layer/bin/python".*does not hold'):
        extract_archive(path, tmp_path / "to")
    assert not (tmp_path / "to").exists()
