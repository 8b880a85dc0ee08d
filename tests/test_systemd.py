"""systemd/: the files are accepted by systemd's own tools, and the unit is as confined as promised."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.daemon import PROJECT_ROOT, eventually, free_port

SYSTEMD = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "systemd")
UNIT = os.path.join(SYSTEMD, "gobblerd.service")
DROP_IN = os.path.join(SYSTEMD, "gobblerd.service.d", "capabilities.conf")
EXPOSURE_MOST = 1.5


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (NOT TESTED on this run)")
    return path


def ran(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def settings() -> list[tuple[str, str]]:
    with open(UNIT, encoding="utf-8") as file:
        return [(found[1], found[2]) for line in file if (found := re.match(r"(\w+)=(.*)", line))]


def exposure(unit: str) -> float:
    done = ran(tool("systemd-analyze"), "security", "--offline=true", unit)
    found = re.search(r"Overall exposure level for [^:]+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    return float(found[1])


def test_the_unit_is_confined() -> None:
    """`systemd-analyze security --offline=true` gives 1.5 or better."""
    assert exposure(UNIT) <= EXPOSURE_MOST


def test_the_measure_can_fail(tmp_path: Path) -> None:
    """The same unit without its sandbox scores worse, so that the test above means something."""
    bare = tmp_path / "gobblerd.service"
    with open(UNIT, encoding="utf-8") as file:
        bare.write_text("".join(line for line in file if not line.startswith(("Protect", "SystemCall"))))
    assert exposure(str(bare)) > EXPOSURE_MOST


def verify(unit: Path) -> str:
    done = ran(tool("systemd-analyze"), "verify", "--man=no", str(unit))
    return done.stderr + ("" if done.returncode == 0 else f"exit code {done.returncode}")


def installed(directory: Path, text: str) -> Path:
    """Write the unit as it would be installed here: its program is one that exists."""
    unit = directory / "gobblerd.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={sys.executable}", text, flags=re.MULTILINE))
    return unit


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """No unknown key, no wrong value."""
    with open(UNIT, encoding="utf-8") as file:
        text = file.read()
    assert verify(installed(tmp_path, text)) == ""
    assert "WatchdogSecs" in verify(installed(tmp_path, text.replace("WatchdogSec=", "WatchdogSecs=")))


def test_systemd_accepts_each_capability(tmp_path: Path) -> None:
    """The drop-in does nothing as shipped; with a comment sign off, it is as valid as the unit."""
    with open(UNIT, encoding="utf-8") as unit, open(DROP_IN, encoding="utf-8") as file:
        text, drop_in = unit.read(), file.read()
    assert not re.search(r"^\w+=", drop_in, flags=re.MULTILINE)
    uncommented = re.sub(r"^#(\w+=)", r"\1", drop_in, flags=re.MULTILINE)
    assert uncommented.count("AmbientCapabilities=") == 3
    assert verify(installed(tmp_path, f"{text}\n{uncommented}")) == ""


def test_what_the_daemon_relies_on() -> None:
    """The static user, the ready message, the reload by SIGHUP, the mounts, and what must stay writable."""
    found = dict(settings())
    assert found["Type"] == "notify"
    assert found["User"] == "gobblerd"
    assert {"DynamicUser", "PrivateUsers", "PrivateNetwork"}.isdisjoint(found)
    assert found["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert found["RequiresMountsFor"] == found["ReadWritePaths"]
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} == set(found["RestrictAddressFamilies"].split())
    assert "WatchdogSec" in found


def test_unit_and_example_configuration_name_the_same_places() -> None:
    """Who edits one finds the same paths in the other."""
    import tomllib

    with open(os.path.join(os.path.dirname(SYSTEMD), "config.example.toml"), "rb") as file:
        config = tomllib.load(file)
    assert dict(settings())["ReadWritePaths"].split() == [config["staging"], config["registry"]]


def test_systemd_accepts_the_service_account() -> None:
    """sysusers.d: a dry run makes the user."""
    done = ran(tool("systemd-sysusers"), "--dry-run", os.path.join(SYSTEMD, "gobblerd.sysusers.conf"))
    assert done.returncode == 0, done.stderr


def test_systemd_accepts_the_temporary_files(tmp_path: Path) -> None:
    """tmpfiles.d: /etc/gobblerd is made; staging and registry never are."""
    (tmp_path / "etc").mkdir()
    done = ran(
        tool("systemd-tmpfiles"),
        "--create",
        f"--root={tmp_path}",
        os.path.join(SYSTEMD, "gobblerd.tmpfiles.conf"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "etc" / "gobblerd").is_dir()
    assert not (tmp_path / "srv").exists()


# ---- the unit's command, with a service manager that is a socket of the test's


class Manager:
    """As much of systemd as a service of Type=notify sees: a socket, and what was told on it."""

    def __init__(self, directory: Path) -> None:
        self.address = str(directory / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self.told: list[dict[str, str]] = []

    def listen(self) -> list[dict[str, str]]:
        with contextlib.suppress(BlockingIOError):
            while True:
                message = self._socket.recv(65536).decode()
                self.told.append(dict(line.split("=", 1) for line in message.splitlines()))
        return self.told

    def wait_for(self, key: str, after: int = 0, count: int = 1) -> dict[str, str]:
        def found() -> list[dict[str, str]]:
            matching = [message for message in self.listen()[after:] if key in message]
            return matching[count - 1 :]

        message: dict[str, str] = eventually(found, f"the {count}. {key}")[0]
        return message

    def close(self) -> None:
        self._socket.close()


@contextlib.contextmanager
def started(
    directory: Path, manager: Manager, prefix: Sequence[str] = ()
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the unit's ExecStart on directories that `gobblerd init` made, under the unit's environment."""
    for name in ("staging", "registry"):
        (directory / name).mkdir()
    places = [str(directory / name) for name in ("staging", "registry")]
    command = [sys.executable, "-m", "gobblerd", "init", *places]
    subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True)
    config = directory / "config.toml"
    config.write_text(
        f'staging = "{places[0]}"\nregistry = "{places[1]}"\nport = {free_port()}\nrequire_marker = true\n'
    )
    unit = dict(settings())
    started_by = unit["ExecStart"].replace("/etc/gobblerd/config.toml", str(config)).split()
    watchdog = {"WATCHDOG_USEC": str(2_000_000)}  # the unit's minute is too long to wait for
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "gobblerd", *started_by[1:]],
            cwd=PROJECT_ROOT,
            env={**os.environ, "NOTIFY_SOCKET": manager.address, **watchdog},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(60)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path)
    yield found
    found.close()


