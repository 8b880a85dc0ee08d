"""Checks of this machine: kernel settings, limits, names, events, and who we are."""

import os
import pwd
import resource
import subprocess
import sys
import time

from gobblerd.cli.doctor.events import Listener
from gobblerd.cli.doctor.findings import Check, Found, fail, ok, skipped, warn
from gobblerd.cli.doctor.site import Site
from gobblerd.domain.errors import escaped
from gobblerd.staging.mounts import filesystem_of
from gobblerd.staging.users import NameServiceFailed, look_up_name
from gobblerd.storage.files import Durability, write_file

_IMPORTED = ("gobblerd.cli.serve", "gobblerd.service.daemon", "gobblerd.service.web.main")
_IS_FAST = (  # whether all extensions in C are there, and are used
    "from gobblerd.registry import listing, sums; from gobblerd.storage import native; "
    "print(None not in (native.NATIVE, native.SINGLE, sums.SUMS, listing.NAMES))"
)
_HARDLINKS = "/proc/sys/fs/protected_hardlinks"
_WATCHES = "/proc/sys/fs/inotify/max_user_watches"
_INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
_FILES_LEAST = 4096
_WATCHES_LEAST, _INSTANCES_LEAST = 64, 8
_SLOW_NAME = 1.0  # seconds
_OWNERS_MOST = 100
_CAPABILITIES = {1: "CAP_DAC_OVERRIDE", 2: "CAP_DAC_READ_SEARCH", 3: "CAP_FOWNER"}  # capabilities(7)


def _account(site: Site) -> Found:
    us = os.geteuid()
    if us != site.account.uid:
        return fail(
            f"this is user {us}, but the registry is {site.account.name}'s",
            f"run the daemon and this command as {site.account.name} (runuser -u {site.account.name} -- ...)",
        )
    if us == 0:
        return warn("the account is root: what it cannot be kept from reading, a fault could give away")
    return ok(f"{site.account.name} ({us}) owns the registry and is who we are")


