"""Names of UIDs."""

import errno
import os
import pwd

import pytest

from gobblerd.staging.users import NameServiceFailed, Users, look_up_name


def test_names_are_those_of_the_password_database() -> None:
    """Whatever pwd says of those that there are; None for one that there is not."""
    for entry in pwd.getpwall()[:5]:
        assert look_up_name(entry.pw_uid) == pwd.getpwuid(entry.pw_uid).pw_name
    assert look_up_name(4_000_000_001) is None
    assert Users().name(4_000_000_001) == "4000000001"


def test_no_answer_is_not_no_name() -> None:
    """getpwuid_r's errors other than the four that mean "none" are the service's failure."""

    class Library:
        def __init__(self, code: int) -> None:
            self.code = code

        def getpwuid_r(self, *_: object) -> int:
            return self.code

    for code, fails in ((errno.EIO, True), (errno.EAGAIN, True), (errno.ERANGE, True), (errno.ENOENT, False)):
        if fails:
            with pytest.raises(NameServiceFailed, match=os.strerror(code)):
                look_up_name(1, Library(code))
        else:
            assert look_up_name(1, Library(code)) is None


def test_any_other_exception_is_a_failure_too() -> None:
    """It is no answer, and certainly not "none"."""

    def broken(uid: int) -> str:
        raise RuntimeError(uid)

    with pytest.raises(NameServiceFailed):
        Users(broken).name(12)


def test_found_names_are_kept_but_failures_are_not() -> None:
    """One question a minute per user; the name of a new account is found at once."""
    asked: list[int] = []
    names: dict[int, str] = {}

    def look_up(uid: int) -> str | None:
        asked.append(uid)
        return names.get(uid)

    users = Users(look_up)
    assert users.name(5) == "5"
    names[5] = "eve"
    assert [users.name(5), users.name(5)] == ["eve", "eve"]
    assert asked == [5, 5]
