"""gobblerd.registry.audit: every invariant is looked at, each damage is named, and what moves is no damage."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from journeys.test_checker import FAULTS, Damage, both, chmod, edit, make, remove, write
from support.checker import audit as check
from support.corpus import Corpus, unpack

from gobblerd.domain.names import Address
from gobblerd.registry import layout
from gobblerd.registry.audit import Audit, Part, Unit, unit_bytes, units
from gobblerd.registry.audit_findings import Finding, Kind, Severity
from gobblerd.registry.flaws import Flaw
from gobblerd.registry.locks import Mode
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.record import Record, Step, record_bytes
from gobblerd.registry.recovery import ABANDONED_SECONDS

NULL_UPLOADERS = "open/mine/..permissions"  # the Go service wrote null; the corpus' one notice
PROJECT = Unit(Part.PROJECT, Address("alpha"))
USAGE = "alpha/..usage"


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as base:
        yield unpack(base)


def do_nothing(_: float) -> None:
    """Take no time between two looks."""


def audited(corpus: Corpus, **options: Any) -> list[Finding]:
    """Audit a whole registry; the findings but the one that is in the corpus."""
    audit = Audit(corpus.registry, whitelist=[corpus.whitelisted], **{"sleep": do_nothing, **options})
    return [f for f in audit.run(units(audit.metadata)) if f.path != NULL_UPLOADERS]


def named(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.path, f.kind) for f in findings]


def everything(root: str) -> dict[str, tuple[int, ...]]:
    """Return what shows any change of anything below a directory, reading apart."""
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


# ---- what is found


def test_what_the_go_service_wrote(corpus: Corpus) -> None:
    """Is sound but for a null where an array should be, which misleads nobody: a notice."""
    audit = Audit(corpus.registry, whitelist=[corpus.whitelisted], sleep=do_nothing)
    (notice,) = audit.run(units(audit.metadata))
    assert notice.document() == {
        "place": "open/mine",
        "path": "open/mine/..permissions",
        "severity": "notice",
        "kind": "undocumented form",
        "expected": 'a value of "uploaders"',
        "found": "null",
    }
    assert (audit.tally.projects, audit.tally.versions, audit.tally.faults, audit.tally.notices) == (
        3,
        13,
        0,
        1,
    )
    assert audit.tally.files == sum(
        1
        for path in everything(corpus.registry)
        if not os.path.isdir(path) or os.path.islink(path)
        if ".." not in os.path.relpath(path, corpus.registry)
    )


# What the tests' own checker finds and an audit does not, each with its reason.
NOT_FOUND = {"transaction left": "a transaction of the last days may be a daemon's that is at work"}


@pytest.mark.parametrize(("damage", "finding"), [pytest.param(d, f, id=i) for i, d, f in FAULTS])
def test_finds_what_the_checker_finds(
    corpus: Corpus, damage: Damage, finding: str, request: pytest.FixtureRequest
) -> None:
    """All its damages but those that are listed with a reason; and at the same place, or where it lies."""
    name = request.node.callspec.id
    damage(corpus.registry)
    found = audited(corpus)
    if name in NOT_FOUND:
        assert found == []
        return
    path = finding.partition(": ")[0]
    # Bytes behind a link are reported once, at the real file; `..links` by the link that is wrong in it.
    elsewhere = {
        "changed byte behind a link": "alpha/a/1/top.txt",
        "..links differs": "alpha/a/2/top.txt",
        "size is a float": "alpha/c/1/keep",
        "MD5 in upper case": "alpha/c/1/keep",
        "record left": "..transactions/committed/x",
    }
    assert elsewhere.get(name, path) in [f.path for f in found], found


def test_the_checker_of_the_tests_has_no_damage_of_its_own(corpus: Corpus) -> None:
    """Every reason above belongs to a damage that exists."""
    assert NOT_FOUND.keys() <= {name for name, _, _ in FAULTS}


def link_elsewhere(registry: str) -> None:
    os.rename(f"{registry}/alpha/c", f"{registry}/../moved")
    os.symlink("../../moved", f"{registry}/alpha/c")


# Name: damage, and what is found: path, kind, severity.
DAMAGES: dict[str, tuple[Damage, tuple[str, str, Severity]]] = {
    "marker cut short": (write(layout.MARKER, b'{"for'), (layout.MARKER, Kind.DOCUMENT, Severity.FAULT)),
    "unknown marker": (
        write(layout.MARKER, b'{"format": "gobblerd-registry-9", "id": "x"}'),
        (layout.MARKER, Kind.DOCUMENT, Severity.FAULT),
    ),
    "name with a newline": (make("alpha/a\nb"), ("alpha/a\nb", Kind.NAME, Severity.NOTICE)),
    "name that is no UTF-8": (make("alpha/\udcff"), ("alpha/\\udcff", Kind.NAME, Severity.FAULT)),
    "symbolic link for an asset": (link_elsewhere, ("alpha/c", Kind.STRANGE, Severity.FAULT)),
    "document that is a directory": (
        both(remove("alpha/..quota"), make("alpha/..quota")),
        ("alpha/..quota", Kind.STRANGE, Severity.FAULT),
    ),
    "manifest that is a FIFO": (
        both(remove("alpha/c/1/..manifest"), lambda r: os.mkfifo(f"{r}/alpha/c/1/..manifest")),
        ("alpha/c/1/..manifest", Flaw.TYPE, Severity.FAULT),
    ),
    "fast checksums cut short": (
        write("alpha/c/1/..checksums", b"{"),
        ("alpha/c/1/..checksums", Flaw.UNREADABLE, Severity.FAULT),
    ),
    "fast checksum in upper case": (
        write("alpha/c/1/..checksums", b'{"keep": "494D1779220FDF70DE338727F8F1D0F8"}'),
        ("alpha/c/1/keep", Flaw.FAST_CHECKSUM, Severity.FAULT),
    ),
    "usage negative": (edit(USAGE, lambda d: d.update(total=-1)), (USAGE, Kind.USAGE, Severity.FAULT)),
    "quota negative": (
        edit("alpha/..quota", lambda d: d.update(baseline=-1)),
        ("alpha/..quota", Kind.DOCUMENT, Severity.FAULT),
    ),
    "permissions missing": (
        remove("alpha/..permissions"),
        ("alpha/..permissions", Flaw.MISSING, Severity.FAULT),
    ),
    "permissions cut short": (
        write("alpha/a/..permissions", b"{"),
        ("alpha/a/..permissions", Flaw.UNREADABLE, Severity.FAULT),
    ),
    "owners of numbers": (
        edit("alpha/..permissions", lambda d: d.update(owners=[1])),
        ("alpha/..permissions", Flaw.UNREADABLE, Severity.FAULT),
    ),
    "uploader without id": (
        edit("alpha/..permissions", lambda d: d.update(uploaders=[{"asset": "a"}])),
        ("alpha/..permissions", Flaw.UNREADABLE, Severity.FAULT),
    ),
    "latest that climbs": (
        edit("alpha/a/..latest", lambda d: d.update(version="../a/3")),
        ("alpha/a/..latest", Kind.LATEST, Severity.FAULT),
    ),
    "event cut short": (
        write("..logs/2026-11-20T10:37:45Z_999999", b'{"type"'),
        ("..logs/2026-11-20T10:37:45Z_999999", Kind.EVENT, Severity.FAULT),
    ),
    "event that is a directory": (
        make("..logs/2026-11-20T10:37:45Z_999999"),
        ("..logs/2026-11-20T10:37:45Z_999999", Kind.STRANGE, Severity.FAULT),
    ),
    "event at no real time": (
        write("..logs/2026-13-20T10:37:45Z_999999", b"{}"),
        ("..logs/2026-13-20T10:37:45Z_999999", Kind.STRANGE, Severity.FAULT),
    ),
    "record not answered": (
        both(make("..transactions", 0o700), make("..transactions/applied", 0o700), write("..transactions/applied/x")),
        ("..transactions/applied/x", Kind.UNFINISHED, Severity.FAULT),
    ),
    "upload set aside": (
        both(make("..transactions", 0o700), make("..transactions/aside/x", 0o700)),
        ("..transactions/aside/x", Kind.ASIDE, Severity.FAULT),
    ),
    "file among transactions": (
        both(make("..transactions", 0o700), write("..transactions/x")),
        ("..transactions/x", Kind.STRANGE, Severity.FAULT),
    ),
    "probe left": (write("alpha/..probe-00"), ("alpha/..probe-00", Kind.PROBE, Severity.NOTICE)),
    "mode of the events": (chmod("..logs", 0o777), ("..logs", Kind.MODE, Severity.NOTICE)),
    "mode of a project": (chmod("alpha", 0o775), ("alpha", Kind.MODE, Severity.NOTICE)),
    "owner of an asset": (
        lambda r: os.chown(f"{r}/alpha/c", 61001, 61001),
        ("alpha/c", Kind.OWNER, Severity.NOTICE),
    ),
}  # fmt: skip


# What an audit finds and the tests' own checker does not, each with its reason.
FOUND_HERE_ONLY = {
    "marker cut short": "it takes any marker",
    "unknown marker": "it takes any marker",
    "name with a newline": "it does not judge names",
    "name that is no UTF-8": "it does not judge names",
    "manifest that is a FIFO": "it would wait for a writer for ever, and is not asked",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_finds_each_damage(corpus: Corpus, name: str) -> None:
    """Named by path and kind; and the tests' own checker agrees, but where a reason says why not."""
    damage, expected = DAMAGES[name]
    damage(corpus.registry)
    assert expected in [(f.path, f.kind, f.severity) for f in audited(corpus)]
    if name != "manifest that is a FIFO":
        is_seen = len(check(corpus.registry, [corpus.whitelisted])) > 1  # the null of the corpus is one
        assert is_seen == (name not in FOUND_HERE_ONLY)


