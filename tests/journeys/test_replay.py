"""The requests that made the Go service's registry, asked again of gobblerd: same answers, same registry.

Where spec/ asks for something else than Go did, the difference is listed here with the sentence that asks for
it; nothing else may differ.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest
from support.checker import assert_clean
from support.corpus import WHITELISTED_FILE, exchanges, make_whitelisted, unpack
from support.daemon import Answer, RunningDaemon, StartDaemon
from support.documents import events
from support.places import Symlink, Tree, Users, open_directory

RECORDED = exchanges()
REQUESTS = list(enumerate(RECORDED["requests"]))
CAROLS: Tree = {"f": b"carol\n", "link": Symlink("REGISTRY/beta/data/v1/f")}

# What was uploaded: what the corpus holds of it, or, where nothing is left, what the exchanges tell.
SOURCES: Mapping[str, Tree] = {
    "up5_1": {
        ".dot": b"hidden\n",
        "d/e/deep.txt": b"deep\n",
        "d/empty/x": None,
        "same1": b"same\n",
        "same2": b"same\n",
        "top.txt": b"one\n",
        "unicode-\u00e9-\u65e5\u672c": b"u\n",
    },
    "up6_2": {
        "d/e/deep.txt": b"deep changed\n",
        "moved/same": b"same\n",
        "new": b"new\n",
        "top.txt": b"one\n",
    },
    "up7_3": {
        "chain": Symlink("local"),
        "link-to-v1": Symlink("REGISTRY/alpha/a/1/d/e/deep.txt"),
        "link-to-v2": Symlink("REGISTRY/alpha/a/2/top.txt"),
        "local": Symlink("new"),
        "new": b"brand new\n",
        "sub/up": Symlink("../new"),
        "top.txt": b"one\n",
    },
    "up8_1": {
        "cross": Symlink("REGISTRY/alpha/a/3/link-to-v2"),
        "own": b"own\n",
        "w": Symlink(f"WHITELISTED/{WHITELISTED_FILE}"),
    },
    "up9_4": {"bad": Symlink("/etc/passwd")},
    "up10_1": {"f": b"again\n"},
    "up11_1": {"keep": b"k\n", ".ignored": b"i\n", ".git/config": b"c\n"},
    "up12_v1": {"f": b"bob\n"},
    "up13_v1": {"f": b"bob\n"},
    "up14_v1": {"f": b"carol\n", "g/h": b"carol 2\n"},
    "up15_v2": CAROLS,
    "up17_v2": CAROLS,
    "up18_v3": {"p": b"probation\n"},
    "up19_v4": {"q": b"rejected\n"},
    "up22_1": {"f": b"mine\n"},
    "up23_2": {"f": b"not mine\n"},
    "up32_1": {"f": b"to be deleted\n"},
    "up33_1": {"from-gone": Symlink("REGISTRY/gone/x/1/f")},
    "up34_2": {"again": Symlink("REGISTRY/alpha/d/1/from-gone")},
    "up38_1": {"f": b"e\n"},
    "up39_2": {"f": b"e, second\n"},
    "up41_1": {"f": b"f\n"},
}

USER_MISTAKE = 'requests.md, Responses: "A mistake of the user\'s is never a 5xx."'
OTHER_CODES = {9: (400, USER_MISTAKE), 15: (400, USER_MISTAKE), 21: (400, USER_MISTAKE)}
# Reasons are worded differently; each must name the thing at fault. USER stands for who asked.
NAMED = {
    3: r"alpha.*exists",
    4: r"project.*\.\.x",
    9: r"\bbad\b",
    10: r'("1"|alpha/a/1).*exists|exists.*alpha/a/1',
    13: r"USER.*beta",
    15: r"\blink\b.*",
    21: r"probation",
    23: r"USER.*open",
    24: r"USER.*beta",
    45: r"nonsense",
}


class Replayed(NamedTuple):
    """The answers in order, and the two registries."""

    answers: list[Answer]
    daemon: RunningDaemon
    users: Mapping[str, str]  # the corpus's names -> this machine's
    ours: str
    theirs: str
    whitelisted: tuple[str, str]


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Replace each string that is a user's name, anywhere in a JSON value."""
    if isinstance(value, dict):
        return {key: renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def placed(tree: Tree, places: Mapping[str, str]) -> Tree:
    """Put real paths for the placeholders of a tree's links."""

    def real(target: str) -> str:
        first, slash, rest = target.partition("/")
        return places.get(first, first) + slash + rest

    return {path: Symlink(real(c.target)) if isinstance(c, Symlink) else c for path, c in tree.items()}


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="module")
def replayed(base: str, start_module_daemon: StartDaemon, users: Users) -> Replayed:
    corpus = unpack(base)
    os.mkdir(os.path.join(base, "here"), 0o755)
    whitelisted = make_whitelisted(os.path.join(base, "here"))
    with open(os.path.join(base, "whitelist"), "w", encoding="utf-8") as file:
        file.write(f"{whitelisted}\n")
    daemon = start_module_daemon(options=["-whitelist", os.path.join(base, "whitelist")])
    names = {"alice": users.alice, "bob": users.bob, "carol": users.carol}
    places = {"REGISTRY": daemon.registry, "WHITELISTED": whitelisted}
    answers = []
    for _, exchange in REQUESTS:
        user = names.get(exchange["user"], exchange["user"])
        if source := exchange["request"].get("source"):
            daemon.source(placed(SOURCES[source], places), user, source)
        answers.append(daemon.ask(exchange["action"], renamed(exchange["request"], names), user))
    return Replayed(
        answers, daemon, names, daemon.registry, corpus.registry, (whitelisted, corpus.whitelisted)
    )


