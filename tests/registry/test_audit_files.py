"""gobblerd.registry.audit_files: window by window it finds the same, in bounded memory."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash
from support.corpus import Corpus, unpack
from support.daemon import PROJECT_ROOT

from gobblerd.registry import audit_files
from gobblerd.registry.audit import Audit, Part, Unit, units
from gobblerd.registry.audit_findings import Finding
from gobblerd.registry.audit_terms import Span


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory() as base:
        found = unpack(base)
        for path in ("alpha/c/1/keep", "alpha/a/1/d/e/deep.txt", "beta/data/v1/readme.md"):
            if os.path.exists(f"{found.registry}/{path}"):
                with open(f"{found.registry}/{path}", "wb") as file:
                    file.write(b"rot")
        os.unlink(f"{found.registry}/alpha/a/1/top.txt")
        yield found


def audited(corpus: Corpus, tick: Callable[[int], None] = lambda _: None) -> list[Finding]:
    audit = Audit(corpus.registry, whitelist=[corpus.whitelisted], sleep=lambda _: None, tick=tick)
    return list(audit.run(units(audit.metadata)))


def read_bytes(corpus: Corpus) -> tuple[list[Finding], int]:
    read: list[int] = []
    return audited(corpus, read.append), sum(read)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_windows_make_no_difference(corpus: Corpus, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few files are held at once, the findings are the same, and every byte is read once."""
    expected = read_bytes(corpus)
    monkeypatch.setattr(audit_files, "WINDOW", window)
    assert read_bytes(corpus) == expected
    assert len(expected[0]) >= 5


def test_what_was_right_and_changed_is_read_again(corpus: Corpus) -> None:
    """At the second look everything counts that is not as it was."""
    version = next(u for u in units(Audit(corpus.registry).metadata) if str(u.place) == "alpha/a/1")
    manifest = f"{corpus.registry}/alpha/a/1/..manifest"
    names = [name for name in json.loads(Path(manifest).read_bytes()) if name != "top.txt"]
    other = next(
        n for n in names if n != "d/e/deep.txt" and os.path.isfile(f"{corpus.registry}/alpha/a/1/{n}")
    )
    path = f"{corpus.registry}/alpha/a/1/{other}"

    looks = Audit(corpus.registry, whitelist=[corpus.whitelisted])._looks(version)
    full = f"alpha/a/1/{other}"
    assert full not in [finding.path for finding in looks.look().suspects]
    with open(path, "r+b") as file:
        file.write(b"\xff")
    assert full in [finding.path for finding in looks.look().suspects]
    assert full in [finding.path for finding in looks.look().suspects], "also when nothing changed since"


def test_a_span_sees_nothing_else(corpus: Corpus) -> None:
    """Neither what is missing, nor another span's files."""
    unit = Unit(Part.VERSION, next(iter(units(Audit(corpus.registry).metadata, ["alpha"]))).place)
    place = unit.place.child("a").child("1")
    found = [
        [f.path for f in Audit(corpus.registry, sleep=lambda _: None).run([Unit(Part.VERSION, place, span)])]
        for span in (Span("d/e/deep.txt", "d/f"), Span("e"))
    ]
    assert set(found[0]) == {"alpha/a/1/d/e/deep.txt"}
    assert found[1] == []


@pytest.mark.parametrize("path", ["../../../outside", "/etc/hostname", "d/../.dot", "a\0b", "d//x", "\ud800"])
def test_a_path_that_no_version_has_is_not_followed(corpus: Corpus, path: str) -> None:
    """A manifest that rotted names something outside: it is said to be missing, or unreadable, and not read."""
    with open(f"{corpus.registry}/../outside", "wb") as file:
        file.write(b"secret")
    manifest = Path(corpus.registry) / "alpha/c/1/..manifest"
    document = json.loads(manifest.read_bytes())
    document[path] = {"size": 6, "md5sum": "0" * 32}
    manifest.write_text(json.dumps(document))
    read: list[int] = []
    found = [f for f in audited(corpus, read.append) if f.place == "alpha/c/1" and f.path != "alpha/c/1/keep"]
    assert {f.kind for f in found} <= {"missing file", "unreadable file", "extra file", "undocumented form"}
    assert found
    assert 6 not in read


def make_version(root: Path, files: int) -> None:
    """Make a registry of one version with so many files, one in ten with bytes in it."""
    version = root / "big/a/1"
    (root / "..logs").mkdir(parents=True)
    manifest, fast, total = {}, {}, 0
    for number in range(files):
        if number % 1000 == 0:
            (version / f"data/batch-{number // 1000:04d}").mkdir(parents=True)
        path = f"data/batch-{number // 1000:04d}/measurement-{number:07d}.csv"
        data = b"" if number % 10 else b"%d\n" % number
        (version / path).write_bytes(data)
        manifest[path] = {"size": len(data), "md5sum": hashlib.md5(data).hexdigest()}
        fast[path] = xxhash.xxh3_128(data).hexdigest()
        total += len(data)
    summary = {
        "upload_user_id": "me",
        "upload_start": "2026-11-01T00:00:00Z",
        "upload_finish": "2026-11-01T01:00:00Z",
    }
    documents = {
        "big/a/1/..manifest": manifest,
        "big/a/1/..checksums": fast,
        "big/a/1/..summary": summary,
        "big/a/..latest": {"version": "1"},
        "big/..permissions": {"owners": ["me"], "uploaders": []},
        "big/..usage": {"total": total},
    }
    for path, document in documents.items():
        (root / path).write_text(json.dumps(document, indent=4))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("files", "mebibytes"),
    [pytest.param(20_000, 150, id="some"), pytest.param(1_000_000, 600, id="full", marks=pytest.mark.long)],
)
def test_memory_is_bounded(tmp_path: Path, files: int, mebibytes: int) -> None:
    """A version of a million files takes no more than 600 MiB; measured from outside, at its peak."""
    make_version(tmp_path / "registry", files)
    program = (
        "import sys; from click.testing import CliRunner; from gobblerd.cli.main import command;"
        "done = CliRunner().invoke(command, ['audit', sys.argv[1]]); print(done.stderr);"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')));"
        "sys.exit(done.exit_code)"  # ru_maxrss would remember the size of whoever started it
    )
    line = [sys.executable, "-c", program, str(tmp_path / "registry")]
    done = subprocess.run(line, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    peak = int(done.stdout.split()[-1]) / 1024
    assert f"{files} files" in done.stdout
    print(f"{files} files: {peak:.0f} MiB at the peak")  # noqa: T201 - the full form's report
    assert peak <= mebibytes