def test_a_record_that_is_none_stops_nothing(corpus: Corpus) -> None:
    """It is a leftover, and what else is wrong is found beside it."""
    os.makedirs(f"{corpus.registry}/{layout.COMMITTED}", mode=0o700)
    os.chmod(f"{corpus.registry}/..transactions", 0o700)
    write(f"{layout.COMMITTED}/odd", b'{"format": 1}')(corpus.registry)
    edit(USAGE, lambda d: d.update(total=1))(corpus.registry)
    assert named(audited(corpus)) == [(USAGE, Kind.USAGE), (f"{layout.COMMITTED}/odd", Kind.UNFINISHED)]


def test_old_uncommitted_work(corpus: Corpus) -> None:
    """Is a finding when it was untouched for as long as recovery would wait; before, it may be going on."""
    make("..transactions", 0o700)(corpus.registry)
    make("..transactions/00-1/1/deep", 0o700)(corpus.registry)
    assert audited(corpus) == []
    later = time.time_ns() + int((ABANDONED_SECONDS + 60) * 1e9)
    assert named(audited(corpus, now=lambda: later)) == [("..transactions/00-1", Kind.ABANDONED)]


def test_alike_notices_are_one(corpus: Corpus) -> None:
    """A wrong umask must not bury the findings that matter."""
    for name in ("..manifest", "..summary", "d/e/deep.txt", "top.txt"):
        os.chmod(f"{corpus.registry}/alpha/a/1/{name}", 0o664)
    (notice,) = audited(corpus)
    assert (notice.path, notice.found) == ("alpha/a/1/..manifest", "0664, and 3 more")


