"""gobblerd.registry.writable: a registry that cannot be written to is known before it is served."""

import os
from pathlib import Path

import pytest

from gobblerd.domain.errors import Fault
from gobblerd.registry.transaction import make_transactions
from gobblerd.registry.writable import require_writable


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    make_transactions(str(tmp_path))
    (tmp_path / "..logs").mkdir()
    return tmp_path


def listed(root: Path) -> list[str]:
    return sorted(str(each) for each in root.rglob("*"))


def test_a_registry_in_order(registry: Path) -> None:
    """Nothing is said, made or left; neither is in one that holds nothing of gobblerd's yet."""
    before = listed(registry)
    require_writable(str(registry))
    assert listed(registry) == before
    require_writable(str(registry / "..logs"))


@pytest.mark.parametrize("name", ["..logs", "..transactions/state", "..transactions/committed"])
def test_something_in_the_place_of_a_directory(registry: Path, name: str) -> None:
    """It is named, and is to be moved away."""
    (registry / name).rmdir()
    (registry / name).touch()
    with pytest.raises(Fault, match=rf'{name}" cannot be written to: Not a directory; move it away'):
        require_writable(str(registry))


def test_where_only_the_old_answer_is_no(registry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels before 5.8 say so of an account that has capabilities: it is tried, and nothing is left."""
    before = listed(registry)
    monkeypatch.setattr(os, "access", lambda *_args, **_options: False)
    require_writable(str(registry))
    assert listed(registry) == before
