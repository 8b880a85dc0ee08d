"""The one part that pyproject.toml cannot say: the C extension, which is optional.

Without a compiler, or where it fails, gobblerd is installed without it, and works with hashlib and plain
Python in its place.
"""

from setuptools import Extension, setup

NATIVE = Extension(
    "gobblerd.storage._native",
    ["gobblerd/storage/_native.c"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=["-O3"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[NATIVE], options={"bdist_wheel": {"py_limited_api": "cp311"}})
