"""The one part that pyproject.toml cannot say: the C extensions, which are optional.

Without a compiler, or where it fails, gobblerd is installed without them, and works with hashlib and plain
Python in its place.
"""

import tempfile
from pathlib import Path

from setuptools import Extension, setup


def extension(path: str, *parts: str) -> Extension:
    """Return the module of this path (without `.c`), of which these files of `c/` beside it are parts."""
    place = Path(path).parent / "c"
    return Extension(
        path.replace("/", "."),
        [f"{path}.c", *(str(place / f"{part}.c") for part in parts)],
        depends=[str(header) for header in sorted(Path("gobblerd").rglob("*.h"))],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=["-O3", "-fvisibility=hidden"],
        py_limited_api=True,
        optional=True,
    )


EXTENSIONS = [
    extension(
        "gobblerd/storage/_native", "md5", "xxh3", "streams", "files", "digests", "large", "names", "links"
    ),
    extension("gobblerd/storage/_single"),
    extension("gobblerd/registry/_sums", "scan", "manifests"),
    extension("gobblerd/registry/_names"),
]

# Built in a new directory each time: what `build/` kept of another release would be installed with this one.
with tempfile.TemporaryDirectory(prefix="gobblerd-build-") as base:
    setup(
        ext_modules=EXTENSIONS,
        options={"bdist_wheel": {"py_limited_api": "cp311"}, "build": {"build_base": base}},
    )