def _interpreter(site: Site) -> Found:
    """Run our interpreter as the account, from its start: what root runs, root has imported."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import {', '.join(_IMPORTED)}; {_IS_FAST}"
    try:
        ran = subprocess.run(  # noqa: S603 - our own interpreter and text
            [sys.executable, "-P", "-c", program],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        return fail(f"{sys.executable} ({os.path.realpath(sys.executable)}): {error.strerror}")
    if ran.returncode != 0:
        *_, last = ran.stderr.splitlines() or [f"exit code {ran.returncode}"]
        return fail(f"{sys.executable} runs, but cannot import gobblerd: {escaped(last)}")
    extensions = (
        "with its extensions in C"
        if ran.stdout.split() == ["True"]
        else "without extensions in C: uploads and counting are slower"
    )
    return ok(f"{sys.executable} runs as {site.account.name}, and imports gobblerd {extensions}")


def _hardlinks(_site: Site) -> Found:
    return ok("it is on") if _number(_HARDLINKS) == 1 else fail("it is off")


def _number(path: str) -> int:
    with open(path, encoding="utf-8") as file:
        return int(file.read())


def _limits(_site: Site) -> Found:
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)  # the daemon raises its soft limit to the hard one
    watches, instances = _number(_WATCHES), _number(_INSTANCES)
    if files != resource.RLIM_INFINITY and files < _FILES_LEAST:
        return warn(
            f"only {files} files may be open at once", "raise LimitNOFILE in the unit (or ulimit -Hn)"
        )
    if watches < _WATCHES_LEAST or instances < _INSTANCES_LEAST:
        return warn(f"inotify allows a user {instances} instances and {watches} watches")
    shown = "unlimited" if files == resource.RLIM_INFINITY else files
    return ok(f"{shown} open files; inotify: {instances} instances, {watches} watches{_held_capabilities()}")


def _held_capabilities() -> str:
    """Name the capabilities that matter here and that we have."""
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        effective = next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    held = [name for bit, name in _CAPABILITIES.items() if effective >> bit & 1]
    return f"; capabilities: {', '.join(held)}" if held else ""


def _names(site: Site) -> Found:
    began = time.monotonic()
    try:
        nameless = sorted(uid for uid in _owners(site) if look_up_name(uid) is None)
    except NameServiceFailed as error:
        return fail(str(error))
    slow = time.monotonic() - began
    unknown = [name for name in site.administrators if not _is_known(name)]
    if unknown:
        return warn(f"there is no user {', '.join(unknown)}, who is an administrator by the configuration")
    if nameless:
        shown = ", ".join(map(str, nameless[:3]))
        return warn(
            f"{len(nameless)} users have no name here ({shown}): they appear as numbers in permissions"
        )
    if slow > _SLOW_NAME:
        return warn(f"looking up names takes {slow:.1f} s")
    return ok("the names of the account, administrators and owners of files in staging resolve")


def _owners(site: Site) -> set[int]:
    owners = {site.account.uid}
    with os.scandir(site.staging) as entries:
        for entry in entries:
            if len(owners) >= _OWNERS_MOST:
                break
            try:
                owners.add(entry.stat(follow_symlinks=False).st_uid)
            except FileNotFoundError:
                continue
    return owners


def _is_known(name: str) -> bool:
    if name.isdecimal():
        return True
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _events(site: Site) -> Found:
    if site.watch == "sweep":
        return skipped('the configuration says watch = "sweep"')
    filesystem = filesystem_of(site.staging)
    with site.staging_scratch() as directory:
        try:
            listener = Listener(directory)
        except OSError as error:
            return warn(
                f"no events can be had ({error.strerror}): staging is swept every few seconds instead"
            )
        with listener:
            write_file(os.path.join(directory, "closed"), b"1", Durability.PROCESS)
            os.rename(os.path.join(directory, "closed"), os.path.join(directory, "moved"))
            heard = listener.hears({"closed", "moved"})
    if not heard:
        return fail(f"a file was written in staging ({filesystem.type}), and no event came")
    if filesystem.is_local:
        return ok(f"writes on this machine send events, and {filesystem.type} has no other writers")
    return ok(
        f"writes on this machine send events; those of other nodes ({filesystem.type}) may not: "
        "staging is swept too"
    )


CHECKS: tuple[Check[Site], ...] = (
    Check(
        "account",
        "we are the service account",
        "Files of the registry must all belong to one account, on every node under the same UID.",
        "run as the account that owns the registry",
        _account,
    ),
    Check(
        "interpreter",
        "the account can run this gobblerd",
        "The daemon, and the process for HTTP that it starts, are this interpreter and what it imports.",
        "make the virtual environment anew, under umask 022, from an interpreter that every account may "
        "execute, such as /usr/bin/python3, none in another's home; or chmod -R a+rX it",
        _interpreter,
    ),
    Check(
        "hardlinks",
        "fs.protected_hardlinks is on",
        "Without it any user can link another's file into staging as a request.",
        "on every node that mounts staging: sysctl -w fs.protected_hardlinks=1, and in /etc/sysctl.d/ too",
        _hardlinks,
    ),
    Check(
        "limits",
        "limits of open files and watches are high enough",
        "Connections and running requests need open files; the watcher needs an inotify instance.",
        "raise fs.inotify.max_user_instances and max_user_watches (sysctl)",
        _limits,
    ),
    Check(
        "names",
        "the name service knows the users",
        "Permissions name users, owners are looked up by UID; a name service that fails is a 503.",
        "look at /etc/nsswitch.conf, sssd or nslcd; the unit waits for nss-user-lookup.target",
        _names,
    ),
    Check(
        "events",
        "writes on this machine send events",
        "With events a request is noticed at once, without them by the next sweep.",
        'raise the inotify limits, or set watch = "sweep"',
        _events,
    ),
)