def test_lost_and_found_is_no_project(corpus: Corpus) -> None:
    """A registry may be a filesystem's root."""
    make("lost+found", 0o700)(corpus.registry)
    assert audited(corpus) == []


def test_equal_times_make_either_the_latest(corpus: Corpus) -> None:
    """Whole seconds of the Go service: both finished last."""
    summaries = [f"{corpus.registry}/alpha/a/{version}/..summary" for version in "23"]
    with open(summaries[1], encoding="utf-8") as file:
        last = json.load(file)["upload_finish"]
    edit("alpha/a/2/..summary", lambda d: d.update(upload_finish=last))(corpus.registry)
    assert audited(corpus) == []
    edit("alpha/a/..latest", lambda d: d.update(version="2"))(corpus.registry)
    assert audited(corpus) == []


# ---- how it is looked at


def test_changes_nothing(corpus: Corpus) -> None:
    """Nothing is created, no lock is taken, no time but that of access changes; damaged or not."""
    remove("..LOCK")(corpus.registry)
    write("alpha/c/1/keep", b"K\n")(corpus.registry)
    before = everything(corpus.registry)
    assert len(audited(corpus)) == 1
    assert everything(corpus.registry) == before


def test_fast_reads_no_bytes(corpus: Corpus) -> None:
    """Sizes and links are looked at, also of whitelisted files; a changed bit is not seen."""
    write("alpha/c/1/keep", b"K\n")(corpus.registry)
    read: list[int] = []
    assert audited(corpus, fast=True, tick=read.append) == []
    write("alpha/c/1/keep", b"K")(corpus.registry)
    write("../whitelisted/big.bin", b"x")(corpus.registry)
    remove("alpha/a/2/top.txt")(corpus.registry)
    assert named(audited(corpus, fast=True, tick=read.append)) == [
        ("alpha/a/2/top.txt", Flaw.MISSING),
        ("alpha/a/3/link-to-v2", Flaw.TARGET),
        ("alpha/a/3/top.txt", Flaw.TARGET),
        ("alpha/b/1/w", Flaw.SIZE),
        ("alpha/c/1/keep", Flaw.SIZE),
    ]
    assert read == []


