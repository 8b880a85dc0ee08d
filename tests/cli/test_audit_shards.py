"""`gobblerd audit --shard`, `--plan` and `audit merge`: one report, byte for byte, of however many shares."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.corpus import Corpus, unpack
from support.daemon import PROJECT_ROOT, eventually
from support.places import open_directory

from gobblerd.cli.main import command

SEED = 20261128


@pytest.fixture
def corpus() -> Iterator[Corpus]:
    """A registry with a damage of each kind: bytes, a lost file, a stray one, a link, a notice, an old event."""
    with open_directory() as base:
        found = unpack(base)
        write(found, "alpha/c/1/keep", b"K\n")
        os.unlink(f"{found.registry}/alpha/a/1/top.txt")
        write(found, "stray", b"")
        write(found, "..logs/odd", b"")
        os.chmod(f"{found.registry}/alpha/a/3", 0o700)
        yield found


def write(corpus: Corpus, path: str, data: bytes) -> None:
    with open(f"{corpus.registry}/{path}", "wb") as file:
        file.write(data)


def audit(*arguments: str) -> Result:
    result = CliRunner().invoke(command, ["audit", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def whole(corpus: Corpus, *options: str) -> tuple[bytes, str]:
    """Return the report of an audit that is not shared out, and its last line."""
    result = audit(corpus.registry, "--whitelist", corpus.whitelisted, *options)
    assert result.exit_code == 1
    return result.stdout.encode(), result.stderr.splitlines()[-1]


def share(corpus: Corpus, number: int, shares: int, *options: str) -> str:
    """Look at one share; return its part."""
    out = f"{os.path.dirname(corpus.registry)}/part-{number}-{shares}.jsonl"
    terms = ["--whitelist", corpus.whitelisted, "--shard", f"{number}/{shares}", "--out", out, *options]
    result = audit(corpus.registry, *terms)
    assert result.exit_code in {0, 1}, result.stderr
    return out


def lines(path: str) -> list[dict[str, object]]:
    with open(path, encoding="ascii") as file:
        return [json.loads(line) for line in file]


@pytest.mark.parametrize("shares", [1, 2, 8, 60])
@pytest.mark.parametrize("options", [[], ["--fast"], ["--project", "alpha", "--project", "beta"]])
def test_any_number_of_shares_gives_the_same_report(corpus: Corpus, shares: int, options: list[str]) -> None:
    """Byte for byte that of one audit, whatever the order of the parts, with the same sum and exit code."""
    parts = [share(corpus, number, shares, *options) for number in range(1, shares + 1)]
    random.Random(SEED).shuffle(parts)
    out = f"{os.path.dirname(corpus.registry)}/report.jsonl"
    result = audit("merge", *parts, "--out", out)
    expected, summary = whole(corpus, *options)
    with open(out, "rb") as file:
        assert file.read() == expected
    assert (result.exit_code, result.stderr.splitlines()) == (1, [summary])
    assert audit("merge", *parts).stdout.encode() == expected


def test_a_sound_registry_has_exit_code_0() -> None:
    """Of every share, and of the merging."""
    with open_directory() as base:
        found = unpack(base)
        parts = [share(found, number, 2) for number in (1, 2)]
        assert audit("merge", *parts).exit_code == 0


def test_a_share_that_was_killed_continues(corpus: Corpus) -> None:
    """Wherever its part was torn: it goes on behind the last whole line, and the report is the same."""
    parts = [share(corpus, number, 2) for number in (1, 2)]
    with open(parts[0], "rb") as file:
        data = file.read()
    first = data.index(b"\n") + 1
    expected = whole(corpus)[0]
    for size in (0, 5, first - 1, first, first + 3, len(data) // 2, len(data) - 3, len(data)):
        with open(parts[0], "r+b") as file:
            file.truncate(size)
        assert (data if size == len(data) else audit("merge", *parts).exit_code) in {data, 2}
        share(corpus, 1, 2)
        with open(parts[0], "rb") as file:
            assert file.read() == data, f"torn at {size}"
        assert audit("merge", *parts).stdout.encode() == expected


def test_what_is_done_is_not_done_again(corpus: Corpus) -> None:
    """A share that goes on does not look at what its part has; one that is finished looks at nothing."""
    part = share(corpus, 1, 1)
    with open(part, "rb") as file:
        data = file.read()
    shutil.rmtree(f"{corpus.registry}/alpha")  # what was found in it is in the part, and stays
    os.mkdir(f"{corpus.registry}/alpha")
    assert share(corpus, 1, 1) == part
    with open(part, "rb") as file:
        assert file.read() == data
    kept = data.index(b'"beta"', data.index(b'"next": [1, "beta"'))
    with open(part, "r+b") as file:
        file.truncate(kept)
    share(corpus, 1, 1)
    with open(part, "rb") as file:
        assert file.read() == data


def test_killed_for_real(corpus: Corpus) -> None:
    """A process that is killed while it reads leaves a part that the next one finishes."""
    out = f"{os.path.dirname(corpus.registry)}/part-1-1.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-B", "-m", "gobblerd", "audit", corpus.registry, "--whitelist", corpus.whitelisted,
         "--shard", "1/1", "--out", out],
        cwd=PROJECT_ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip
    eventually(lambda: os.path.exists(out) and os.path.getsize(out) > 0, "the part to begin")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    share(corpus, 1, 1)
    assert audit("merge", out).stdout.encode() == whole(corpus)[0]


def test_a_plan_is_what_all_shares_go_by(corpus: Corpus) -> None:
    """Made by the first, used by the others, though the registry changed in between: nothing is missed."""
    plan = f"{os.path.dirname(corpus.registry)}/plan.json"
    first = share(corpus, 1, 3, "--plan", plan)
    with open(plan, "rb") as file:
        made = file.read()
    for version in ("0", "4", "9"):
        shutil.copytree(f"{corpus.registry}/alpha/c/1", f"{corpus.registry}/alpha/c/{version}")
    parts = [first, *(share(corpus, number, 3, "--plan", plan) for number in (2, 3))]
    with open(plan, "rb") as file:
        assert file.read() == made
    assert sorted(os.listdir(os.path.dirname(plan))) == sorted(
        ["corpus", "plan.json", "whitelisted", *map(os.path.basename, parts)]
    ), "nothing else is left"
    found = [json.loads(line)["place"] for line in audit("merge", *parts).stdout.splitlines()]
    looked_at = {"/".join(each["at"][1:4]) for part in parts for each in lines(part) if "at" in each}  # type: ignore[index]
    assert len(found) >= 5
    assert {"alpha/a/1", "alpha/c/0", "alpha/c/4", "alpha/c/9", "beta//"} <= looked_at


def test_shares_that_leave_something_out_are_not_merged(corpus: Corpus) -> None:
    """Without a plan, the cuts of a registry that grew may lie elsewhere: that is said, with the remedy."""
    parts = [share(corpus, 1, 2)]
    shutil.copytree(f"{corpus.registry}/beta", f"{corpus.registry}/omega")
    write(corpus, "omega/large", b"")
    for name in ("x", "y", "z"):
        shutil.copytree(f"{corpus.registry}/alpha", f"{corpus.registry}/zeta-{name}", symlinks=True)
    parts.append(share(corpus, 2, 2))
    result = audit("merge", *parts)
    assert result.exit_code == 2
    assert "--plan" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--shard", "0/3"], "from 1 to N"),
        (["--shard", "4/3"], "from 1 to N"),
        (["--shard", "x"], "from 1 to N"),
        (["--shard", "1/2"], "--out"),
        (["--plan", "p"], "--shard"),
        (["--dask", "tcp://127.0.0.1:1", "--shard", "1/2"], "--dask"),
        (["--shard", "1/2", "--out", "{registry}/part"], "nothing into the registry"),
        (
            ["--shard", "1/2", "--out", "{base}/part", "--plan", "{registry}/plan"],
            "nothing into the registry",
        ),
        (["--shard", "1/2", "--out", "{base}/absent/part"], "No such file"),
    ],
)
def test_what_cannot_be_asked_for(corpus: Corpus, arguments: list[str], said: str) -> None:
    """Exit code 2, with a sentence, and nothing is written."""
    base = os.path.dirname(corpus.registry)
    given = [each.format(registry=corpus.registry, base=base) for each in arguments]
    result = audit(corpus.registry, *given)
    assert result.exit_code == 2
    assert said in result.stderr
    assert sorted(os.listdir(base)) == ["corpus", "whitelisted"]


def test_a_device_is_not_replaced(corpus: Corpus, tmp_path: Path) -> None:
    """`--out /dev/null` of root made /dev/null a regular file; a part was read from a device without end."""
    pipe = tmp_path / "pipe"  # as little a regular file, and no test needs root for it
    os.mkfifo(pipe)
    for arguments in (["--out", pipe], ["--shard", "1/2", "--out", pipe], ["--out", tmp_path]):
        result = audit(corpus.registry, *map(str, arguments))
        assert (result.exit_code, "is no regular file" in result.stderr) == (2, True)
    assert pipe.is_fifo()


def test_parts_that_do_not_belong_together(corpus: Corpus) -> None:
    """Missing, doubled, of other terms, unfinished or no parts at all: each is said with its name."""
    one, two = share(corpus, 1, 2), share(corpus, 2, 2)
    base = os.path.dirname(corpus.registry)
    third = share(corpus, 2, 3)
    fast = f"{base}/fast"
    audit(corpus.registry, "--whitelist", corpus.whitelisted, "--fast", "--shard", "2/2", "--out", fast)
    for parts, said in (
        ([one], "part 2 of 2 is missing"),
        ([one, two, two], "part 2 of 2 is given twice"),
        ([one, third], "not parts of the same audit"),
        ([one, fast], "not parts of the same audit"),
        ([one, f"{corpus.registry}/alpha/..usage"], "no part of an audit"),
        ([one, f"{base}/absent"], "No such file"),
    ):
        result = audit("merge", *parts)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    torn = audit(corpus.registry, "--shard", "1/2", "--out", two, "--whitelist", corpus.whitelisted)
    assert (torn.exit_code, "another audit" in torn.stderr) == (2, True)
    write(corpus, "../notes", b"mine\n")
    mine = audit(corpus.registry, "--shard", "1/2", "--out", f"{base}/notes")
    assert (mine.exit_code, "no part of an audit" in mine.stderr) == (2, True)
    with open(f"{base}/notes", "rb") as file:
        assert file.read() == b"mine\n", "what is somebody's stays"
    write(corpus, "../plan", b"[]")
    odd = audit(corpus.registry, "--shard", "1/2", "--out", f"{base}/new", "--plan", f"{base}/plan")
    assert (odd.exit_code, "not the plan" in odd.stderr) == (2, True)


def test_a_plan_is_for_a_number_of_shares(corpus: Corpus) -> None:
    """Another number needs another plan."""
    plan = f"{os.path.dirname(corpus.registry)}/plan.json"
    share(corpus, 1, 3, "--plan", plan)
    result = audit(corpus.registry, "--shard", "1/2", "--out", f"{plan}.part", "--plan", plan)
    assert (result.exit_code, "the plan of 3 shares" in result.stderr) == (2, True)