def test_the_life_of_the_service_as_systemd_sees_it(tmp_path: Path, manager: Manager) -> None:
    """Ready once it serves; fed watchdog; a reload begins and ends; time is asked for to stop; exit code 0."""
    with started(tmp_path, manager) as process:
        assert "serving" in manager.wait_for("READY")["STATUS"]
        assert (tmp_path / "staging" / "responses" / ".status.json").exists()
        manager.wait_for("WATCHDOG", count=3)
        before = len(manager.listen())
        process.send_signal(signal.SIGHUP)
        began = manager.wait_for("RELOADING", before)
        assert 0 < int(began["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        manager.wait_for("READY", before)
        before = len(manager.listen())
        process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING", before)
        stop = int(dict(settings())["TimeoutStopSec"])
        assert (
            20_000_000
            < int(manager.wait_for("EXTEND_TIMEOUT_USEC", before)["EXTEND_TIMEOUT_USEC"])
            <= stop * 1_000_000
        )
        assert process.wait(60) == 0
    keys = [next(iter(message)) for message in manager.listen()]
    assert keys.index("READY") < keys.index("RELOADING") < keys.index("STOPPING")


def test_a_daemon_that_cannot_begin_never_says_that_it_is_ready(tmp_path: Path, manager: Manager) -> None:
    with started(tmp_path, manager) as process:
        manager.wait_for("READY")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    (tmp_path / "registry" / "..gobblerd").unlink()
    before = len(manager.listen())
    command = [sys.executable, "-m", "gobblerd", "serve", "--config", str(tmp_path / "config.toml")]
    environ = {**os.environ, "NOTIFY_SOCKET": manager.address}
    ran = subprocess.run(command, cwd=PROJECT_ROOT, env=environ, capture_output=True, text=True, check=False)
    assert ran.returncode == 1  # 2 would keep systemd from trying again, and the mount may come yet
    assert "marker" in ran.stderr
    assert not [message for message in manager.listen()[before:] if "READY" in message]


def allowed_calls() -> set[str]:
    """What the unit's SystemCallFilter lets through, by systemd's own groups."""
    done = ran(tool("systemd-analyze"), "syscall-filter", "--no-pager")
    groups: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("@"):
            members = groups.setdefault(line.strip(), set())
        elif line.startswith(" ") and not line.strip().startswith("#"):
            members.add(line.strip())

    def expanded(name: str) -> set[str]:
        return set().union(*(expanded(each) if each.startswith("@") else {each} for each in groups[name]))

    calls = expanded("@default")
    for key, value in settings():
        if key == "SystemCallFilter" and value.startswith("~"):
            for name in value[1:].split():
                calls -= expanded(name) - expanded("@default")
        elif key == "SystemCallFilter":
            calls |= set().union(*(expanded(name) for name in value.split()))
    return calls


def test_the_sandbox_lets_through_what_the_daemon_does(tmp_path: Path, manager: Manager) -> None:
    """Under strace: no system call that the filter refuses, and no memory that is writable and executable.

    The latter is what MemoryDenyWriteExecute refuses; extensions in C and threads need none of it.
    """
    trace = tmp_path / "trace"
    with started(tmp_path, manager, [tool("strace"), "-f", "-qq", "-o", str(trace)]) as process:
        manager.wait_for("READY")
        source = tmp_path / "staging" / "source"
        source.mkdir()
        (source / "file").write_bytes(b"x" * 300_000)
        (source / "link").symlink_to("file")
        names = ["create_project", "upload", "validate_version", "delete_project"]
        place = {"project": "p", "asset": "a", "version": "1"}
        for action in names:
            path = tmp_path / "staging" / f"request-{action}-1"
            path.with_name("tmp").write_text(json.dumps({**place, "source": "source"}))
            path.with_name("tmp").rename(path)
            response = tmp_path / "staging" / "responses" / path.name
            eventually(response.exists, f"the response to {path.name}", 300)
        child = next(iter(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(120) == 0
    text = trace.read_text(errors="replace")
    calls = set(re.findall(r"^\d+ +(\w+)\(", text, flags=re.MULTILINE))
    assert {"renameat2", "rename", "fsync"} & calls
    assert calls - allowed_calls() == {"execve"} - allowed_calls()
    executable = [line for line in text.splitlines() if "PROT_WRITE|PROT_EXEC" in line]
    executable += [line for line in text.splitlines() if "mprotect(" in line and "PROT_EXEC" in line]
    assert executable == []
