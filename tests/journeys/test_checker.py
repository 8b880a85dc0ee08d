"""The registry checker is the judge of the other journeys: it must accept what is right, and see each fault."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.checker import assert_clean, audit
from support.corpus import NULL_UPLOADERS, WHITELISTED_FILE, Corpus, unpack
from support.documents import as_event, events, nanoseconds
from support.places import open_directory

Damage = Callable[[str], None]


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    with open_directory() as base:
        yield unpack(base)


def edit(path: str, change: Callable[[Any], Any]) -> Damage:
    """Change a JSON document in place; `change` may alter it or return another."""

    def damage(registry: str) -> None:
        full = os.path.join(registry, path)
        with open(full, encoding="utf-8") as file:
            document = json.load(file)
        changed = change(document)
        with open(full, "w", encoding="utf-8") as file:
            json.dump(document if changed is None else changed, file)

    return damage


def write(path: str, data: bytes = b"", mode: int = 0o644) -> Damage:
    def damage(registry: str) -> None:
        with open(os.path.join(registry, path), "wb") as file:
            file.write(data)
        os.chmod(os.path.join(registry, path), mode)

    return damage


def remove(path: str) -> Damage:
    return lambda registry: os.unlink(os.path.join(registry, path))


def make(path: str, mode: int = 0o755) -> Damage:
    def damage(registry: str) -> None:
        os.makedirs(os.path.join(registry, path))
        os.chmod(os.path.join(registry, path), mode)

    return damage


def relink(path: str, text: str) -> Damage:
    def damage(registry: str) -> None:
        os.unlink(os.path.join(registry, path))
        os.symlink(text, os.path.join(registry, path))

    return damage


def chmod(path: str, mode: int) -> Damage:
    return lambda registry: os.chmod(os.path.join(registry, path), mode)


def both(*damages: Damage) -> Damage:
    def damage(registry: str) -> None:
        for one in damages:
            one(registry)

    return damage


def everywhere(change: Callable[[Any], Any]) -> Damage:
    """Change the link of alpha/a/2/top.txt in the manifest and in `..links` alike."""
    return both(
        edit("alpha/a/2/..manifest", lambda d: change(d["top.txt"]["link"])),
        edit("alpha/a/2/..links", lambda d: change(d["top.txt"])),
    )


LOGGED = "..logs/2026-11-20T10:37:45Z_139268"
FAULTS: list[tuple[str, Damage, str]] = [
    ("manifest is no JSON", write("alpha/a/1/..manifest", b"{"), "alpha/a/1/..manifest: cannot be parsed"),
    ("manifest repeats a key", write("alpha/c/1/..manifest", b'{"keep":{},"keep":{}}'), "alpha/c/1/..manifest: c"),
    ("manifest missing", remove("alpha/c/1/..manifest"), "alpha/c/1/..manifest: missing"),
    ("summary missing", remove("alpha/c/1/..summary"), "alpha/c/1/..summary: missing"),
    ("undocumented key", edit("alpha/c/1/..manifest", lambda d: d["keep"].update(x=1)), "alpha/c/1/..manifest: ['keep']: key 'x'"),
    ("size is a float", edit("alpha/c/1/..manifest", lambda d: d["keep"].update(size=2.0)), "alpha/c/1/..manifest: ['keep']: size"),
    ("MD5 in upper case", edit("alpha/c/1/..manifest", lambda d: d["keep"].update(md5sum=d["keep"]["md5sum"].upper())), "alpha/c/1/..manifest: ['keep']: md5sum"),
    ("null link", edit("alpha/c/1/..manifest", lambda d: d["keep"].update(link=None)), "alpha/c/1/..manifest: ['keep']: link"),
    ("wrong size", edit("alpha/c/1/..manifest", lambda d: d["keep"].update(size=3)), "alpha/c/1/keep: holds 2 bytes"),
    ("changed byte", write("alpha/c/1/keep", b"K\n"), "alpha/c/1/keep: holds"),
    ("changed byte behind a link", write("alpha/a/1/top.txt", b"ONE\n"), "alpha/b/1/cross: holds"),
    ("changed whitelisted file", write(f"../whitelisted/{WHITELISTED_FILE}", b"x"), "alpha/b/1/w: holds"),
    ("missing file", remove("alpha/c/1/keep"), "alpha/c/1/keep: in the manifest, but not on disk"),
    ("extra file", write("alpha/a/1/d/extra"), "alpha/a/1/d/extra: on disk, but not"),
    ("extra empty directory", make("alpha/a/1/d/more"), "alpha/a/1/d/more: on disk, but not"),
    ("empty directory gone", lambda r: os.rmdir(f"{r}/alpha/a/1/d/empty/x"), "alpha/a/1/d/empty/x: in the manifest, but"),
    ("empty directory that is a file", lambda r: (os.rmdir(f"{r}/alpha/a/1/d/empty/x"), write("alpha/a/1/d/empty/x")(r)), "alpha/a/1/d/empty/x: holds"),
    ("hard link", lambda r: os.link(f"{r}/alpha/c/1/keep", f"{r}/../outside"), "alpha/c/1/keep: has 2 hard links"),
    ("FIFO", lambda r: os.mkfifo(f"{r}/alpha/c/1/pipe"), "alpha/c/1/pipe: on disk"),
    ("link without symbolic link", both(remove("alpha/a/3/local"), write("alpha/a/3/local", b"brand new\n")), "alpha/a/3/local: a link in the manifest"),
    ("symbolic link to the parent, not the ancestor", relink("alpha/a/3/chain", "local"), "alpha/a/3/chain: a symbolic link to 'local'"),
    ("symbolic link not normalised", relink("alpha/a/3/local", "./new"), "alpha/a/3/local: a symbolic link to './new'"),
    ("symbolic link elsewhere with the same bytes", relink("alpha/a/2/moved/same", "../../1/same1"), "alpha/a/2/moved/same: a symbolic"),
    ("absolute symbolic link", lambda r: relink("alpha/a/3/local", f"{r}/alpha/a/3/new")(r), "alpha/a/3/local: a symbolic link to '/"),
    ("link out of the whitelist", relink("alpha/b/1/w", "/etc/hostname"), "alpha/b/1/w: a symbolic link to '/etc/hostname'"),
    ("..links missing", remove("alpha/a/2/..links"), "alpha/a/2/..links: says {}"),
    ("..links differs", edit("alpha/a/2/..links", lambda d: d["top.txt"].update(path="same1")), "alpha/a/2/..links: says"),
    ("..links not needed", write("alpha/c/1/..links", b"{}"), "alpha/c/1/..links: not needed"),
    ("..links in an empty directory", write("alpha/a/1/d/empty/x/..links", b"{}"), "alpha/a/1/d/empty/x/..links: not needed"),
    ("parent not in its manifest", everywhere(lambda link: link.update(path="gone")), "alpha/a/2/top.txt: links to alpha/a/1/gone, which is in no manifest"),
    ("parent in no version", everywhere(lambda link: link.update(version="9")), "alpha/a/2/top.txt: links to alpha/a/9/top.txt, which"),
    ("ancestor missing", both(edit("alpha/a/3/..manifest", lambda d: d["chain"]["link"].pop("ancestor") and None), edit("alpha/a/3/..links", lambda d: d["chain"].pop("ancestor") and None)), "alpha/a/3/chain: names the ancestor None"),
    ("ancestor not needed", everywhere(lambda link: link.update(ancestor={"project": "alpha", "asset": "a", "version": "1", "path": "top.txt"})), "alpha/a/2/top.txt: names the ancestor"),
    ("parent has other bytes", everywhere(lambda link: link.update(path="same1")), "alpha/a/2/top.txt: {'size': 4"),
    ("usage too low", edit("alpha/..usage", lambda d: d.update(total=88)), "alpha/..usage: says 88, but"),
    ("usage missing", remove("alpha/..usage"), "alpha/..usage: missing"),
    ("usage with more", edit("alpha/..usage", lambda d: d.update(by="x")), "alpha/..usage: key 'by'"),
    ("quota of text", edit("alpha/..quota", lambda d: d.update(year="2026")), "alpha/..quota: year"),
    ("latest is old", edit("alpha/a/..latest", lambda d: d.update(version="2")), "alpha/a/..latest: names '2'"),
    ("latest on probation", edit("beta/data/..latest", lambda d: d.update(version="v3")), "beta/data/..latest: names 'v3'"),
    ("latest missing", remove("alpha/a/..latest"), "alpha/a/..latest: missing"),
    ("latest of nothing", both(make("alpha/z"), write("alpha/z/..latest", b'{"version":"1"}')), "alpha/z/..latest: names '1'"),
    ("time without offset", edit("alpha/c/1/..summary", lambda d: d.update(upload_finish="2026-11-20T10:37:45")), "alpha/c/1/..summary: upload_finish"),
    ("nobody uploaded it", edit("alpha/c/1/..summary", lambda d: d.update(upload_user_id="")), "alpha/c/1/..summary: upload_user_id"),
    ("probation of text", edit("alpha/c/1/..summary", lambda d: d.update(on_probation="no")), "alpha/c/1/..summary: on_probation"),
    ("permissions without uploaders", edit("alpha/..permissions", lambda d: (d.pop("uploaders") and None) or d), "alpha/..permissions: "),
    ("global_write of an asset", edit("beta/data/..permissions", lambda d: d.update(global_write=True)), "beta/data/..permissions: key 'global_write'"),
    ("mode of a file", chmod("alpha/c/1/keep", 0o600), "alpha/c/1/keep: mode 0600"),
    ("mode of a document", chmod("alpha/..usage", 0o664), "alpha/..usage: mode 0664"),
    ("mode of a directory", chmod("alpha/a/1/d", 0o700), "alpha/a/1/d: mode 0700"),
    ("another owner", lambda r: os.chown(f"{r}/alpha/c/1/keep", 61001, 61001), "alpha/c/1/keep: owned by 61001"),
    ("lock file with data", write("alpha/..LOCK", b"1"), "alpha/..LOCK: a lock file"),
    ("temporary file left", write("alpha/..usage.tmp"), "alpha/..usage.tmp: not a documented file"),
    ("temporary file left in a version", write("alpha/c/1/..tmp"), "alpha/c/1/..tmp: not a documented file"),
    ("internal directory in a version", make("alpha/c/1/..d"), "alpha/c/1/..d: not a documented file"),
    ("internal directory in an asset", make("alpha/c/..d"), "alpha/c/..d: not a documented directory"),
    ("stray file", write("stray"), "stray: not a documented file"),
    ("event with a wrong name", write("..logs/now", b"{}"), "..logs/now: not a name"),
    ("event of an unknown kind", edit(LOGGED, lambda d: d.update(type="x")), f"{LOGGED}: "),
    ("event without latest", edit(LOGGED, lambda d: (d.pop("latest") and None) or d), f"{LOGGED}: key 'latest'"),
    ("transaction left", both(make("..transactions", 0o700), make("..transactions/0abc/tree")), "..transactions/0abc: left over"),
    ("record left", both(make("..transactions", 0o700), make("..transactions/committed"), write("..transactions/committed/x")), "..transactions/committed: left"),
    ("open transactions", make("..transactions", 0o755), "..transactions: mode 0755"),
    ("fast checksum wrong", write("alpha/c/1/..checksums", b'{"keep":"99aa06d3014798d86001c324468d497f"}'), "alpha/c/1/keep: xxh3-128"),
    ("fast checksum of nothing", write("alpha/c/1/..checksums", b'{"no":"99aa06d3014798d86001c324468d497f"}'), "alpha/c/1/no: in ..checksums"),
]  # fmt: skip


def test_accepts_what_the_go_service_wrote(corpus: Corpus) -> None:
    """The only finding in the corpus is the null that gobblerd writes as []."""
    assert audit(corpus.registry, [corpus.whitelisted]) == [NULL_UPLOADERS]
    assert_clean(corpus.registry, whitelist=[corpus.whitelisted], ignore=[NULL_UPLOADERS])


@pytest.mark.parametrize(("damage", "finding"), [pytest.param(d, f, id=i) for i, d, f in FAULTS])
def test_sees_each_fault(corpus: Corpus, damage: Damage, finding: str) -> None:
    """Each way in which a registry can be wrong gives a finding that begins with the path at fault."""
    damage(corpus.registry)
    found = audit(corpus.registry, [corpus.whitelisted])
    assert any(f.startswith(finding) for f in found), found


def test_accepts_what_is_optional(corpus: Corpus) -> None:
    """Fast checksums, empty transaction folders, the marker, private lock files and schedules' state are right."""
    for fine in (
        write("alpha/c/1/..checksums", b"{}"),
        make("..transactions", 0o700),
        make("..transactions/committed"),
        make("..transactions/state"),
        write("..transactions/state/clock"),
        write("..gobblerd", b"{}"),
        chmod("..LOCK", 0o600),
        edit("alpha/c/1/..summary", lambda d: d.update(on_probation=False)),
    ):
        fine(corpus.registry)
    assert audit(corpus.registry, [corpus.whitelisted]) == [NULL_UPLOADERS]


def test_counts_events(corpus: Corpus) -> None:
    """Events are counted whatever the order of their keys."""
    counted = events(corpus.registry)
    assert counted.total() == 19
    assert counted[as_event(type="delete-asset", asset="f", project="alpha")] == 1


def test_reads_times() -> None:
    """Offsets and fractions count; another form is refused."""
    assert nanoseconds("1970-01-01T01:00:00.5+01:00") == 500_000_000
    with pytest.raises(ValueError, match="no RFC 3339"):
        nanoseconds("2026-11-20 10:37:45Z")
