"""systemd/: the files are accepted by systemd's own tools, and the unit is as confined as promised."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
