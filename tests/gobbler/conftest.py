"""Shells in which `gobbler` is at home: by file and registry alone, and over HTTP alone."""

from collections.abc import Iterator

import pytest
from gobbler.shell import Shell, make_home
from support.daemon import RunningDaemon, StartDaemon
from support.places import open_directory


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


def clear(daemon: RunningDaemon) -> None:
    """Make a new daemon's staging directory empty."""
    import os

    for name in os.listdir(daemon.staging):
        if name != "responses":
            os.unlink(os.path.join(daemon.staging, name))


@pytest.fixture(scope="module")
def by_file(base: str, start_module_daemon: StartDaemon) -> Shell:
    """Return a shell where there is no HTTP: requests are dropped, the registry is read directly."""
    daemon = start_module_daemon(http=False)
    clear(daemon)
    places = {"GOBBLER_STAGING": daemon.staging, "GOBBLER_REGISTRY": daemon.registry}
    return Shell(make_home(base), daemon, places)


@pytest.fixture(scope="module")
def over_http(base: str, start_module_daemon: StartDaemon) -> Shell:
    """Return a shell that knows no registry's directory: reads and answers come over HTTP."""
    daemon = start_module_daemon()
    clear(daemon)
    places = {"GOBBLER_STAGING": daemon.staging, "GOBBLER_URL": f"http://127.0.0.1:{daemon.port}"}
    return Shell(make_home(base), daemon, places)


@pytest.fixture(scope="module", params=["by_file", "over_http"])
def shell(request: pytest.FixtureRequest) -> Shell:
    """Return each of the two."""
    found: Shell = request.getfixturevalue(request.param)
    return found
