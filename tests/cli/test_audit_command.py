"""gobblerd.cli.audit: lines of findings, a summary, an exit code; and no trace of it in the registry."""

import contextlib
import json
import os
import pty
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import pytest
from click.testing import CliRunner
from support.archives import leave_abandoned
from support.corpus import Corpus, unpack
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, address, eventually
from support.places import Users, as_user, open_directory

from gobblerd.cli.audit import _output
from gobblerd.cli.main import command
from gobblerd.registry.audit import Audit, units
from gobblerd.registry.audit_findings import Finding, Kind

SOUND = "3 projects, 13 versions, 31 files, 110 bytes: 0 findings, 1 notices"
KEEP = "alpha/c/1/keep"


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with open_directory() as base:
        yield unpack(base)


class Ran:
    """What one run of the command gave."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        assert "Traceback" not in errors, errors
        self.code = code
        self.findings = [json.loads(line) for line in output.splitlines()]
        self.said = errors.splitlines()

    @property
    def paths(self) -> list[str]:
        return [finding["path"] for finding in self.findings if finding["severity"] == "fault"]


def gobblerd(*arguments: str, prefix: Sequence[str] = ()) -> Ran:
    """Run the command: in this process, or in one of its own as somebody else."""
    if not prefix:
        result = CliRunner().invoke(command, ["audit", *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return Ran(result.exit_code, result.stdout, result.stderr)
    line = [*prefix, sys.executable, "-B", "-m", "gobblerd", "audit", *arguments]
    done = subprocess.run(line, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False, timeout=100)
    return Ran(done.returncode, done.stdout, done.stderr)


def damage(corpus: Corpus) -> None:
    with open(f"{corpus.registry}/{KEEP}", "wb") as file:
        file.write(b"K\n")


def whitelist(corpus: Corpus) -> tuple[str, str]:
    return "--whitelist", corpus.whitelisted


# ---- what it says


def test_a_sound_registry(corpus: Corpus) -> None:
    """Exit code 0: a notice is listed, but is no finding."""
    ran = gobblerd(corpus.registry, *whitelist(corpus))
    assert (ran.code, ran.said) == (0, [SOUND])
    assert [finding["severity"] for finding in ran.findings] == ["notice"]


def test_a_damaged_registry(corpus: Corpus) -> None:
    """Exit code 1, and each finding a JSON object on a line."""
    damage(corpus)
    ran = gobblerd(corpus.registry, *whitelist(corpus))
    assert ran.code == 1
    assert ran.findings[0] == {
        "place": "alpha/c/1",
        "path": KEEP,
        "severity": "fault",
        "kind": "wrong MD5 checksum",
        "expected": "ccc87e7257869ad33a6a0bd9e28a4ae4",
        "found": "46028609922581afcfc377a820ab5684",
    }
    assert ran.said == [SOUND.replace("0 findings", "1 findings")]


def test_the_whitelist(corpus: Corpus) -> None:
    """Links out of the registry are wrong unless their directory is named; several may be."""
    assert gobblerd(corpus.registry).paths == ["alpha/b/1/w"]
    ran = gobblerd(corpus.registry, "--whitelist", "/no/such", "--whitelist", f"{corpus.whitelisted}/")
    assert (ran.code, ran.paths) == (0, [])


def test_a_part(corpus: Corpus) -> None:
    """Only the projects that are named."""
    damage(corpus)
    assert gobblerd(corpus.registry, "--project", "beta", "--project", "open").code == 0
    assert gobblerd(corpus.registry, "--project", "alpha", *whitelist(corpus)).paths == [KEEP]


def test_fast(corpus: Corpus) -> None:
    """The summary says that bytes were not read."""
    damage(corpus)
    ran = gobblerd(corpus.registry, "--fast", *whitelist(corpus))
    assert (ran.code, ran.said) == (0, [SOUND.replace("bytes:", "bytes (not read):")])


def test_names_cannot_steer_a_terminal(corpus: Corpus) -> None:
    """Whatever a file is called, a finding is one line of ASCII."""
    os.mkdir(os.fsencode(f"{corpus.registry}/alpha/c/1/") + b"\x1b[31m\n\xff\xc2\x85")
    (finding,) = [
        f for f in gobblerd(corpus.registry, *whitelist(corpus)).findings if f["severity"] == "fault"
    ]
    assert finding["path"] == "alpha/c/1/\x1b[31m\n\\udcff\x85"


# ---- where it says it


def test_into_a_file(corpus: Corpus) -> None:
    """Complete or not at all; standard output stays empty; what was there is replaced."""
    damage(corpus)
    out = f"{corpus.registry}/../report.jsonl"
    for _ in range(2):
        ran = gobblerd(corpus.registry, *whitelist(corpus), "--out", out)
        assert (ran.code, ran.findings, len(ran.said)) == (1, [], 1)
        with open(out, encoding="utf-8") as file:
            assert [json.loads(line)["path"] for line in file] == [KEEP, "open/mine/..permissions"]
    assert sorted(os.listdir(os.path.dirname(corpus.registry))) == ["corpus", "report.jsonl", "whitelisted"]


def test_into_a_file_that_cannot_be(corpus: Corpus) -> None:
    """Exit code 2 for a directory that is not there, and for one within the registry, which stays untouched."""
    before = sorted(os.listdir(corpus.registry))
    for out in (f"{corpus.whitelisted}/no/report", f"{corpus.registry}/report", f"{corpus.registry}/alpha"):
        ran = gobblerd(corpus.registry, "--out", out)
        assert (ran.code, len(ran.said)) == (2, 1), ran.said
    assert sorted(os.listdir(corpus.registry)) == before


def test_two_reports_of_one_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of two containers, in which every process has the same number: neither takes the other's for its own.

    What was left by one that was killed is cleared away.
    """
    monkeypatch.setattr(os, "getpid", lambda: 7)
    leave_abandoned(tmp_path)
    out = str(tmp_path / "report")
    with _output(None, out) as one:
        one.write("one\n")
        with _output(None, out) as other:
            other.write("other\n")
        assert (tmp_path / "report").read_text() == "other\n"
    assert os.listdir(tmp_path) == ["report"]
    assert (tmp_path / "report").read_text() == "one\n"


