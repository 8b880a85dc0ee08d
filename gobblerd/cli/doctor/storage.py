"""Checks of the filesystem under staging and registry: renames, links, syncs, locks, space, clock, marker."""

import errno
import fcntl
import json
import os
import secrets
import time

from gobblerd.cli.doctor.findings import Check, Found, fail, ok, skipped, warn
from gobblerd.cli.doctor.site import Site
from gobblerd.domain.errors import Fault
from gobblerd.registry import layout
from gobblerd.registry.probe import RenameProbe
from gobblerd.registry.transaction import make_transactions
from gobblerd.staging.mounts import Filesystem, filesystem_of
from gobblerd.storage.clock import FileClock
from gobblerd.storage.files import Durability, opened, read_all, sync_directory, write_file

_MARKER_MOST = 4096
_SLOW_SYNC = 1.0  # seconds
_LITTLE, _TOO_LITTLE = 0.10, 0.01  # parts of a filesystem
_TOO_FEW_BYTES = 100_000_000
_SKEW_WARN, _SKEW_FAIL = 2.0, 60.0  # seconds
# Mount options that keep flock on this node: nfs(5); Lustre's mount options.
_NODE_LOCAL = {"localflock", "nolock", "local_lock=all", "local_lock=flock"}


def _marker(site: Site) -> Found:
    path = layout.join(site.registry, layout.MARKER)
    try:
        with opened(path, os.O_RDONLY | os.O_CLOEXEC) as fd:
            marker = json.loads(read_all(fd, _MARKER_MOST))
        identity = marker["id"] if marker["format"] == layout.MARKER_FORMAT else None
    except FileNotFoundError:
        text = f"{path} is not there: is the registry's filesystem mounted?"
        return fail(text) if site.require_marker or not site.configured else warn(text)
    except (ValueError, KeyError, TypeError):
        identity = None
    if identity is None:
        return fail(f"{path} is not a marker that this gobblerd knows")
    if site.configured and not site.require_marker:
        return warn(
            "the marker is there, but the configuration does not require it", "set require_marker = true"
        )
    return ok(f"registry {identity}")


def _renames(site: Site) -> Found:
    for scratch in (site.registry_scratch, site.staging_scratch):
        with scratch() as directory:
            old, new = os.path.join(directory, "old"), os.path.join(directory, "new")
            write_file(old, b"1", Durability.PROCESS)
            write_file(new, b"2", Durability.PROCESS)
            inode = os.stat(old).st_ino
            os.rename(old, new)
            if os.path.exists(old) or os.stat(new).st_ino != inode:
                return fail(f"in {directory}, a renamed file is not what it was, or still there as before")
    return ok("a rename replaces, and the file keeps its inode")


def _links(site: Site) -> Found:
    with site.staging_scratch() as directory:
        first, second = os.path.join(directory, "first"), os.path.join(directory, "second")
        write_file(first, b"1", Durability.PROCESS)
        os.link(first, second)
        one, two = os.stat(first), os.stat(second)
        if one.st_ino != two.st_ino or two.st_nlink != 2:  # noqa: PLR2004 - itself and the link
            return fail(
                f"a hard link in {directory} does not count as one: requests with several names would pass"
            )
    return ok("hard links are counted")


def _syncs(site: Site) -> Found:
    slowest = 0.0
    for scratch in (site.registry_scratch, site.staging_scratch):
        with scratch() as directory:
            began = time.monotonic()
            write_file(os.path.join(directory, "synced"), b"1", Durability.FULL)
            sync_directory(directory)
            slowest = max(slowest, time.monotonic() - began)
    if slowest > _SLOW_SYNC:
        return warn(
            f"making one small file durable takes {slowest:.1f} s: so long does every request take at least"
        )
    return ok(f"files and directories are synced, in {1000 * slowest:.0f} ms")


def _projects(site: Site) -> Found:
    make_transactions(site.registry)
    # A name of its own: the daemon, and the doctor of another node, may probe at the same time.
    probe = RenameProbe(site.registry, f"doctor-{secrets.token_hex(8)}")
    projects = site.metadata.projects()
    for project in ("", *(each.project for each in projects)):
        try:
            probe.check(project)
        except Fault as error:
            crossing = isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EXDEV
            where = layout.join(site.registry, project)
            why = "it is another filesystem, quota or fileset" if crossing else str(error.__cause__)
            return fail(f"nothing can be renamed from {layout.TRANSACTIONS} into {where}: {why}")
    return ok(f"renames reach all {len(projects)} projects")


