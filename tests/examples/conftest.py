"""The examples as users have them: copied out of the project, run as a user who owns nothing else."""

import os
import shutil
from collections.abc import Iterator

import pytest
from examples.desk import EXAMPLES, Desk
from support.daemon import RunningDaemon, StartDaemon
from support.places import Users, give_to, make_directory, open_directory


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="module")
def quiet_daemon(start_module_daemon: StartDaemon, users: Users) -> RunningDaemon:
    """Return a daemon without HTTP, and alice's project `lab`."""
    daemon = start_module_daemon(http=False)
    daemon.done("create_project", {"project": "lab", "permissions": {"owners": [users.alice]}})
    for name in os.listdir(daemon.staging):
        if name != "responses":
            os.unlink(os.path.join(daemon.staging, name))
    return daemon


@pytest.fixture(scope="module")
def desk(base: str, quiet_daemon: RunningDaemon, users: Users) -> Desk:
    home = make_directory(os.path.join(base, "home"), 0o755)
    examples = os.path.join(home, "examples")
    shutil.copytree(EXAMPLES, examples)
    give_to(home, users.alice)
    return Desk(home, examples, users.alice, quiet_daemon)
