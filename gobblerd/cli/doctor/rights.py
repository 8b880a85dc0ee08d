"""Checks of who may do what: modes, owners, default ACLs, and what users leave in staging.

These look at modes and try things as the account. What users can do for real is tried by trials.py.
"""

import errno
import os
import stat
import struct
from collections.abc import Iterator

from gobblerd.cli.doctor.findings import Check, Found, fail, ok, warn
from gobblerd.cli.doctor.site import Site
from gobblerd.domain.errors import escaped
from gobblerd.registry import layout
from gobblerd.storage.files import READ_DIRECTORY, READ_FILE, exists, opened

_ACL = "system.posix_acl_default"  # acl(5); the format is the kernel's posix_acl_xattr.h
_ENTRY = struct.Struct("<HHI")
_HEADER = struct.Struct("<I")
_USER, _MASK = 0x02, 0x10
_READ_ENTER = 0o5
_ALL_DROP, _GROUP_DROPS, _OTHERS_WRITE = 0o003, 0o030, 0o022
_STAGING_MODE, _REGISTRY_MODE = 0o1777, 0o755
_LOOKED_MOST = 1000  # uploads
_SHOWN_MOST = 3


def _holds(mode: int, wanted: int) -> bool:
    return mode & wanted == wanted


def _modes(site: Site) -> Found:
    info = os.stat(site.staging)
    mode = stat.S_IMODE(info.st_mode)
    if not mode & stat.S_ISVTX:
        return fail(
            f"{site.staging} has mode {mode:04o}: without the sticky bit users can remove each other's files"
        )
    if not (_holds(mode, _ALL_DROP) or _holds(mode, _GROUP_DROPS)):
        return fail(f"{site.staging} has mode {mode:04o}: users cannot drop anything there")
    if info.st_uid not in {site.account.uid, 0}:
        return fail(f"{site.staging} belongs to user {info.st_uid}, who can remove everybody's files")
    if mode != _STAGING_MODE:
        return warn(f"{site.staging} has mode {mode:04o}, not 1777: only some users can drop requests")
    return ok(f"{site.staging} has mode 1777")


def _responses(site: Site) -> Found:
    path = os.path.join(site.staging, "responses")
    if not exists(path):
        return ok("responses/ is not there yet: the daemon makes it at its first start")
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode):
        return fail(f"{path} is not a directory", "see who made it, and remove it: the daemon makes its own")
    if info.st_uid != site.account.uid:
        return fail(f"{path} belongs to user {info.st_uid}, not to {site.account.name}")
    if info.st_mode & _OTHERS_WRITE or not _holds(info.st_mode, _READ_ENTER):
        return fail(f"{path} has mode {stat.S_IMODE(info.st_mode):04o}", f"chmod 755 {path}")
    return ok(f"{path} is {site.account.name}'s alone and readable by all")


def _registry(site: Site) -> Found:
    for path in (site.registry, *_upper_places(site)):
        info = os.stat(path)
        mode = stat.S_IMODE(info.st_mode)
        if info.st_uid != site.account.uid:
            return fail(f"{path} belongs to user {info.st_uid}, not to {site.account.name}")
        if mode & _OTHERS_WRITE:
            return fail(f"{path} has mode {mode:04o}: others than {site.account.name} can change it")
        if not _holds(mode, _REGISTRY_MODE):
            return warn(f"{path} has mode {mode:04o}: not everybody can read it")
    return ok(f"registry, logs and projects are {site.account.name}'s and readable by all")


def _upper_places(site: Site) -> Iterator[str]:
    logs = layout.join(site.registry, layout.LOGS)
    if exists(logs):
        yield logs
    yield from (layout.join(site.registry, project.project) for project in site.metadata.projects())


def default_acl(path: str) -> dict[tuple[int, int], int] | None:
    """Return a directory's default ACL as permissions by (tag, id); None if it has none. OSError."""
    try:
        data = os.getxattr(path, _ACL)
    except OSError as error:
        if error.errno == errno.ENODATA:
            return None
        raise
    return {(tag, who): bits for tag, bits, who in _ENTRY.iter_unpack(data[_HEADER.size :])}


