"""Fixtures of the hostile tests: a daemon of its own account, and what it must not give away."""

import os
from collections.abc import Iterator

import pytest
from hostile.intruder import SECRET, Prey
from support.crowd import SERVICE, ServiceDaemon, showing_log
from support.places import Users, give_to, make_directory, open_directory


@pytest.fixture
def base() -> Iterator[str]:
    """Return a directory that every user may enter."""
    with open_directory() as path:
        yield path


@pytest.fixture
def service(base: str, users: Users) -> Iterator[ServiceDaemon]:
    """Return a daemon that runs as its own account; alice owns project p."""
    daemon = ServiceDaemon(base, settings={"durability": "process", "request_settle": 1})
    with showing_log(daemon):
        daemon.done("create_project", {"project": "p", "permissions": {"owners": [users.alice]}})
        yield daemon


@pytest.fixture
def prey(base: str, service: ServiceDaemon, users: Users) -> Prey:
    """Return where the secrets are, on the same filesystem as staging."""
    homes = {name: os.path.join(base, f"home-{name}") for name in Prey._fields}
    _hide(homes["service"], SERVICE, SECRET, 0o600)
    _hide(homes["bob"], users.bob, SECRET, 0o600)
    _hide(homes["open"], users.carol, b"OUTSIDE", 0o644)
    return Prey(**homes)


def _hide(home: str, user: str, content: bytes, mode: int) -> None:
    make_directory(home, 0o755)
    make_directory(os.path.join(home, "d"), 0o755)
    path = os.path.join(home, "d", "f")
    with open(path, "wb") as file:
        file.write(content)
    give_to(home, user)
    os.chmod(path, mode)


@pytest.fixture
def nothing_leaks(service: ServiceDaemon, prey: Prey) -> Iterator[None]:
    """Whatever the test does: afterwards no secret is in registry, responses or log."""
    yield
    for top in (service.registry, os.path.join(service.staging, "responses")):
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                if not os.path.islink(path):
                    with open(path, "rb") as file:
                        assert SECRET not in file.read(), path
    assert SECRET.decode() not in service.logged()
