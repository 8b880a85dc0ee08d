"""A fresh deployment for each examination."""

import os
from collections.abc import Iterator

import pytest
from doctor.clinic import ACCOUNT, STRANGER, Clinic
from support.places import Users, open_directory


@pytest.fixture
def clinic(users: Users) -> Iterator[Clinic]:
    assert (users.carol, users.alice) == (ACCOUNT, STRANGER)
    with open_directory() as outer:
        base = os.path.join(outer, "site")
        os.mkdir(base, 0o755)
        yield Clinic(base, users).initialise()