def test_usage_errors(corpus: Corpus, tmp_path: os.PathLike[str]) -> None:
    """Exit code 2: nothing that could be taken for a sound registry, above all no unmounted one."""
    for arguments, said in (
        ([], "Missing argument 'REGISTRY'"),
        ([corpus.registry, "--no-such"], "No such option"),
        (["/no/such"], "the registry /no/such is not there"),
        ([f"{corpus.registry}/{KEEP}"], "is not there"),
        ([os.fspath(tmp_path)], "is empty: no registry is there"),
        ([corpus.registry, "--project", "gamma\n"], 'there is no project "gamma\\n" in the registry'),
    ):
        ran = gobblerd(*arguments)
        assert ran.code == 2, (arguments, ran.said)
        assert any(said in line for line in ran.said), ran.said
        assert ran.findings == []


def test_a_bar_for_people_only(corpus: Corpus) -> None:
    """On a terminal, on standard error; the last line is the summary there, too."""
    main, terminal = pty.openpty()
    line = [sys.executable, "-m", "gobblerd", "audit", corpus.registry, *whitelist(corpus)]
    done = subprocess.run(line, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, stderr=terminal, check=False)
    os.close(terminal)
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(main, 65536):
            shown += part
    os.close(main)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1
    assert b"audit " in shown
    assert b"\x1b[" in shown
    assert shown.endswith(f"{SOUND}\r\n".encode())


# ---- what it needs


def everything(root: str) -> dict[str, tuple[int, ...]]:
    found = {}
    for directory, _, names in os.walk(root):
        for path in (directory, *(os.path.join(directory, name) for name in names)):
            status = os.lstat(path)
            found[path] = (
                status.st_ino,
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
            )
    return found


def test_another_user_may_audit(corpus: Corpus, users: Users) -> None:
    """The registry is readable to all; what only its owner may read is said, and is no fault."""
    os.makedirs(f"{corpus.registry}/..transactions/committed")
    os.chmod(f"{corpus.registry}/..transactions", 0o700)
    os.chmod(f"{corpus.registry}/..LOCK", 0o600)
    before = everything(corpus.registry)
    ran = gobblerd(corpus.registry, *whitelist(corpus), prefix=as_user(users.alice))
    assert (ran.code, ran.paths) == (0, [])
    assert [f["path"] for f in ran.findings] == ["open/mine/..permissions", "..transactions"]
    assert everything(corpus.registry) == before


def test_another_user_finds_damage_and_what_they_cannot_read(corpus: Corpus, users: Users) -> None:
    """A file that nobody else may read is a fault to whoever audits without being able to."""
    damage(corpus)
    os.chmod(f"{corpus.registry}/alpha/a/1/d/e/deep.txt", 0o600)
    os.chmod(f"{corpus.registry}/beta/data", 0o700)
    ran = gobblerd(corpus.registry, *whitelist(corpus), prefix=as_user(users.bob))
    assert ran.code == 1
    assert ran.paths == ["alpha/a/1/d/e/deep.txt", KEEP, "beta/data"]


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: mounting needs root")
def test_a_read_only_mount(corpus: Corpus) -> None:
    """Sound or damaged, nothing is written."""
    damage(corpus)
    with tempfile.TemporaryDirectory() as mount:
        if subprocess.run(["mount", "--bind", corpus.registry, mount], check=False).returncode:
            pytest.skip("NOT TESTED: this machine does not let us mount")
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
            with pytest.raises(OSError, match="Read-only"):
                os.mkdir(f"{mount}/x")
            ran = gobblerd(mount, *whitelist(corpus))
            assert (ran.code, ran.paths) == (1, [KEEP])
        finally:
            subprocess.run(["umount", mount], check=True)


