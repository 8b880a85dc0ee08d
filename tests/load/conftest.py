"""Fixtures of the load tests: directories that end with the test."""

from collections.abc import Iterator

import pytest
from support.places import open_directory


@pytest.fixture
def base() -> Iterator[str]:
    """Return a directory that every user may enter."""
    with open_directory() as path:
        yield path
