"""`gobblerd.archive` offers what its table names, and type checkers see the same."""

import ast
import doctest
import importlib
import subprocess
import sys

import pytest

from gobblerd import archive


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    """Each name of the table can be imported, and says what it is."""
    for name in dir(archive):
        assert getattr(archive, name).__doc__


def test_type_checkers_see_exactly_the_public_names() -> None:
    """The imports for type checkers and the table are the same."""
    with open(archive.__file__, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    seen = {
        f"{node.module}.{alias.name}"
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {f"{module}.{name}" for name, module in archive._PUBLIC.items()}


@pytest.mark.parametrize(
    "module", sorted({module for module in archive._PUBLIC.values() if ".archive." in module})
)
def test_examples_in_docstrings_run(module: str) -> None:
    """What a docstring shows is so."""
    assert doctest.testmod(importlib.import_module(module)).failed == 0


def test_importing_the_package_imports_nothing_of_it() -> None:
    """Whoever needs one name does not pay for the others."""
    code = "import sys, gobblerd.archive; print([m for m in sys.modules if m.startswith('gobblerd.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['gobblerd.archive']"