def granted(acl: dict[tuple[int, int], int], uid: int) -> int:
    """Return what a default ACL will give a user besides the owner, as mode bits."""
    masks = [bits for (tag, _), bits in acl.items() if tag == _MASK]
    return acl.get((_USER, uid), 0) & (masks[0] if masks else 0o7)


def _acls(site: Site) -> Found:
    if site.account.uid == 0:
        return warn("the account is root, which needs no ACLs, and reads everything on this machine")
    try:
        acl = default_acl(site.staging)
    except OSError as error:
        if error.errno not in {errno.ENOTSUP, errno.ENOSYS}:
            raise
        return warn(
            "this filesystem has no POSIX ACLs: users must leave what they upload readable (umask 022)"
        )
    if acl is None:
        return warn("staging has no default ACL: users must leave what they upload readable (umask 022)")
    if not _holds(granted(acl, site.account.uid), _READ_ENTER):
        return fail(f"the default ACL of staging does not let {site.account.name} read and enter")
    with site.staging_scratch() as made:
        if default_acl(made) is None:
            return fail("a directory made in staging does not inherit its default ACL")
    return ok(f"what users make in staging is readable for {site.account.name} by its default ACL")


def _uploads(site: Site) -> Found:
    closed, looked = [], 0
    with os.scandir(site.staging) as entries:
        for entry in entries:
            if looked >= _LOOKED_MOST:
                break
            looked += 1
            if not _readable(entry):
                closed.append(escaped(entry.name))  # users chose it
    if closed:
        shown = ", ".join(closed[:_SHOWN_MOST]) + (", ..." if len(closed) > _SHOWN_MOST else "")
        return warn(
            f"{len(closed)} of {looked} entries of staging cannot be read by {site.account.name}: {shown}"
        )
    return ok(f"all {looked} entries of staging can be read")


def _readable(entry: "os.DirEntry[str]") -> bool:
    """Tell whether the account can open what a user left; links and what is gone are nobody's trouble."""
    try:
        info = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(info.st_mode):
            with opened(entry.path, READ_DIRECTORY) as fd, os.scandir(fd) as inner:
                return all(_opens(each.name, fd) for each, _ in zip(inner, range(_SHOWN_MOST), strict=False))
        if stat.S_ISREG(info.st_mode):
            with opened(entry.path, READ_FILE):
                return True
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    return True


def _opens(name: str, fd: int) -> bool:
    try:
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            with opened(name, READ_FILE, dir_fd=fd):
                return True
    except FileNotFoundError:
        return True
    except PermissionError:
        return False
    return True


CHECKS: tuple[Check[Site], ...] = (
    Check(
        "staging-mode",
        "staging is writable by all and sticky",
        "Anyone drops requests there; without the sticky bit anyone can also replace others' files, "
        "responses/ included.",
        "chown it to the account (or root) and chmod 1777, or run `gobblerd init --adopt`",
        _modes,
    ),
    Check(
        "responses",
        "responses/ is the daemon's alone",
        "Whoever could write there could forge answers; the daemon refuses to start with it.",
        "find out who made it; then chown it to the account and chmod 755",
        _responses,
    ),
    Check(
        "registry-mode",
        "the registry is the account's and readable by all",
        "All that protects the registry is that nobody but the account writes to it; readers open its files.",
        "chown what is named to the account, chmod 755 (files: 644)",
        _registry,
    ),
    Check(
        "acl",
        "default ACLs let the account read what users drop",
        "A user with umask 077 otherwise drops files that the daemon cannot read, and gets a 400.",
        "mount with ACLs and run `gobblerd init --adopt`, or tell users to leave uploads readable, or see "
        "systemd/gobblerd.service.d/capabilities.conf",
        _acls,
    ),
    Check(
        "uploads",
        "what lies in staging can be read by the account",
        "Uploads of it would be refused.",
        "their owners must chmod them (a+rX), or ACLs must be set before they are made (see acl)",
        _uploads,
    ),
)
