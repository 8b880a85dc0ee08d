"""The C extension is used only if it agrees with hashlib; the package installs with and without a compiler."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.compiling import need_compiler

from gobblerd.storage import native

PROJECT = Path(__file__).parents[2]
BOTH_WAYS = """
import hashlib, sys
from gobblerd.storage import native, lanes
texts = [bytes(n) for n in range(40)]
assert lanes.md5_many(texts) == [hashlib.md5(text).hexdigest() for text in texts]
print(native.NATIVE is not None, native.__file__)
"""


def extension(**different: Any) -> Any:
    if native.NATIVE is None:
        pytest.skip("the C extension was not built (no compiler?)")
    names = ("md5_start", "md5_update", "md5_finish", "xxh3_128")
    return SimpleNamespace(**{**{name: getattr(native.NATIVE, name) for name in names}, **different})


def test_an_extension_that_is_right_is_used() -> None:
    """What was built here passes its own test."""
    assert native.agrees(extension())


@pytest.mark.parametrize("part", ["md5_start", "md5_update", "md5_finish"])
def test_an_extension_that_is_wrong_is_not_used(part: str) -> None:
    """One bit is enough, wherever a compiler got it wrong."""
    right = getattr(extension(), part)

    def wrong(*arguments: Any) -> Any:
        found = right(*arguments)
        changed = bytearray(found if found is not None else arguments[0])
        changed[-1 if part == "md5_finish" else 0] ^= 1
        if found is None:
            arguments[0][:] = changed
        return bytes(changed) if part == "md5_finish" else changed

    assert not native.agrees(extension(**{part: wrong}))


def test_an_extension_whose_other_checksum_is_wrong_is_not_used() -> None:
    """Of texts of one length alone, too."""
    right = extension().xxh3_128
    assert not native.agrees(
        extension(xxh3_128=lambda text: right(text) if len(text) != 240 else right(text)[::-1])
    )


def test_without_the_extension_all_works(tmp_path: Path) -> None:
    """A copy of the package without it uses hashlib, and says nothing."""
    copy = tmp_path / "gobblerd"
    subprocess.run(["cp", "-r", PROJECT / "gobblerd", copy], check=True)
    for built in copy.rglob("*.so"):
        built.unlink()
    done = subprocess.run(
        [sys.executable, "-c", BOTH_WAYS], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("False")
    assert str(tmp_path) in done.stdout
    assert done.stderr == ""


# ---- building


def built(python: Path, sources: Path, out: Path, hook: str, compiler: str) -> Path:
    """Build as pip does, by the backend's hook; return what came of it."""
    code = f"import setuptools.build_meta as backend; print('built', backend.{hook}({str(out)!r}))"
    out.mkdir(exist_ok=True)
    environment = {**os.environ, "CC": compiler, "LDSHARED": f"{compiler} -shared"}
    done = subprocess.run(
        [python, "-c", code], cwd=sources, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


def test_a_module_of_another_release_is_not_installed(builder: Path, sources: Path, tmp_path: Path) -> None:
    """Upgrades, and ways back, are installed from one checkout again and again."""
    here = tmp_path / "sources"
    subprocess.run(["cp", "-r", sources, here], check=True)
    module = here / "gobblerd" / "actions" / "gone.py"
    module.touch()
    assert holds(built(builder, here, tmp_path / "first", "build_wheel", "/nonexistent/cc"), module.name)
    module.unlink()
    assert not holds(built(builder, here, tmp_path / "second", "build_wheel", "/nonexistent/cc"), module.name)


def holds(wheel: Path, name: str) -> bool:
    return f"gobblerd/actions/{name}" in zipfile.ZipFile(wheel).namelist()


def test_an_sdist_is_the_whole_checkout(builder: Path, tmp_path: Path) -> None:
    """The guide is followed, and the tests are run, from it as from a clone."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    files = {name for name in listed.stdout.split("\0") if os.path.lexists(PROJECT / name)} - {
        "",
        ".gitignore",
    }
    if not files:
        pytest.skip("this is no checkout of git")
    here = tmp_path / "sources"
    for name in files:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, here / name, follow_symlinks=False)
    archive = built(builder, here, tmp_path / "sdist", "build_sdist", "cc")
    with tarfile.open(archive) as opened:
        assert files <= {name.partition("/")[2] for name in opened.getnames()}


@pytest.mark.parametrize("compiler", ["cc", "/nonexistent/cc"])
@pytest.mark.parametrize("by_way_of", ["wheel", "sdist"])
def test_builds_with_and_without_a_compiler(
    builder: Path, sources: Path, tmp_path: Path, compiler: str, by_way_of: str
) -> None:
    """A wheel for any Python from 3.11 on, from the sources and from an sdist; what is in it works."""
    works = compiler == "cc"
    if works:
        need_compiler()
    here = tmp_path / "sources"
    subprocess.run(["cp", "-r", sources, here], check=True)
    if by_way_of == "sdist":
        archive = built(builder, here, tmp_path / "sdist", "build_sdist", compiler)
        subprocess.run(["tar", "-xf", archive, "-C", tmp_path], check=True)
        here = tmp_path / archive.name.removesuffix(".tar.gz")
    wheel = built(builder, here, tmp_path / "wheel", "build_wheel", compiler)
    names = zipfile.ZipFile(wheel).namelist()
    for module in ("storage/_native", "storage/_single", "registry/_sums", "registry/_names"):
        assert (f"gobblerd/{module}.abi3.so" in names) == works, names
    assert "-cp311-abi3-" in wheel.name
    inside = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(inside)
    done = subprocess.run(
        [sys.executable, "-c", BOTH_WAYS], cwd=inside, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == str(works)
    assert str(inside) in done.stdout
