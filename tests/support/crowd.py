"""A daemon under an account of its own, many requests at once, and what its log says of them.

`ServiceDaemon` runs as the system account `gbl-service`, on directories that `gobblerd init --owner` made;
a limb short of that (no root, no Python that the account may run) the test is skipped and says so.
`counts` gives a test its normal and its full count; GOBBLERD_SCALE multiplies the full ones.
Limits: Linux, `/proc`, root.
"""

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from support.daemon import PROJECT_ROOT, RunningDaemon, eventually
from support.places import User, as_user, ids_of, request_name

SERVICE = "gbl-service"
LINE = re.compile(r"<[0-7]>(\{.*\})")
FIRST_KEYS = ("time", "level", "event")
LONG_PATIENCE = 900.0  # seconds for what 20,000 requests take on a machine that does other things too


def counts(normal: int, full: int) -> list[Any]:
    """Return a test's counts as parameters: `normal` for every run, `full` for `-m long`."""
    scaled = max(normal, round(full * float(os.environ.get("GOBBLERD_SCALE", "1"))))
    return [normal, pytest.param(scaled, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]


def not_tested(reason: str) -> None:
    """Skip the test with a message that can be counted."""
    pytest.skip(f"NOT TESTED: {reason}")


def libfaketime() -> str:
    """Return the library that lies about the time of day, to be preloaded; or skip.

    Debian's `faketime` around it refuses to run where a killed one of the same process number left its semaphore.
    """
    found = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
    if not found:
        not_tested("libfaketime (Debian: faketime) is not installed: wrong clocks")
    return found[0]


# ---- the service account


def ensure_service_account() -> None:
    """Make the system account that the daemon runs as, if it is not there."""
    if os.geteuid() != 0:
        not_tested("needs root, for a service account and for other users' requests")
    with contextlib.suppress(KeyError):
        pwd.getpwnam(SERVICE)
        return
    useradd = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if useradd is None:
        not_tested("useradd is not installed")
    options = ["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    subprocess.run([str(useradd), *options, SERVICE], check=True, stdin=subprocess.DEVNULL)


def service_python() -> list[str]:
    """Return the beginning of a command line that runs this environment's Python as the service account."""
    return [*as_user(SERVICE), *python_for(SERVICE)]


def python_for(account: User) -> list[str]:
    """Return the beginning of a command line that runs a Python with this environment, one that `account` may run.

    The environment's own may lie in root's home.
    """
    paths = os.pathsep.join(
        [PROJECT_ROOT, *dict.fromkeys(sysconfig.get_paths()[k] for k in ("purelib", "platlib"))]
    )
    for candidate in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        command = ["env", f"PYTHONPATH={paths}", "PYTHONDONTWRITEBYTECODE=1", candidate]
        needed = "import gobblerd.service.daemon, pydantic_core, aiohttp, msgspec, xxhash, zstandard"
        probe = subprocess.run(
            [*as_user(account), *command, "-c", needed],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if probe.returncode == 0:
            return command
    not_tested(f"no Python with gobblerd's dependencies that {account} could run")
    raise AssertionError


class ServiceDaemon(RunningDaemon):
    """A daemon that is nobody special: its own account, its own directories, the marker required."""

    def __init__(self, base: str, **settings: Any) -> None:
        """Make the account and, with `gobblerd init --owner`, the directories."""
        ensure_service_account()
        self._python = service_python()
        staging, registry = os.path.join(base, "staging"), os.path.join(base, "registry")
        if not os.path.exists(registry):
            init = [sys.executable, "-m", "gobblerd", "init", staging, registry, "--owner", SERVICE]
            subprocess.run(init, check=True, cwd=PROJECT_ROOT, capture_output=True)
        settings["settings"] = {"require_marker": True, **settings.get("settings", {})}
        super().__init__(base, staging=staging, registry=registry, **settings)

    def command(self) -> list[str]:
        """Return the command line, with the account's identity in front."""
        return [*self._python, *super().command()[1:]]


class PrefixedDaemon(RunningDaemon):
    """A daemon whose command line has something in front: `env` and a library that lies about the time."""

    def __init__(self, base: str, prefix: Sequence[str], **settings: Any) -> None:
        """Take the beginning of the command line, and RunningDaemon's settings."""
        super().__init__(base, **settings)
        self._prefix = list(prefix)

    def command(self) -> list[str]:
        """Return the command line."""
        return [*self._prefix, *super().command()]


@contextlib.contextmanager
def showing_log(daemon: RunningDaemon) -> Iterator[RunningDaemon]:
    """Start a daemon for the block; end it well, or show the end of its log."""
    try:
        yield daemon.start()
        daemon.finish()
    except BaseException:
        sys.stderr.write(daemon.logged()[-6000:])
        daemon.kill()
        daemon.require_no_process()
        raise


# ---- the log


def events_of(daemon: RunningDaemon) -> list[dict[str, Any]]:
    """Return every event of the log; fails if a line is anything but one event as JSON."""
    found = []
    for line in daemon.logged().split("\n")[:-1]:
        match = LINE.fullmatch(line)
        assert match, f"this line of the log is no event: {line!r}"
        event = json.loads(match[1])
        assert tuple(event)[: len(FIRST_KEYS)] == FIRST_KEYS, line
        found.append(event)
    return found


def answered(daemon: RunningDaemon) -> list[dict[str, Any]]:
    """Return the events of executed requests, in order; a line that a kill cut off is passed over."""
    found = []
    for line in daemon.logged().splitlines():
        match = LINE.fullmatch(line)
        if match and (event := json.loads(match[1]))["event"] == "answered":
            found.append(event)
    return found


def executions(daemon: RunningDaemon) -> Counter[str]:
    """Count how often each request was executed to an answer."""
    return Counter(event["request"] for event in answered(daemon))


# ---- the crowd


def drop_many(
    staging: str, action: str, documents: Iterable[Mapping[str, Any]], user: User, *, mark: str = ""
) -> list[str]:
    """Drop one request per document, as fast as one process can; return their names in order."""
    names = []
    uid, gid = ids_of(user)
    for number, document in enumerate(documents):
        name = f"{request_name(action)}-{mark}{number}"
        temporary = os.path.join(staging, f"tmp-{name}")
        with open(temporary, "wb") as file:
            file.write(json.dumps(document).encode())
            os.fchmod(file.fileno(), 0o644)
            os.fchown(file.fileno(), uid, gid)
        os.rename(temporary, os.path.join(staging, name))
        names.append(name)
    return names


def wait_for_all(daemon: RunningDaemon, names: Sequence[str], patience: float = LONG_PATIENCE) -> None:
    """Wait until every request has its response file."""
    responses = os.path.join(daemon.staging, "responses")
    missing = set(names)

    def none_missing() -> bool:
        missing.difference_update(os.listdir(responses))
        return not missing

    try:
        eventually(none_missing, f"{len(names)} responses", patience)
    except AssertionError as error:
        raise AssertionError(f"{error}; {len(missing)} are missing, such as {sorted(missing)[:3]}") from None


def codes_of(daemon: RunningDaemon, names: Iterable[str]) -> Counter[int]:
    """Count the codes of recorded responses, and see that each file is about its own request."""
    found: Counter[int] = Counter()
    for name in names:
        body = daemon.wait(name, 0).body
        assert body["request"] == name
        found[body["code"]] += 1
    return found


# ---- the process


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a process holds: descriptors, threads, resident bytes now and at most."""

    descriptors: int
    threads: int
    resident: int
    peak: int


def vitals_of(pid: int) -> Vitals:
    """Look at a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        status = dict(line.split(":", 1) for line in file.read().splitlines())
    kilobytes = {key: int(status[key].split()[0]) for key in ("VmRSS", "VmHWM")}
    return Vitals(
        len(os.listdir(f"/proc/{pid}/fd")),
        int(status["Threads"]),
        kilobytes["VmRSS"] << 10,
        kilobytes["VmHWM"] << 10,
    )


# ---- what is in the way: mounts


@contextlib.contextmanager
def bound(source: str, target: str) -> Iterator[None]:
    """Bind-mount `source` on `target` for the length of the block, however it ends."""
    made = subprocess.run(["mount", "--bind", source, target], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        not_tested(f"nothing can be mounted here ({made.stderr.strip()})")
    try:
        yield
    finally:
        detach(target)


def detach(target: str) -> None:
    """Unmount whatever is mounted there, also while it is in use."""
    while is_mounted(target):
        subprocess.run(["umount", "--lazy", target], check=True)


def is_mounted(path: str) -> bool:
    """Tell whether something is mounted there; os.path.ismount does not see bind mounts."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return any(line.split(" ")[4] == os.path.realpath(path) for line in file)
