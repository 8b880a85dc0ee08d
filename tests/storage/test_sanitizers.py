"""The C extensions compile without a warning, and do nothing that C leaves undefined, whatever they are given."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.compiling import need_compiler

PROJECT = Path(__file__).parents[2]
WARNED_OF = "-Wall -Wextra -Werror"
WATCHED = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined"
LIBRARIES = ("libasan.so", "libubsan.so")
MODULES = {"storage/_native", "storage/_single", "registry/_sums", "registry/_names"}
# Where the extensions are given all there is: names, sizes, links, other threads' changes, damaged manifests.
WHAT_RUNS = [
    *(f"tests/storage/test_{name}.py" for name in ("lanes", "batches", "single", "files")),
    *(
        f"tests/registry/test_{name}.py"
        for name in ("sums", "fast_sums", "survey", "linking", "browse", "engine", "checks")
    ),
]
LOADED = "from gobblerd.storage import native; print(native.NATIVE.__file__, native.SINGLE.__file__)"


def build(builder: Path, here: Path, flags: str) -> None:
    done = subprocess.run(
        [builder, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=here,
        env={**os.environ, "CC": "cc", "LDSHARED": "cc -shared", "CFLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    built = {str(found.relative_to(here / "gobblerd")) for found in (here / "gobblerd").rglob("*.so")}
    assert built == {f"{module}.abi3.so" for module in MODULES}, done.stderr


def sanitizers() -> str:
    """What is to be loaded before Python; or skip."""
    need_compiler()
    found = [
        subprocess.run(["cc", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        for name in LIBRARIES
    ]
    paths = [one.stdout.strip() for one in found]
    if not all(os.path.isabs(path) for path in paths):
        assert not os.environ.get("CI"), "CI has a compiler with sanitizers"
        pytest.skip("the compiler brings no sanitizers: undefined behaviour in C is not looked for")
    return ":".join(paths)


def copied(sources: Path, to: Path) -> Path:
    subprocess.run(["cp", "-r", sources, to], check=True)
    return to


def test_compile_without_a_warning(builder: Path, sources: Path, tmp_path: Path) -> None:
    """With all that the compiler commonly warns of made an error (the extensions are optional: none is built then)."""
    need_compiler()
    build(builder, copied(sources, tmp_path / "sources"), WARNED_OF)


@pytest.mark.timeout(1800)
def test_run_clean_under_the_sanitizers(builder: Path, sources: Path, tmp_path: Path) -> None:
    """Their tests pass where each access out of bounds and each overflow ends the program."""
    preloaded = sanitizers()
    here = copied(sources, tmp_path / "sources")
    subprocess.run(["cp", "-r", PROJECT / "tests", here], check=True)
    build(builder, here, WATCHED)
    environment = {
        **os.environ,
        "LD_PRELOAD": preloaded,
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter itself frees not all at its end
        "PYTHONMALLOC": "malloc",  # so that the ends of the interpreter's memory are watched, too
        "PYTHONPATH": str(here),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=here,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    loaded = run("-c", LOADED)
    assert loaded.stdout.count(str(here)) == 2, loaded.stderr
    done = run("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *WHAT_RUNS)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