def test_units_are_independent(corpus: Corpus) -> None:
    """Each by itself, in any order, finds what the whole audit finds: they can be shared out."""
    for name, damage, _ in FAULTS[::7]:
        if not name.startswith("manifest"):
            damage(corpus.registry)
    whole = Audit(corpus.registry, whitelist=[corpus.whitelisted], sleep=do_nothing)
    every = list(units(whole.metadata))
    each = {
        unit: list(Audit(corpus.registry, whitelist=[corpus.whitelisted]).run([unit]))
        for unit in reversed(every)
    }
    found = list(whole.run(every))
    assert found == [finding for unit in every for finding in each[unit]]
    assert len(found) > 5


def test_units_have_sizes(corpus: Corpus) -> None:
    """They add up to the usage of all projects."""
    metadata = Metadata(corpus.registry)
    every = list(units(metadata))
    assert [str(u.place) for u in every if u.part is Part.PROJECT] == ["alpha", "beta", "open"]
    total = sum(metadata.usage(project.project).total for project in metadata.projects())
    assert sum(unit_bytes(metadata, unit) for unit in every) == total > 0


def test_a_part_is_a_projects(corpus: Corpus) -> None:
    """Of the registry itself nothing is looked at then."""
    write("stray")(corpus.registry)
    write("alpha/c/1/keep", b"K\n")(corpus.registry)
    audit = Audit(corpus.registry, sleep=do_nothing)
    assert list(audit.run(units(audit.metadata, ["beta"]))) == []
    assert (audit.tally.projects, audit.tally.files > 0) == (1, True)


# ---- beside a living daemon


def test_bytes_are_read_once(corpus: Corpus) -> None:
    """The second look at a damaged version trusts what did not change."""
    write("alpha/c/1/keep", b"K\n")(corpus.registry)
    read: list[int] = []
    unit = Unit(Part.VERSION, Address("alpha", "c", "1"))
    audit = Audit(corpus.registry, sleep=do_nothing, tick=read.append)
    assert named(list(audit.run([unit]))) == [("alpha/c/1/keep", Flaw.CHECKSUM)]
    assert read == [2]


def test_what_is_right_at_the_second_look_was_never_wrong(corpus: Corpus) -> None:
    """Usage follows an upload a moment later."""
    edit(USAGE, lambda d: d.update(total=1))(corpus.registry)
    audit = Audit(corpus.registry, sleep=lambda _: edit(USAGE, lambda d: d.update(total=89))(corpus.registry))
    assert list(audit.run([PROJECT])) == []


def test_what_is_gone_at_the_second_look_was_deleted(corpus: Corpus) -> None:
    """A version, an asset, a project."""
    for place in ("alpha/a/1", "alpha/b", "beta"):
        write(f"{place}/..odd")(corpus.registry)
        part = (Part.PROJECT, Part.ASSET, Part.VERSION)[place.count("/")]
        away = f"{corpus.registry}/../{place.replace('/', '-')}"
        audit = Audit(
            corpus.registry, sleep=lambda _, p=place, a=away: os.rename(f"{corpus.registry}/{p}", a)
        )
        assert list(audit.run([Unit(part, Address(*place.split("/")))])) == []


def test_what_never_holds_still_is_said_to(corpus: Corpus) -> None:
    """Wrong at each look, but each time differently: that is no fault, and no silence either."""
    totals = iter(range(1000, 2000))

    def change(_: float) -> None:
        edit(USAGE, lambda d: d.update(total=next(totals)))(corpus.registry)

    change(0)
    (notice,) = Audit(corpus.registry, sleep=change).run([PROJECT])
    assert (notice.path, notice.kind, notice.severity) == (USAGE, Kind.CHANGING, Severity.NOTICE)


def test_the_same_numbers_of_another_moment_do_not_count(corpus: Corpus) -> None:
    """A storm of equal changes shows the same wrong usage again and again; the file's stamp tells."""

    def change(_: float) -> None:
        path = f"{corpus.registry}/{USAGE}"
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            json.dump({"total": 1}, file)
        os.rename(f"{path}.new", path)

    change(0)
    assert [f.kind for f in Audit(corpus.registry, sleep=change).run([PROJECT])] == [Kind.CHANGING]


def record(registry: str, identity: str = "00-1") -> str:
    """Put a committed change of alpha/a/4 among the transactions; return its path."""
    committed = os.path.join(registry, layout.COMMITTED)
    os.makedirs(committed, exist_ok=True)
    lock = ("alpha/..LOCK", Mode.EXCLUSIVE)
    change = Step("install", "alpha/a/4", "1", fresh=True)
    made = Record(
        format=layout.RECORD_FORMAT,
        id=identity,
        staging="00",
        locks=[lock],
        steps=[change],
        events=[],
        usage=["alpha"],
        latest=[("alpha", "a")],
    )
    with open(f"{committed}/{identity}", "wb") as file:
        file.write(record_bytes(made))
    return f"{committed}/{identity}"


