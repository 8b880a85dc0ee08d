"""Users and passwords: from whom, in which order, asked on a terminal only, stored only when told to."""

import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backend
import keyring.errors
import pytest

from gobblerd.archive import Wrong
from gobblerd.archive.backends import credentials
from gobblerd.archive.backends.credentials import (
    NOBODY,
    Credentials,
    find_credentials,
    variable,
    without_credentials,
)

URL = "https://cdcs.example.org:8443/base"
VARIABLE = "GOBBLER_AUTH_CDCS_EXAMPLE_ORG"


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1.0  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked("locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.is_locked:
            raise keyring.errors.KeyringLocked("locked")
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def ring() -> Iterator[Ring]:
    before, ring = keyring.get_keyring(), Ring()
    keyring.set_keyring(ring)
    yield ring
    keyring.set_keyring(before)


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Return an environment in which nothing is known."""
    return {"HOME": str(tmp_path)}


def write_netrc(home: dict[str, str], text: str) -> None:
    path = os.path.join(home["HOME"], ".netrc")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o600)


def test_the_order(home: dict[str, str], ring: Ring) -> None:
    """Given, in the URL, the environment, netrc, the keyring."""
    ring.kept["gobblerd+cdcs.example.org", "anna"] = "of the ring"
    found = [find_credentials(URL, "anna", environ=home)]
    write_netrc(home, "machine cdcs.example.org login anna password of-netrc\n")
    found.append(find_credentials(URL, environ=home))
    home[VARIABLE] = "anna:of:the environment"
    found.append(find_credentials(URL, environ=home))
    url = URL.replace("://", "://anna:of%20the%20url@")
    found.append(find_credentials(url, environ=home))
    found.append(find_credentials(url, password="given", environ=home))
    assert [one.password for one in found] == [
        "of the ring",
        "of-netrc",
        "of:the environment",
        "of the url",
        "given",
    ]
    assert {one.user for one in found} == {"anna"}


def test_another_host_or_user_gets_nothing(home: dict[str, str]) -> None:
    """What is known for one host is never sent to another, nor to another user's name."""
    home[VARIABLE] = "anna:secret"
    write_netrc(home, "machine cdcs.example.org login anna password secret\n")
    assert find_credentials("https://cdcs.example.org.evil.net", environ=home) == NOBODY
    assert find_credentials("https://example.org", environ=home) == NOBODY
    with pytest.raises(Wrong, match="no password of"):
        find_credentials(URL, "ben", environ=home)


def test_netrc_elsewhere_and_damaged(home: dict[str, str], tmp_path: Path) -> None:
    """NETRC says where it is; one that cannot be parsed is named."""
    path = tmp_path / "elsewhere"
    path.write_text("machine cdcs.example.org login ben password b\n", encoding="utf-8")
    path.chmod(0o600)
    assert find_credentials(URL, environ={**home, "NETRC": str(path)}).user == "ben"
    path.write_text("machine cdcs.example.org spoon ben\n", encoding="utf-8")
    with pytest.raises(Wrong, match="elsewhere"):
        find_credentials(URL, environ={**home, "NETRC": str(path)})


def test_nothing_is_stored_without_being_told_to(home: dict[str, str], ring: Ring) -> None:
    """And with that, it is found the next time; a keyring that is locked is said to be."""
    find_credentials(URL, "anna", "secret", environ=home)
    assert ring.kept == {}
    find_credentials(URL, "anna", "secret", environ=home, store=True)
    assert ring.kept == {("gobblerd+cdcs.example.org", "anna"): "secret"}
    assert find_credentials(URL, "anna", environ=home).password == "secret"
    ring.is_locked = True
    with pytest.raises(Wrong, match="cannot be stored"):
        find_credentials(URL, "anna", "secret", environ=home, store=True)
    with pytest.raises(Wrong, match=VARIABLE):
        find_credentials(URL, "anna", environ=home)


def test_without_the_package_keyring(home: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: nothing is found there, and storing says what to install."""
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert find_credentials(URL, environ=home) == NOBODY
    with pytest.raises(Wrong, match=r"gobblerd\[keyring\]"):
        find_credentials(URL, "anna", "secret", environ=home, store=True)


def test_nobody_is_asked_but_on_a_terminal(home: dict[str, str]) -> None:
    """In a script a missing password is an error that names the variable."""
    assert find_credentials(URL, environ=home, ask=True) == NOBODY
    with pytest.raises(Wrong, match=VARIABLE):
        find_credentials(URL, "anna", environ=home, ask=True)


def test_a_person_is_asked_on_a_terminal(tmp_path: Path) -> None:
    """User and password are typed, the latter unseen."""
    code = (
        "from gobblerd.archive.backends.credentials import find_credentials\n"
        f"found = find_credentials({URL!r}, ask=True, environ={{'HOME': {str(tmp_path)!r}}})\n"
        "print('\\nGOT', found.user, len(found.password), found)\n"
    )
    pid, master = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code])
    shown = b""
    for waited, answer in ((b"nobody): ", b"anna\n"), (b"password of anna", b"s3cret\n"), (b"GOT", b"")):
        while waited not in shown:
            shown += os.read(master, 4096)
        os.write(master, answer)
    try:
        while data := os.read(master, 4096):
            shown += data
    except OSError:  # how Linux says that nobody has the other end
        pass
    os.close(master)
    assert os.waitpid(pid, 0)[1] == 0
    assert b"GOT anna 6 Credentials('anna')" in shown
    assert b"s3cret" not in shown


def test_what_is_shown() -> None:
    """No password is in a URL or a representation that is shown."""
    assert without_credentials("https://anna:secret@host:1/x?y") == "https://host:1/x?y"
    assert "secret" not in repr(Credentials("anna", "secret"))
    assert variable("a-b.c") == "GOBBLER_AUTH_A_B_C"
    assert credentials.NOBODY.password == ""
