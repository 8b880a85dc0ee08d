"""docs/install.md, word for word: from nothing to a monitored service with two users who upload.

The commands are taken from between their markers and run under a temporary prefix; what is replaced is named in
`translated`. systemd is not there to start the unit: its ExecStart is run as its User, with a socket to notify.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.crowd import SERVICE, ensure_service_account, not_tested
from support.daemon import PROJECT_ROOT, eventually, free_port
from support.places import Users, open_directory

PYTHON = "/usr/bin/python3"  # what the guide's `python3` is on Debian; users must be able to run it too
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def commands(marker: str) -> str:
    with open(os.path.join(PROJECT_ROOT, "docs", "install.md"), encoding="utf-8") as file:
        text = file.read().partition(f"<!-- {marker}: begin -->")[2].partition(f"<!-- {marker}: end -->")[0]
    found = re.search(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    assert found, f"no commands between the markers of {marker}"
    return found[1]


@dataclass(frozen=True)
class Machine:
    """A prefix that stands for a machine's root, with a checkout in it."""

    root: str
    port: int
    users: Users

    def translated(self, text: str) -> str:
        for place in ("/opt/gobblerd", "/srv/gobblerd", "/etc/gobblerd", "/etc/systemd/system"):
            text = text.replace(place, f"{self.root}{place}")
        text = re.sub(r"(--owner|nologin|-u) gobblerd\b", rf"\1 {SERVICE}", text)
        text = re.sub(r"^(User|Group)=gobblerd$", rf"\1={SERVICE}", text, flags=re.MULTILINE)
        text = re.sub(r"\balice\b", self.users.alice, text)
        text = re.sub(r"\bbob\b", self.users.bob, text)
        return text.replace("8080", str(self.port))

    def run(self, text: str) -> str:
        environ = {"PATH": PATH, "HOME": self.root, "LANG": "C.UTF-8", **proxies()}
        ran = subprocess.run(
            ["bash", "-euxo", "pipefail", "-c", self.translated(text)],
            cwd=f"{self.root}/checkout",
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout + ran.stderr


def proxies() -> dict[str, str]:
    """What pip needs to find packages here."""
    return {
        key: value
        for key, value in os.environ.items()
        if key.lower().startswith(("pip_", "http", "no_proxy", "ssl_"))
    }


@pytest.fixture
def machine(users: Users) -> Iterator[Machine]:
    if subprocess.run(
        [PYTHON, "-c", "import ensurepip, tomllib"], check=False, capture_output=True
    ).returncode:
        not_tested(f"{PYTHON} is missing, too old or without venv")
    for program in ("runuser", "setfacl", "curl", "sed"):
        if shutil.which(program) is None:
            not_tested(f"{program} is not installed: the installation guide")
    ensure_service_account()
    with open_directory() as root:
        found = Machine(root, free_port(), users)
        shutil.copytree(
            PROJECT_ROOT,
            f"{root}/checkout",
            ignore=shutil.ignore_patterns(".*", "build", "tests", "*.egg-info", "__pycache__"),
        )
        for name in ("config.example.toml", "systemd/gobblerd.service"):
            path = Path(root, "checkout", name)
            path.write_text(found.translated(path.read_text(encoding="utf-8")), encoding="utf-8")
        config = Path(root, "checkout", "config.example.toml")
        config.write_text(config.read_text().replace(f"#port = {found.port}", f"port = {found.port}"))
        Path(root, "etc/systemd/system").mkdir(parents=True)
        yield found


def install(machine: Machine) -> str:
    """Run the ten commands, but for what needs a fresh Debian or systemd."""
    text = commands("install")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 10
    assert lines[0].startswith("apt-get install")
    assert lines[3].startswith("useradd --system")
    assert lines[9].endswith("&& systemctl daemon-reload && systemctl enable --now gobblerd")
    lines[9] = lines[9].partition(" && ")[0]
    return machine.run("\n".join(line for number, line in enumerate(lines) if number not in {0, 3}))


@contextlib.contextmanager
def service(machine: Machine) -> Iterator[None]:
    """Be as much of systemd as the unit needs: its user, its command, its socket."""
    unit = Path(machine.root, "etc/systemd/system/gobblerd.service").read_text(encoding="utf-8")
    setting = dict(re.findall(r"^(\w+)=(.+)$", unit, flags=re.MULTILINE))
    address = f"{machine.root}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        os.chmod(address, 0o666)
        manager.settimeout(120)
        with open(f"{machine.root}/journal", "wb") as journal:
            process = subprocess.Popen(
                ["runuser", "-u", setting["User"], "--", *setting["ExecStart"].split()],
                env={"PATH": PATH, "NOTIFY_SOCKET": address},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=journal,
                stderr=journal,
            )
        try:
            while b"READY=1" not in manager.recv(4096):  # the watchdog is fed before
                assert process.poll() is None, Path(machine.root, "journal").read_text(encoding="utf-8")
            yield
        finally:
            process.terminate()
            assert process.wait(120) in {0, 143, -15}


def test_from_nothing_to_two_users_who_upload(machine: Machine) -> None:
    said = install(machine)
    assert "0 fail" in said
    with service(machine):
        checked = machine.run(commands("check"))
        assert "is serving" in checked
        assert '"SUCCESS"' in checked
        done = machine.run(commands("users"))
        assert f"{machine.root}/srv/gobblerd/registry/weather/texts/2" in done
        assert "0 findings" in done
        metrics = f"curl --silent http://localhost:{machine.port}/metrics"
        eventually(
            lambda: (
                'gobblerd_requests_total{action="upload",code="200",outcome="success"} 2.0'
                in machine.run(metrics)
            ),
            "both uploads to be counted",
        )
    assert "Traceback" not in Path(machine.root, "journal").read_text(encoding="utf-8")