def test_a_committed_change_is_waited_for(corpus: Corpus) -> None:
    """However slow its writer: nothing it is about to change is judged before."""
    edit(USAGE, lambda d: d.update(total=1))(corpus.registry)
    path = record(corpus.registry)
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 4:
            edit(USAGE, lambda d: d.update(total=89))(corpus.registry)
            os.unlink(path)

    assert list(Audit(corpus.registry, sleep=wait).run([PROJECT])) == []
    assert len(pauses) == 4


def test_a_dead_writer_is_not_waited_for_for_ever(corpus: Corpus) -> None:
    """Then what is wrong is reported, the record too; and nobody waits for the same one again."""
    edit(USAGE, lambda d: d.update(total=1))(corpus.registry)
    edit("alpha/a/..latest", lambda d: d.update(version="2"))(corpus.registry)
    record(corpus.registry)
    pauses: list[float] = []
    audit = Audit(corpus.registry, sleep=pauses.append)
    assert [f.kind for f in audit.run([PROJECT])] == [Kind.USAGE]
    waited = len(pauses)
    assert [f.kind for f in audit.run([Unit(Part.ASSET, Address("alpha", "a"))])] == [Kind.LATEST]
    assert len(pauses) == waited + 1
    left = ("..transactions/committed/00-1", Kind.UNFINISHED)
    assert left in named(list(audit.run([Unit(Part.TRANSACTIONS)])))


def test_a_record_that_its_daemon_finishes_is_no_leftover(corpus: Corpus) -> None:
    """However many looks that takes, within some seconds; meanwhile others come and go."""
    os.makedirs(f"{corpus.registry}/..transactions/applied", mode=0o700)
    os.chmod(f"{corpus.registry}/..transactions", 0o700)
    write("..transactions/applied/00-0")(corpus.registry)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        write(f"..transactions/applied/00-{len(pauses)}")(corpus.registry)
        if len(pauses) >= 12:
            remove(f"..transactions/applied/00-{len(pauses) - 12}")(corpus.registry)

    assert list(Audit(corpus.registry, sleep=pause).run([Unit(Part.TRANSACTIONS)])) == []
    assert len(pauses) == 12


def test_others_changes_are_not_waited_for(corpus: Corpus) -> None:
    """A record of another project holds nothing up."""
    edit("beta/..usage", lambda d: d.update(total=1))(corpus.registry)
    record(corpus.registry)
    pauses: list[float] = []
    found = list(Audit(corpus.registry, sleep=pauses.append).run([Unit(Part.PROJECT, Address("beta"))]))
    assert [f.kind for f in found] == [Kind.USAGE]
    assert len(pauses) == 1


def test_nothing_waits_for_what_is_at_rest(corpus: Corpus) -> None:
    """Only what changed a moment ago can be in motion."""
    edit(USAGE, lambda d: d.update(total=1))(corpus.registry)
    pauses: list[float] = []
    tomorrow = time.time_ns() + 86_400_000_000_000
    found = list(Audit(corpus.registry, now=lambda: tomorrow, sleep=pauses.append).run([PROJECT]))
    assert [f.kind for f in found] == [Kind.USAGE]
    assert pauses == [0.0]


def test_the_order_is_that_of_the_units(corpus: Corpus) -> None:
    """Also where some are settled later than others."""
    for place in ("alpha/c/1", "alpha/a/1", "beta/data/v1"):
        if os.path.isdir(f"{corpus.registry}/{place}"):
            write(f"{place}/..odd")(corpus.registry)
    write("stray")(corpus.registry)
    write("..logs/odd")(corpus.registry)
    first, second = audited(corpus, pause=0.001), audited(corpus)
    assert first == second
    assert first[0].path == "stray"
    assert first[-1].path == "..logs/odd"


def test_writing_the_same_bytes_again_is_no_damage(corpus: Corpus) -> None:
    """It is the bytes that count, not when they were written."""
    with open(f"{corpus.registry}/alpha/c/1/keep", "rb") as file:
        data = file.read()
    assert (
        hashlib.md5(data).hexdigest()
        == Metadata(corpus.registry).manifest(Address("alpha", "c", "1"))["keep"].md5sum
    )
    write("alpha/c/1/keep", data)(corpus.registry)
    assert audited(corpus) == []
