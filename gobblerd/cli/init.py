"""`gobblerd init`: make staging and registry, or adopt those of a Go service.

Nothing that exists is changed but what a line of output says; with --adopt it may be run again. Known
limits: parents are not made; default ACLs need the `setfacl` program and a filesystem that knows them, and
do not reach files that a user made with mode 0600.
"""

import json
import os
import pwd
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import click

from gobblerd.registry import layout
from gobblerd.service.go_files import cleaned
from gobblerd.storage.files import (
    READ_DIRECTORY,
    READ_FILE,
    Durability,
    opened,
    read_all,
    replace_file,
    sync_directory,
)

STAGING_MODE = 0o1777  # anyone may drop files, nobody may remove another's
REGISTRY_MODE = 0o755
_MARKER_MAX_BYTES = 4096
_OF_PLACES = (layout.PERMISSIONS, layout.LATEST, layout.MANIFEST)  # a project, an asset, a version has one


@dataclass(frozen=True, slots=True)
class Account:
    """The service account."""

    name: str
    uid: int
    gid: int


@click.command("init")
@click.argument("staging", type=click.Path())
@click.argument("registry", type=click.Path())
@click.option("--adopt", is_flag=True, help="Take directories that hold something, such as a Go service's.")
@click.option("--owner", metavar="USER", help="The service account that is to own them; default: yourself.")
def command(staging: str, registry: str, owner: str | None, *, adopt: bool) -> None:
    """Make a staging directory and a registry with the right modes, default ACLs and marker."""
    staging, registry = (cleaned(os.path.abspath(path)) for path in (staging, registry))
    account = _account(owner, registry)
    _check(staging, registry, account, adopt=adopt)
    try:
        done = [*_prepare(staging, registry, account), *_next(staging, registry, account)]
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo("\n".join(done))


def _account(owner: str | None, registry: str) -> Account:
    """Return the account of --owner; by default whoever wrote the registry, else yourself."""
    uid = os.stat(registry).st_uid if _holds_something(registry) else os.geteuid()
    try:
        found = pwd.getpwuid(uid) if owner is None else pwd.getpwnam(owner)
    except KeyError:
        raise click.ClickException(f"there is no user {uid if owner is None else owner}") from None
    if os.geteuid() not in {0, found.pw_uid}:
        raise click.ClickException(f"only root may make directories for {found.pw_name}")
    return Account(found.pw_name, found.pw_uid, found.pw_gid)


def _holds_something(path: str) -> bool:
    return os.path.isdir(path) and bool(set(os.listdir(path)) - layout.UNREMARKABLE)


def _check(staging: str, registry: str, account: Account, *, adopt: bool) -> None:
    """Refuse before anything is touched."""
    if os.path.commonpath([staging, registry]) in {staging, registry}:
        raise click.ClickException("staging and registry must not lie within each other")
    for path in (staging, registry):
        if not os.path.isdir(os.path.dirname(path)):
            raise click.ClickException(f"{os.path.dirname(path)} is not there; make it first")
        if os.path.lexists(path) and not os.path.isdir(path):
            raise click.ClickException(f"{path} is not a directory")
        if not adopt and _holds_something(path):
            raise click.ClickException(f"{path} is not empty; to take it as it is, add --adopt")
    if _holds_something(registry) and os.stat(registry).st_uid != account.uid:
        raise click.ClickException(
            f"{registry} does not belong to {account.name}: the account that wrote a registry continues it"
        )
    for document in _OF_PLACES:
        if os.path.lexists(os.path.join(registry, document)):
            raise click.ClickException(
                f"{registry} holds {document}: it lies in a registry, and is not one; "
                "name the directory that holds the projects"
            )
    if os.path.lexists(os.path.join(registry, layout.MARKER)):
        _registry_id(os.path.join(registry, layout.MARKER))


def _prepare(staging: str, registry: str, account: Account) -> Iterator[str]:
    yield from _directory(staging, STAGING_MODE, account)
    yield from _default_acl(staging, account)
    if not _holds_something(registry):
        yield from _directory(registry, REGISTRY_MODE, account)
    logs = os.path.join(registry, layout.LOGS)
    if not os.path.isdir(logs):
        yield from _directory(logs, REGISTRY_MODE, account)
    yield from _marker(registry, account)
    sync_directory(registry)


def _directory(path: str, mode: int, account: Account) -> Iterator[str]:
    """Make a directory, or mend the mode and owner of the one that is there."""
    done = []
    if not os.path.isdir(path):
        os.mkdir(path, 0o700)
        done.append("made")
    info = os.stat(path)
    if (info.st_uid, info.st_gid) != (account.uid, account.gid) and os.geteuid() == 0:
        os.chown(path, account.uid, account.gid)
        done.append(f"owner {account.name}")
    if stat.S_IMODE(info.st_mode) != mode:
        os.chmod(path, mode)
        done.append(f"mode {mode:04o}")
    if done:
        yield f"{path}: {', '.join(done)}"


def _default_acl(staging: str, account: Account) -> Iterator[str]:
    """Let the account read and remove what users put into directories of theirs."""
    if account.uid == 0:
        return
    # A default ACL replaces the umask of whoever writes there. Left to itself it would be made from the
    # directory's own mode, and everybody's files would be writable to everybody.
    rule = f"u::rwx,g::---,o::---,m::rwx,u:{account.name}:rwx"
    program = shutil.which("setfacl")
    if program is None:
        yield (
            "setfacl is not installed, so no default ACLs were set: users must leave what they upload "
            f"readable for {account.name}. Install it and run this again with --adopt"
        )
        return
    ran = subprocess.run(  # noqa: S603 - a program of the system, with arguments of our own
        [program, "-d", "-m", rule, staging], capture_output=True, text=True, check=False
    )
    if ran.returncode == 0:
        yield f"set default ACLs on {staging}: what users put there is theirs and {account.name}'s alone"
    else:
        yield f"could not set default ACLs on {staging}: {ran.stderr.strip()}"


def _marker(registry: str, account: Account) -> Iterator[str]:
    path = os.path.join(registry, layout.MARKER)
    if os.path.lexists(path):
        yield f"{path} is there already (registry {_registry_id(path)})"
        return
    identity = secrets.token_hex(16)
    data = json.dumps({"format": layout.MARKER_FORMAT, "id": identity}, indent=4).encode("ascii")
    with opened(registry, READ_DIRECTORY) as fd:
        replace_file(fd, f"{layout.MARKER}.new", layout.MARKER, data, Durability.FULL)
        os.chmod(layout.MARKER, 0o644, dir_fd=fd)
        if os.geteuid() == 0:
            os.chown(layout.MARKER, account.uid, account.gid, dir_fd=fd, follow_symlinks=False)
    yield f"wrote {path} (registry {identity})"


def _registry_id(path: str) -> str:
    try:
        with opened(path, READ_FILE) as fd:
            found = json.loads(read_all(fd, _MARKER_MAX_BYTES))
        if found["format"] == layout.MARKER_FORMAT:
            return str(found["id"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise click.ClickException(f"{path} is not a marker that this gobblerd knows")


def _next(staging: str, registry: str, account: Account) -> Iterator[str]:
    yield "next:"
    serve = f"gobblerd serve --staging {staging} --registry {registry} --administrators YOUR_NAME"
    yield f"  {serve} --require-marker" + ("" if account.uid == os.geteuid() else f"    (as {account.name})")
    yield "or set staging and registry in the configuration file, and start the systemd unit"