# ---- beside a daemon at work

USERS_AT_WORK = 3
TURNS = int(os.environ.get("GOBBLERD_AUDITED_TURNS", "20"))  # of all users together, about nine requests each


class Work:
    """Several users who ask for changes of every kind, until told to stop."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon = daemon
        self._over = threading.Event()
        self._failed: list[str] = []
        self._turns = [0] * USERS_AT_WORK
        self._threads = [threading.Thread(target=self._work, args=(n,)) for n in range(USERS_AT_WORK)]

    @property
    def turns(self) -> int:
        """How much was done so far."""
        assert self._failed == []
        return sum(self._turns)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert self._failed == []

    def _work(self, number: int) -> None:
        source = random.Random(number)
        try:
            while not self._over.is_set():
                self._turn(number, self._turns[number], source)
                self._turns[number] += 1
        except Exception as error:  # noqa: BLE001 - told to the main thread, which fails
            self._failed.append(repr(error))

    def _turn(self, number: int, turn: int, source: random.Random) -> None:
        """Upload, with duplicates; approve, reject, delete; reindex; change permissions."""
        daemon, project = self._daemon, f"p{number % 2}"
        kept, passing = f"{project}/kept{number}/{turn}", f"{project}/passing{number}/{turn}"
        common = {f"d{n}/common": bytes([n]) * 2000 for n in range(6)}
        daemon.upload(kept, {**common, "own": source.randbytes(5000)})
        daemon.upload(passing, {"x": source.randbytes(5000)}, on_probation=turn % 2 == 0)
        if turn % 4 == 0:
            daemon.done("approve_probation", address(passing))
        if turn % 4 == 2:
            daemon.done("reject_probation", address(passing))
        elif turn % 3 == 0:
            daemon.done("delete_version", address(passing))
        owners = {"permissions": {"owners": [f"user{turn}"]}}
        daemon.done("set_permissions", {"project": project, **owners})
        daemon.done("reindex_version", address(kept))
        if turn % 5 == 4:
            daemon.done("delete_asset", address(f"{project}/passing{number}"))


@pytest.fixture
def busy(start_daemon: StartDaemon) -> RunningDaemon:
    """Return a daemon with two projects."""
    daemon = start_daemon()
    for project in ("p0", "p1"):
        daemon.done("create_project", {"project": project})
    daemon.upload("p0/first/1", {"f": b"first"})
    return daemon


def audited(registry: str) -> tuple[list[Finding], Audit]:
    audit = Audit(registry)
    return list(audit.run(units(audit.metadata))), audit


def faults(findings: Sequence[Finding]) -> list[Finding]:
    """Leave out that something kept changing, which is true here."""
    return [finding for finding in findings if finding.kind != Kind.CHANGING]


def test_nothing_false_beside_a_living_daemon(busy: RunningDaemon) -> None:
    """Whatever is half done while it is looked at is no finding; real damage is found all the while."""
    audits = versions = 0
    with Work(busy) as work:
        eventually(lambda: work.turns >= USERS_AT_WORK, "the users to be at work")
        while work.turns < TURNS:
            findings, audit = audited(busy.registry)
            assert faults(findings) == []
            audits, versions = audits + 1, max(versions, audit.tally.versions)
        with open(busy.path("p0/first/1/f"), "wb") as file:
            file.write(b"First")
        assert {f.path for f in faults(audited(busy.registry)[0])} == {"p0/first/1/f"}
    assert versions > 1
    print(f"{audits} audits of up to {versions} versions beside {work.turns} turns of {USERS_AT_WORK} users")  # noqa: T201 - the full form's report


def test_nothing_false_for_another_user_beside_a_living_daemon(busy: RunningDaemon, users: Users) -> None:
    """Who does not see the transactions that run waits longer instead."""
    with Work(busy) as work:
        eventually(lambda: work.turns >= USERS_AT_WORK, "the users to be at work")
        ran = gobblerd(busy.registry, prefix=as_user(users.carol))
    rest = [f for f in ran.findings if f["kind"] != Kind.CHANGING]
    assert [f["path"] for f in rest] == ["..transactions"]
    assert (ran.code, len(ran.said)) == (0, 1)
