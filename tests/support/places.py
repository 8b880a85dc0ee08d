"""What a test puts on disk before the daemon sees it: users, directories, upload sources, request files.

Everything is real: files have the owner that the test names (the tests run as root), request files are
written under a temporary name and renamed. Limits: Linux, and root for any owner but oneself.
"""

import json
import os
import pwd
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

ROOT = "root"


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link in a source, by its text."""

    target: str


Content = bytes | Symlink | None  # None: an empty directory
Tree = Mapping[str, Content]
User = str | int  # a name of the password database, or a bare UID without one


class Users(NamedTuple):
    """Names of three users of this machine who are not administrators of anything."""

    alice: str
    bob: str
    carol: str


def ids_of(user: User) -> tuple[int, int]:
    """Return UID and GID; a bare UID is its own group."""
    if isinstance(user, int):
        return user, user
    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def as_user(user: User) -> list[str]:
    """Return the beginning of a command line that runs the rest as `user`, without privileges."""
    uid, gid = (str(number) for number in ids_of(user))
    return ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]


@contextmanager
def open_directory() -> Iterator[str]:
    """Yield a temporary directory that every user can traverse (pytest's own are 0700)."""
    path = tempfile.mkdtemp(prefix="gobblerd-test-", dir="/tmp")
    os.chmod(path, 0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def make_directory(path: str, mode: int) -> str:
    """Create a directory with exactly this mode, whatever the umask."""
    os.mkdir(path)
    os.chmod(path, mode)
    return path


def write_tree(root: str, tree: Tree) -> None:
    """Create the directory `root` with the files, links and empty directories of `tree`."""
    os.makedirs(root, exist_ok=True)
    for path, content in tree.items():
        full = os.path.join(root, path)
        if content is None:
            os.makedirs(full, exist_ok=True)
            continue
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if isinstance(content, Symlink):
            os.symlink(content.target, full)
        else:
            with open(full, "wb") as file:
                file.write(content)


def read_tree(root: str) -> dict[str, Content]:
    """Return what `write_tree` would have to write to make `root` as it is."""
    found: dict[str, Content] = {}
    for directory, subdirectories, names in os.walk(root):
        here = os.path.relpath(directory, root)
        for name in (*names, *subdirectories):
            full = os.path.join(directory, name)
            path = os.path.normpath(os.path.join(here, name))
            if os.path.islink(full):
                found[path] = Symlink(os.readlink(full))
            elif not os.path.isdir(full):
                with open(full, "rb") as file:
                    found[path] = file.read()
            elif not os.listdir(full):
                found[path] = None
    return found


def give_to(path: str, user: User) -> None:
    """Change the owner of `path` and of everything below it, never following a link."""
    uid, gid = ids_of(user)
    os.chown(path, uid, gid, follow_symlinks=False)
    for directory, subdirectories, names in os.walk(path):
        for name in (*subdirectories, *names):
            os.chown(os.path.join(directory, name), uid, gid, follow_symlinks=False)


def make_source(staging: str, tree: Tree, user: User = ROOT, name: str | None = None) -> str:
    """Put a directory to be uploaded into staging; return its name."""
    name = name or f"source-{uuid.uuid4().hex[:12]}"
    full = os.path.join(staging, name)
    write_tree(full, tree)
    for directory, _, names in os.walk(full):
        os.chmod(directory, 0o755)
        for file in names:
            if not os.path.islink(os.path.join(directory, file)):
                os.chmod(os.path.join(directory, file), 0o644)
    give_to(full, user)
    return name


def request_name(action: str) -> str:
    """Return a new name for a request file."""
    return f"request-{action}-{uuid.uuid4().hex[:16]}"


def drop_request(staging: str, name: str, document: Any, user: User = ROOT) -> str:
    """Write a request file as its user would: a temporary name, then a rename. Return its final name.

    `document` is any JSON value, or bytes to be written as they are.
    """
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    temporary = os.path.join(staging, f"tmp-{uuid.uuid4().hex}")
    with open(temporary, "wb") as file:
        file.write(body)
    os.chmod(temporary, 0o644)
    os.chown(temporary, *ids_of(user))
    os.rename(temporary, os.path.join(staging, name))
    return name
