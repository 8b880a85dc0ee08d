"""`gobblerd audit --dask` on a real cluster: a scheduler and workers, each a process of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from support.corpus import Corpus, unpack
from support.daemon import PROJECT_ROOT, eventually
from support.places import open_directory

from gobblerd.cli.main import command

pytest.importorskip(
    "distributed",
    reason="dask.distributed is not installed: audits on a dask cluster (NOT TESTED on this run)",
)

OPTIONS = ["--no-dashboard", "--host", "127.0.0.1"]


class DaskCluster:
    """One scheduler and two workers."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._file = f"{base}/scheduler.json"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> "DaskCluster":
        self._spawn("dask_scheduler", "--port", "0")
        eventually(self._address, "dask's scheduler")
        self.workers = [self._spawn("dask_worker", "--no-nanny", "--nthreads", "1") for _ in range(2)]
        return self

    def _address(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError), open(self._file, encoding="utf-8") as file:
            return str(json.load(file)["address"])
        return ""

    @property
    def address(self) -> str:
        return self._address()

    def _spawn(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        line = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", self._file]
        with open(f"{self._base}/{program}.log", "ab") as log:
            self._processes.append(
                subprocess.Popen(
                    [*line, *OPTIONS, *arguments], cwd=PROJECT_ROOT, stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL,
                )
            )  # fmt: skip
        return self._processes[-1]

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with open_directory() as base:
        found = unpack(base)
        with open(f"{found.registry}/alpha/c/1/keep", "wb") as file:
            file.write(b"K\n")
        yield found


@pytest.fixture
def cluster() -> Iterator[DaskCluster]:
    with open_directory() as base:
        made = DaskCluster(base)
        try:
            yield made.start()
        finally:
            made.stop()


def begin(corpus: Corpus, address: str, out: str) -> subprocess.Popen[str]:
    terms = ["--whitelist", corpus.whitelisted, "--dask", address, "--out", out]
    line = [sys.executable, "-B", "-m", "gobblerd", "audit", corpus.registry, *terms]
    return subprocess.Popen(line, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True)


def expected(corpus: Corpus) -> tuple[str, str]:
    done = CliRunner().invoke(command, ["audit", corpus.registry, "--whitelist", corpus.whitelisted])
    return done.stdout, done.stderr.splitlines()[-1]


@pytest.mark.timeout(300)
def test_the_report_is_that_of_one_audit(corpus: Corpus, cluster: DaskCluster) -> None:
    """Byte for byte, with the same sum and the same exit code."""
    out = f"{os.path.dirname(corpus.registry)}/report"
    process = begin(corpus, cluster.address, out)
    _, said = process.communicate(timeout=240)
    report, summary = expected(corpus)
    with open(out, encoding="ascii") as file:
        assert file.read() == report
    assert process.returncode == 1
    assert said.splitlines()[-1] == summary


@pytest.mark.timeout(300)
@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_a_worker_that_dies(corpus: Corpus, cluster: DaskCluster, delay: float) -> None:
    """Its shares are begun again by another; whenever it dies, the report is the same."""
    out = f"{os.path.dirname(corpus.registry)}/report"
    process = begin(corpus, cluster.address, out)
    time.sleep(delay)
    cluster.workers[0].send_signal(signal.SIGKILL)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 1, said
    with open(out, encoding="ascii") as file:
        assert file.read() == expected(corpus)[0]


def test_no_scheduler_there(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, with the address."""
    monkeypatch.setattr("gobblerd.cli.audit_dask._PATIENCE", 1)
    done = CliRunner().invoke(command, ["audit", corpus.registry, "--dask", "tcp://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "no dask scheduler answers at tcp://127.0.0.1:1" in done.stderr


def test_without_dask_it_is_said_what_to_install(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = CliRunner().invoke(command, ["audit", corpus.registry, "--dask", "tcp://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "pip install 'gobblerd[dask]'" in done.stderr
