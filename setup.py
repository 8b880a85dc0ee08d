"""The one part that pyproject.toml cannot say: the C extensions, which are optional.

Without a compiler, or where it fails, gobblerd is installed without them, and works with hashlib and plain
Python in its place.
"""

from setuptools import Extension, setup


def extension(path: str) -> Extension:
    """Return the module of this path, without `.c`."""
    return Extension(
        path.replace("/", "."),
        [f"{path}.c"],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=["-O3"],
        py_limited_api=True,
        optional=True,
    )


EXTENSIONS = [
    extension("gobblerd/storage/_native"),
    extension("gobblerd/storage/_single"),
    extension("gobblerd/registry/_sums"),
    extension("gobblerd/registry/_names"),
]

setup(ext_modules=EXTENSIONS, options={"bdist_wheel": {"py_limited_api": "cp311"}})
