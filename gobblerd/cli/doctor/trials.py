"""What users can really do, tried as one of them: only root can try.

The user drops files, tries to replace what is not theirs, and reads and tries to write the registry; the
account then tries to read what the user dropped. Each trial is done in a process that is that user.
"""

import contextlib
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from gobblerd.cli.doctor.acting import acting_as
from gobblerd.cli.doctor.findings import Check, Found, fail, ok, warn
from gobblerd.cli.doctor.site import Account, Site
from gobblerd.registry import layout
from gobblerd.storage.removal import remove_tree

T = TypeVar("T")
REASON = "only root can try this as a user: run the doctor as root too"


@dataclass(frozen=True, slots=True)
class Trial:
    """A site, and the user who is tried as."""

    site: Site
    user: Account

    def as_user(self, do: Callable[[], T]) -> T:
        """Do something as the user."""
        return acting_as(self.user.uid, self.user.gid, [], do)

    def as_account(self, do: Callable[[], T]) -> T:
        """Do something as the service account."""
        account = self.site.account
        return acting_as(account.uid, account.gid, groups_of(account), do)


def groups_of(account: Account) -> list[int]:
    """Return the account's groups, as the name service has them."""
    return os.getgrouplist(account.name, account.gid) if not account.name.isdecimal() else [account.gid]


def _make(path: str) -> None:
    with open(path, "x", encoding="utf-8"):
        pass


def _drops(trial: Trial) -> Found:
    base = os.path.join(trial.site.staging, f".gobblerd-doctor-{secrets.token_hex(8)}")

    def drop() -> None:
        _make(f"{base}-new")
        os.rename(f"{base}-new", base)

    try:
        trial.as_user(drop)
        trial.as_user(lambda: os.unlink(base))
    except OSError as error:
        return fail(f"the user {trial.user.name} cannot write to {trial.site.staging}: {error.strerror}")
    return ok(f"the user {trial.user.name} writes, renames and removes a file of their own")


def _replaces(trial: Trial) -> Found:
    base = os.path.join(trial.site.staging, f".gobblerd-doctor-{secrets.token_hex(8)}")
    trial.as_account(lambda: os.mkdir(base, 0o755))
    try:
        trial.as_user(lambda: os.rename(base, f"{base}-stolen"))
    except PermissionError:
        return ok(f"the user {trial.user.name} cannot rename what is another's")
    finally:
        for path in (base, f"{base}-stolen"):
            with contextlib.suppress(OSError):
                os.rmdir(path)
    return fail(
        f"the user {trial.user.name} could rename a directory of {trial.site.account.name}'s in staging"
    )


def _registry_closed(trial: Trial) -> Found:
    projects = [project.project for project in trial.site.metadata.projects()[:3]]
    for place in ("", layout.LOGS, layout.TRANSACTIONS, *projects):
        path = layout.join(trial.site.registry, place, f"..doctor-{secrets.token_hex(8)}")
        try:
            trial.as_user(partial(_make, path))
        except OSError:
            continue
        os.unlink(path)
        return fail(
            f"the user {trial.user.name} could make a file in {layout.join(trial.site.registry, place)}"
        )
    return ok(f"the user {trial.user.name} cannot write there")


def _registry_open(trial: Trial) -> Found:
    def read() -> int:
        names = [name for name in os.listdir(trial.site.registry) if not name.startswith("..")]
        for name in names[:3]:
            os.listdir(layout.join(trial.site.registry, name))
        return len(names)

    try:
        found = trial.as_user(read)
    except OSError as error:
        return fail(f"the user {trial.user.name} cannot read {error.filename}: {error.strerror}")
    return ok(f"the user {trial.user.name} sees {found} projects")


def _read_by_account(trial: Trial) -> Found:
    if trial.site.account.uid == 0:
        return ok("the account is root, which reads everything")
    open_handed, careful = (_upload_is_read(trial, umask) for umask in (0o022, 0o077))
    name = trial.site.account.name
    if not open_handed:
        return fail(f"{name} cannot read what the user {trial.user.name} drops with umask 022")
    if not careful:
        return warn(
            f"{name} reads what the user {trial.user.name} drops with umask 022, but not with umask 077"
        )
    return ok(f"{name} reads what the user {trial.user.name} drops, also with umask 077")


def _upload_is_read(trial: Trial, umask: int) -> bool:
    base = os.path.join(trial.site.staging, f".gobblerd-doctor-{secrets.token_hex(8)}")

    def drop() -> None:
        os.umask(umask)
        os.makedirs(f"{base}/below")
        with open(f"{base}/below/file", "x", encoding="utf-8") as file:
            file.write("uploaded")

    def read() -> str:
        with open(f"{base}/below/file", encoding="utf-8") as file:
            return file.read()

    try:
        trial.as_user(drop)
        return trial.as_account(read) == "uploaded"
    except PermissionError:
        return False
    finally:
        with contextlib.suppress(OSError):
            remove_tree(base)


TRIALS: tuple[Check[Trial], ...] = (
    Check(
        "users-drop",
        "users can drop requests",
        "A request is a file in staging.",
        "chmod 1777 on staging, and a mount that lets users write (root_squash and nodemaps aside)",
        _drops,
    ),
    Check(
        "users-replace",
        "users cannot touch what is not theirs in staging",
        "Whoever could replace another's request would ask in their name.",
        "chmod +t on staging; a filesystem that ignores the sticky bit cannot hold it",
        _replaces,
    ),
    Check(
        "users-write-registry",
        "users cannot write to the registry",
        "What is in the registry is only to be trusted because nobody but the account writes there.",
        "chmod -R go-w on the registry, and no ACL that lets others write",
        _registry_closed,
    ),
    Check(
        "users-read-registry",
        "users can read the registry",
        "Clients read the registry's files directly.",
        "chmod 755 on the registry and on the directories above it",
        _registry_open,
    ),
    Check(
        "users-read",
        "the account can read what users drop",
        "What it cannot read it cannot take in, and users get a 400.",
        "run `gobblerd init --adopt` on a filesystem with ACLs, tell users to use umask 022, or see "
        "systemd/gobblerd.service.d/capabilities.conf",
        _read_by_account,
    ),
)
