"""A staging directory with a spool on it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from staging.rooms import Desk, MakeRoom, Room

from gobblerd.staging.settings import SpoolLimits


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an empty staging directory that everybody may write to."""
    path = tmp_path / "staging"
    path.mkdir()
    path.chmod(0o1777)
    return path


@pytest.fixture
def make_room(place: Path) -> Iterator[MakeRoom]:
    """Return a function that makes rooms on `place`, one after the other; they end with the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root: files of several users cannot be made without (NOT TESTED on this run)")
    rooms: list[Room] = []

    def make(limits: SpoolLimits | None = None, **intake: Any) -> Room:
        rooms.append(Room(place, limits, **intake))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


@pytest.fixture
def room(make_room: MakeRoom) -> Room:
    """Return a running room whose requests are executed."""
    return make_room().start().ready()


@pytest.fixture
def quick(make_room: MakeRoom) -> Room:
    """Return a running room that waits for incomplete files only briefly."""
    return make_room(SpoolLimits(request_settle=0.3)).start().ready()


@pytest.fixture
def desk(place: Path) -> Iterator[Desk]:
    """Return an intake on an open staging directory, with nothing else running."""
    desk = Desk(place)
    yield desk
    desk.staging.close()
