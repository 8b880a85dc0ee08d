"""Processes of real users that attack a staging directory as fast as they can.

They are handed to an interpreter as text, since their user may not be able to read this checkout. Each prints
one line when it begins, and goes on until it is killed; what an attack is refused (a hard link that the kernel
forbids) is passed over.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from support.places import User, as_user
from support.pygobbler_user import interpreter_for

OWN = (b"", b"one", b"another", b"two", b"twother", b"good", b"decoy")  # all that an attacked file ever holds
SECRET = b"SECRET!"  # as long as what it is swapped for, so that no size gives it away


class Prey(NamedTuple):
    """Directories outside staging that hold a file `d/f`, a secret of mode 0600 unless open."""

    service: str  # the daemon can read it
    bob: str  # it cannot
    open: str  # anybody can, but no symbolic link to it may be followed


PRELUDE = r"""
import os, shutil, sys
def attempt(do, *arguments):
    try:
        do(*arguments)
    except OSError:
        pass
def write(path, content):
    with open(path, "wb") as file:
        file.write(content)
def rewrite(path, content):
    with open(path, "r+b") as file:
        file.write(content)
"""
# argv: the source, then directories that hold d/f, a secret
SWAP = r"""
top, preys = sys.argv[1], sys.argv[2:]
new, away, f, d = top + "-new", top + "-away", top + "/d/f", top + "/d"
def own(content):
    attempt(write, new, content)
    attempt(os.rename, new, f)
def swap(make, *arguments):
    attempt(make, *arguments)
    attempt(os.rename, new, f)
    attempt(os.unlink, new)
print("attacking", flush=True)
while True:
    for prey in preys:
        own(b"one")
        swap(os.symlink, prey + "/d/f", new)
        own(b"another")
        if not prey.endswith("-open"):  # whoever may read it may link it
            swap(os.link, prey + "/d/f", new)
        swap(os.mkfifo, new)
        own(b"one")
        attempt(rewrite, f, b"two")
        attempt(os.unlink, f)
        attempt(os.mkdir, f)
        attempt(os.rmdir, f)
        own(b"another")
        attempt(write, d + "/g", b"good")
        attempt(os.rename, d, away)  # the directory for a link
        attempt(os.symlink, prey + "/d", d)
        attempt(os.unlink, d)
        attempt(os.rename, away, d)
        attempt(os.rename, top, away)  # the whole source for a link
        attempt(os.symlink, prey, top)
        attempt(os.unlink, top)
        attempt(os.rename, away, top)
        attempt(os.rename, top, away)  # and for another directory
        attempt(os.makedirs, d)
        attempt(write, f, b"decoy")
        attempt(shutil.rmtree, top)
        attempt(os.rename, away, top)
"""
# argv: the request, then a file of an administrator's
REPLACE = r"""
request, prey = sys.argv[1:]
new = os.path.dirname(request) + "/swap-new"
print("attacking", flush=True)
while True:
    for make in (
        lambda: write(new, b'{"project": "stolen"}'),
        lambda: os.symlink(prey, new),
        lambda: write(new, b'{"project": "sto'),
        lambda: os.link(prey, new),
        lambda: os.mkfifo(new),
    ):
        attempt(make)
        attempt(os.rename, new, request)
        attempt(os.unlink, new)
    attempt(os.unlink, request)
    attempt(os.mkdir, request)
    attempt(os.rmdir, request)
"""


@contextlib.contextmanager
def attack(user: User, script: str, *arguments: str) -> Iterator[None]:
    """Let `user` attack for the length of the block."""
    python = interpreter_for(str(user)) if isinstance(user, str) else "/usr/bin/python3"
    command = [*as_user(user), python, "-c", PRELUDE + script, *arguments]
    with subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == b"attacking\n"
            yield
            assert attacker.poll() is None, "the attacker gave up"
        finally:
            attacker.kill()


def try_as(user: str, script: str, *arguments: str) -> list[str]:
    """Run a script as `user`, and return the lines that it printed."""
    command = [*as_user(user), interpreter_for(user), "-c", PRELUDE + script, *arguments]
    ran = subprocess.run(command, cwd="/", capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()
