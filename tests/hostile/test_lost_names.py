"""The moment between opening a request and looking at the descriptor, held still: whose file is it, by which name?"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gobblerd.staging.directory import Staging
from gobblerd.staging.intake import Intake
from gobblerd.staging.look import Found, Gone, Hint, Refusal
from gobblerd.staging.settings import SpoolLimits
from gobblerd.storage.files import Durability

NAME = "request-create_project-1"


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Staging]:
    opened = Staging.open(str(tmp_path), Durability.PROCESS)
    yield opened
    opened.close()


def look(staging: Staging, name: str, meanwhile: Any) -> Any:
    """Look at a request, with something done to staging just after it was opened."""

    def opener(path: str, flags: int, **options: Any) -> int:
        fd = os.open(path, flags, **options)
        meanwhile()
        return fd

    return Intake(staging, SpoolLimits, opener=opener).look(name, Hint.POSTED)


def test_a_link_removed_after_it_was_opened(staging: Staging, tmp_path: Path) -> None:
    """Another's file, linked to a request's name and unlinked in between, has one link then: not that name."""
    (tmp_path / "notes").write_text('{"project": "stolen"}')
    os.link(tmp_path / "notes", tmp_path / NAME)
    assert isinstance(look(staging, NAME, lambda: os.unlink(tmp_path / NAME)), Gone)


def test_a_link_renamed_over_after_it_was_opened(staging: Staging, tmp_path: Path) -> None:
    """The same with another file renamed to its name."""
    (tmp_path / "notes").write_text('{"project": "stolen"}')
    (tmp_path / "other").write_text("{}")
    os.link(tmp_path / "notes", tmp_path / NAME)
    assert isinstance(look(staging, NAME, lambda: os.rename(tmp_path / "other", tmp_path / NAME)), Gone)


@pytest.mark.parametrize("name", [NAME, "request-create_project-\n", "request-create_project-\udcff"])
def test_a_name_that_stays_is_taken(staging: Staging, tmp_path: Path, name: str) -> None:
    """Whatever it holds."""
    with open(os.fsencode(tmp_path / name), "w", encoding="ascii") as file:
        file.write("{}")
    assert isinstance(look(staging, name, lambda: None), Found | Refusal)


def test_a_name_that_looks_lost_is_refused(staging: Staging, tmp_path: Path) -> None:
    """Not passed over: its owner is told."""
    (tmp_path / f"{NAME} (deleted)").write_text("{}")
    assert isinstance(look(staging, f"{NAME} (deleted)", lambda: None), Refusal)
