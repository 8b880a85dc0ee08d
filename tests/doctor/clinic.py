"""A deployment to be examined: two directories made by `gobblerd init` for an account of their own, and the doctor."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from support.crowd import python_for
from support.daemon import PROJECT_ROOT
from support.places import Users, ids_of

WAIT = 100  # seconds that a doctor waits for the other at each step
PATIENCE = 600  # seconds
ACCOUNT = "gbl-carol"
STRANGER = "gbl-alice"


class Line(NamedTuple):
    result: str
    found: str
    mend: str


@dataclass(frozen=True)
class Report:
    """What a doctor said, by the check's name."""

    code: int
    lines: Mapping[str, Line]
    complaint: str

    def __getitem__(self, name: str) -> Line:
        return self.lines[name]

    @property
    def troubled(self) -> set[str]:
        return {name for name, line in self.lines.items() if line.result in {"warn", "fail"}}


@dataclass(frozen=True)
class Clinic:
    base: str
    users: Users

    @property
    def staging(self) -> str:
        return os.path.join(self.base, "staging")

    @property
    def registry(self) -> str:
        return os.path.join(self.base, "registry")

    def initialise(self) -> "Clinic":
        command = ["init", self.staging, self.registry, "--owner", ACCOUNT]
        subprocess.run(
            [sys.executable, "-m", "gobblerd", *command], check=True, cwd=PROJECT_ROOT, capture_output=True
        )
        return self

    def project(self, name: str) -> str:
        path = os.path.join(self.registry, name)
        os.mkdir(path, 0o755)
        os.chown(path, *ids_of(ACCOUNT))
        return path

    def command(
        self, *options: str, base: str = "", prefix: Sequence[str] = (), python: Sequence[str] = ()
    ) -> list[str]:
        base = base or self.base
        places = (
            [] if "--config" in options else [os.path.join(base, "staging"), os.path.join(base, "registry")]
        )
        doctor = ["-m", "gobblerd", "doctor", "--json", "--user", STRANGER]
        return [*prefix, *(python or python_for(ACCOUNT)), *doctor, *places, *options]

    def start(
        self,
        *options: str,
        base: str = "",
        prefix: Sequence[str] = (),
        python: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*options, base=base, prefix=prefix, python=python),
            cwd=PROJECT_ROOT,
            env={**os.environ, **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def examine(self, *options: str, **how: Any) -> Report:
        return report_of(self.start(*options, **how))

    def examine_twice(self, second: str, *options: str, **how_second: Any) -> tuple[Report, Report]:
        """Run two doctors that meet, the second under another base."""
        both = ("--peer", "--wait", str(WAIT), *options)
        first = self.start(*both)
        other = self.start(*both, base=second, **how_second)
        return report_of(first), report_of(other)

    def config(self, **settings: Any) -> str:
        every = {"staging": self.staging, "registry": self.registry, **settings}
        path = os.path.join(self.base, "config.toml")
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{key} = {json.dumps(value)}\n" for key, value in every.items()))
        return path


def report_of(doctor: "subprocess.Popen[str]") -> Report:
    out, complaint = doctor.communicate(timeout=PATIENCE)
    lines = json.loads(out) if out else []
    for line in lines:
        assert all(line[key] for key in ("name", "what", "result", "found", "why", "mend")), line
    return Report(
        doctor.returncode,
        {line["name"]: Line(line["result"], line["found"], line["mend"]) for line in lines},
        complaint,
    )


def injecting(*faults: str) -> list[str]:
    """Return the beginning of a command line whose system calls fail so (strace's `inject`)."""
    need("strace")
    calls = ",".join(fault.partition(":")[0] for fault in faults)
    injected = [word for fault in faults for word in ("-e", f"inject={fault}")]
    return ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", *injected]


def replacing(path: str, by: str) -> list[str]:
    """Return the beginning of a command line that sees another file at `path` (a mount of its own)."""
    need("unshare")
    script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, "sh", by, path]


def need(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (NOT TESTED on this run)")
    return path


@contextmanager
def mounted(kind: str, path: str, *options: str) -> Iterator[None]:
    """Mount a filesystem that is made in memory; skips where nothing can be mounted."""
    made = subprocess.run(
        ["mount", "-t", kind, *options, kind, path], check=False, capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {made.stderr.strip()} (NOT TESTED on this run)")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def other_node(base: str, *options: str) -> Iterator[str]:
    """Show the tree at a second place, through a filesystem in user space, as another node would see it."""
    need("bindfs")
    point = f"{base}-node"
    os.mkdir(point)
    made = subprocess.run(["bindfs", *options, base, point], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        os.rmdir(point)
        pytest.skip(f"bindfs cannot mount here: {made.stderr.strip()} (NOT TESTED on this run)")
    try:
        yield point
    finally:
        subprocess.run(["umount", "--lazy", point], check=True)
        os.rmdir(point)
