"""What tests of downloads share: a middleman before the module's daemon, and an empty cache."""

from collections.abc import Iterator

import pytest
from client.middleman import Middleman, middleman
from support.daemon import RunningDaemon
from support.places import open_directory


@pytest.fixture
def man(daemon: RunningDaemon) -> Iterator[Middleman]:
    with middleman(daemon.port) as man:
        yield man


@pytest.fixture
def cache() -> Iterator[str]:
    with open_directory() as path:
        yield path