def _locks(site: Site) -> Found:
    with site.registry_scratch() as directory:
        path = os.path.join(directory, "lock")
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        with opened(path, flags) as one, opened(path, flags) as two:
            try:
                fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                return fail(f"flock does not work here: {error.strerror}. No daemon can serve this registry")
            try:
                fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return _reach(filesystem_of(site.registry))
    return fail("two holders have the same exclusive lock: no two requests may run at once here")


def _reach(filesystem: Filesystem) -> Found:
    """Judge how far locks reach by the mount's options; only --peer knows for sure."""
    if filesystem.is_local:
        return ok(f"flock excludes; {filesystem.type} is local to this machine, and so must all daemons be")
    local = sorted(_NODE_LOCAL & filesystem.options)
    if local:
        return warn(
            f"flock excludes on this node only ({filesystem.type}, mounted with {local[0]}): "
            "only one daemon may serve this registry"
        )
    return ok(f"flock excludes on this node; across nodes, only --peer can tell ({filesystem.type})")


def _clock(site: Site) -> Found:
    skews = {}
    for what, scratch in (("staging", site.staging_scratch), ("registry", site.registry_scratch)):
        with scratch() as directory:
            skews[what] = FileClock(os.path.join(directory, "clock")).now() / 1e9 - time.time()
    worst = max(skews, key=lambda what: abs(skews[what]))
    skew = abs(skews[worst])
    text = f"the clock of {worst}'s file server and this machine's differ by {skew:.1f} s"
    if skew > _SKEW_FAIL:
        return fail(text)
    return warn(text) if skew > _SKEW_WARN else ok(text)


def _space(site: Site) -> Found:
    verdicts = [_room(what, path) for what, path in (("staging", site.staging), ("registry", site.registry))]
    worst = [found for found in verdicts if found.result != "ok"]
    severe = [found for found in worst if found.result == "fail"]
    return (severe or worst or [ok("; ".join(found.text for found in verdicts))])[0]


def _room(what: str, path: str) -> Found:
    info = os.statvfs(path)
    if not info.f_blocks:
        return skipped(f"the filesystem of {what} does not tell its size")
    free, part = info.f_bavail * info.f_frsize, info.f_bavail / info.f_blocks
    text = f"{what}: {free / 1e9:.1f} GB ({100 * part:.0f} %) free"
    if part < _TOO_LITTLE or free < min(_TOO_FEW_BYTES, _LITTLE * info.f_blocks * info.f_frsize):
        return fail(text)
    inodes = info.f_favail / info.f_files if info.f_files else 1.0
    if inodes < _LITTLE:
        text = f"{what}: {info.f_favail} inodes ({100 * inodes:.0f} %) free"
        return fail(text) if inodes < _TOO_LITTLE else warn(text)
    return warn(text) if part < _LITTLE else ok(text)


CHECKS: tuple[Check[Site], ...] = (
    Check(
        "marker",
        "the registry bears its marker",
        "An unmounted mount point looks like an empty registry; the marker tells them apart.",
        "mount the filesystem; for a registry without marker, run `gobblerd init --adopt`",
        _marker,
    ),
    Check(
        "rename",
        "renames are atomic and keep the inode",
        "Every change of the registry is a rename.",
        "use another filesystem for staging and registry",
        _renames,
    ),
    Check(
        "link",
        "hard links are counted",
        "A request file with two names is refused, since the second could name another action.",
        "use another filesystem for staging (BeeGFS: sysCreateHardlinksAsSymlinks = false)",
        _links,
    ),
    Check(
        "fsync",
        "files and directories can be made durable",
        'With durability = "full" an answer is only given once the change would survive a power cut.',
        "look at the file server's sync settings and load",
        _syncs,
    ),
    Check(
        "projects",
        "renames reach every project",
        "A version is staged in ..transactions and renamed into its project, which quotas or mounts forbid.",
        "give the registry one quota project or fileset, and mount nothing inside it",
        _projects,
    ),
    Check(
        "locks",
        "flock excludes",
        "Requests on one place exclude each other by flock, within a daemon and between daemons.",
        "mount with cluster-wide locks (docs/filesystems.md), or serve the registry with one daemon only",
        _locks,
    ),
    Check(
        "clock",
        "this machine's clock and the file server's agree",
        "Ages and expiries go by the file server's clock, schedules and logs by this machine's.",
        "let chrony or ntpd set both clocks",
        _clock,
    ),
    Check(
        "space",
        "there is room",
        "A full filesystem fails uploads, and with staging full no request can be dropped or answered.",
        "free space or inodes, or enlarge the filesystem; see the purge_... settings",
        _space,
    ),
)