@pytest.mark.parametrize(("number", "exchange"), REQUESTS, ids=[f"{n}-{e['action']}" for n, e in REQUESTS])
def test_same_answer(replayed: Replayed, number: int, exchange: dict[str, Any]) -> None:
    """Each request is answered as Go answered it, apart from the codes listed and the wording of reasons."""
    answer = replayed.answers[number]
    code, _ = OTHER_CODES.get(number, (exchange["code"], ""))
    assert answer.code == code, answer
    if code == 200:
        assert answer.body == exchange["response"]
        return
    assert answer.body.keys() == {"status", "reason"}
    assert answer.body["status"] == "ERROR"
    user = replayed.users.get(exchange["user"], exchange["user"])
    assert re.search(NAMED[number].replace("USER", re.escape(user)), answer.reason), answer.reason


# ---- the registry

NOT_COMPARED = {
    "..LOCK": "registry.md, Lock files: created on demand",
    "..LOCK_NEWDIR": "registry.md, Lock files: created on demand",
    "..LOCK_USAGE": "registry.md, Lock files: created on demand",
    "..transactions": "registry.md, Layout: gobblerd's own",
    "..checksums": "registry.md, Layout: gobblerd's own, optional",
    "..logs": "compared below, as what was logged: names are times and random digits",
}


def documents_of(registry: str) -> dict[str, Any]:
    """Return each path with what is there, JSON documents parsed (formatting is not compared)."""
    found: dict[str, Any] = {}
    for directory, subdirectories, names in os.walk(registry):
        subdirectories[:] = [name for name in subdirectories if name not in NOT_COMPARED]
        for name in (*names, *subdirectories):
            if name not in NOT_COMPARED:
                full = os.path.join(directory, name)
                found[os.path.relpath(full, registry)] = what_is_at(full)
    return found


def what_is_at(path: str) -> Any:
    if os.path.islink(path):
        return Symlink(os.readlink(path))
    if os.path.isdir(path):
        return None
    with open(path, "rb") as file:
        data = file.read()
    return json.loads(data) if os.path.basename(path).startswith("..") else data


def first_by_path(found: dict[str, Any]) -> None:
    link = found["alpha/a/2/..manifest"]["moved/same"]["link"]
    assert link["path"] == "same2"
    link["path"] = found["alpha/a/2/moved/..links"]["same"]["path"] = "same1"
    found["alpha/a/2/moved/same"] = Symlink("../../1/same1")


def no_null(found: dict[str, Any]) -> None:
    assert found["open/mine/..permissions"]["uploaders"] is None
    found["open/mine/..permissions"]["uploaders"] = []


# What spec/ asks for instead of what Go wrote: the sentence, and the change to Go's registry.
DIFFERENCES: dict[str, Callable[[dict[str, Any]], None]] = {
    "requests.md, Upload: of several equal files, the first by path": first_by_path,
    'http.md: "permissions" always have owners and uploaders as arrays, never null': no_null,
}


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    """Put a word for each time, and for the year of each quota."""
    for path, document in found.items():
        if path.endswith("/..summary"):
            document.update(upload_start="TIME", upload_finish="TIME")
        if path.endswith("/..quota"):
            document.update(year="YEAR")
    return found


def test_same_registry(replayed: Replayed) -> None:
    """The registry is the same, file by file and value by value, apart from the differences listed."""
    theirs = renamed(without_times(documents_of(replayed.theirs)), replayed.users)
    for change in DIFFERENCES.values():
        change(theirs)
    ours = without_times(documents_of(replayed.ours))
    here, there = replayed.whitelisted
    theirs["alpha/b/1/w"] = Symlink(theirs["alpha/b/1/w"].target.replace(there, here))
    assert ours.keys() == theirs.keys()
    for path, expected in theirs.items():
        assert ours[path] == expected, path


def test_same_events(replayed: Replayed) -> None:
    """The same events were logged, each once."""
    assert events(replayed.ours) == events(replayed.theirs)


def test_clean(replayed: Replayed) -> None:
    """What we wrote has exactly the documented keys, modes and links."""
    assert_clean(replayed.ours, whitelist=replayed.whitelisted[:1])


# ---- reads


def test_same_reads(replayed: Replayed) -> None:
    """The same files are listed and fetched; lock files are hidden, errors are JSON."""
    get = replayed.daemon.get
    root, version, manifest, file, absent, outside = ((get(read["url"]), read) for read in RECORDED["reads"])
    assert all(reply.code == read["code"] for reply, read in (root, version, manifest, file, absent, outside))
    hidden = {"..LOCK", "..LOCK_NEWDIR"}  # details.md, REST: "except lock files, transactions and the marker"
    assert sorted(root[0].json()) == sorted(set(json.loads(root[1]["body"])) - hidden)
    assert sorted(set(version[0].json()) - {"..checksums"}) == sorted(json.loads(version[1]["body"]))
    assert manifest[0].json() == json.loads(manifest[1]["body"])
    assert file[0].data.decode() == file[1]["body"]
    assert file[0].headers["Content-Type"].startswith("text/plain")
    for reply, _ in (absent, outside):
        assert reply.headers["Content-Type"] == "application/json"
        assert reply.json()["status"] == "ERROR"
        assert reply.json()["reason"]
    assert "path" in outside[0].json()["reason"]
