"""The page over HTTP: who gets it, what it shows, what it escapes, and that it shows no more than readers may see."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rest import Answer, Server, serving

from gobblerd.service.web.page.page import prefers_page

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def put(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def add_project(root: Path, name: str, used: int) -> None:
    put(root / name / "..usage", {"total": used})
    put(root / name / "..quota", {"baseline": 1000, "growth_rate": 0, "year": 2020})
    put(root / name / "..permissions", {"owners": ["alice"], "uploaders": [{"id": "<bob>"}]})


def add_version(
    root: Path, place: str, *, on_probation: bool = False, time: str = "2026-11-20T10:37:45.5Z"
) -> None:
    summary = {"upload_user_id": "alice", "upload_start": time, "upload_finish": time}
    put(root / place / "..summary", {**summary, "on_probation": True} if on_probation else summary)
    put(root / place / "..manifest", {"x.txt": {"size": 3, "md5sum": "0" * 32}})
    (root / place / "x.txt").write_text("abc")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    add_project(tmp_path, "alpha", 900)
    add_project(tmp_path, "beta", 10)
    add_version(tmp_path, "alpha/data/1")
    add_version(tmp_path, "alpha/data/2", on_probation=True)
    put(tmp_path / "alpha/data/..latest", {"version": "1"})
    with serving(str(tmp_path)) as running:
        yield running


def look(server: Server, query: str = "") -> Answer:
    return server.ask(f"/{query}", headers=BROWSER)


def text_of(answer: Answer) -> str:
    """Return what a reader sees, without style and script."""
    bare = re.sub(r"<(style|script)>.*?</\1>", "", answer.body.decode(), flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", bare))


@pytest.mark.parametrize(
    ("path", "code", "title"),
    [("alpha/none", 404, "Not found"), ("alpha/data/1/x.txt", 400, "Cannot be shown")],
)
def test_an_error_has_the_title_of_its_kind(server: Server, path: str, code: int, title: str) -> None:
    """What is there, and is no place or cannot be read, is not said to be missing."""
    answer = look(server, f"?path={path}")
    assert answer.status == code
    assert answer.body.decode().count(title) == 2  # of the window, and of the page


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (BROWSER["Accept"], "page"),
        ("text/html", "page"),
        ("text/html;q=0.5, application/json", "JSON"),
        ("application/json, text/html;q=0.9", "JSON"),
        ("*/*", "JSON"),
        ("", "JSON"),
        ("text/html;q=0", "JSON"),
        ("text/html;q=x", "JSON"),
    ],
)
def test_browsers_get_the_page_and_programs_json(accept: str, answer: str) -> None:
    assert prefers_page(accept) is (answer == "page")


def test_the_root_is_both(server: Server) -> None:
    """Existing clients that take anything get what they always got."""
    assert server.ask("/").json.keys() == {"name", "url", "version"}
    assert server.ask("/").headers["Content-Type"] == "application/json"
    page = look(server)
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert page.headers["Vary"] == "Accept"


def test_projects_with_usage_and_quota(server: Server) -> None:
    shown = text_of(look(server))
    assert "2 projects" in shown
    assert "alpha 900 B 90 % of 1.00 kB 1 2" in shown


def test_a_search_keeps_what_contains_it(server: Server) -> None:
    shown = text_of(look(server, "?q=BET"))
    assert "beta" in shown
    assert "alpha" not in shown
    assert "No project has a name that contains" in text_of(look(server, "?q=%3Cx%3E"))


def test_from_project_to_file(server: Server) -> None:
    """Each page links to the next, down to the bytes."""
    path = "/?path=alpha"
    for expected in ("?path=alpha%2Fdata", "?path=alpha%2Fdata%2F1", "/fetch/alpha/data/1/x.txt"):
        body = server.ask(path, headers=BROWSER).body.decode()
        assert f'href="{expected}"' in body
        path = expected if expected.startswith("/") else f"/{expected}"
    assert server.ask(path).body == b"abc"


def test_versions_are_listed_newest_first_whatever_their_times_look_like(
    server: Server, tmp_path: Path
) -> None:
    """A Go service writes local time; what has no readable summary comes last."""
    add_version(tmp_path, "alpha/mixed/early", time="2026-03-01T10:00:00+02:00")
    add_version(tmp_path, "alpha/mixed/late", time="2026-03-01T09:00:00Z")
    put(tmp_path / "alpha/mixed/broken" / "..summary", {})
    shown = text_of(look(server, "?path=alpha/mixed"))
    assert shown.index("late") < shown.index("early") < shown.index("broken")


def test_a_version_says_who_when_and_how_much(server: Server) -> None:
    shown = text_of(look(server, "?path=alpha/data/1"))
    assert "latest" in shown
    assert "alice" in shown
    assert "2026-11-20 10:37:45 UTC" in shown
    assert "3 B in 1 file" in shown
    assert "on probation" in text_of(look(server, "?path=alpha/data/2"))


def test_what_waits_for_review(server: Server) -> None:
    shown = text_of(look(server, "?view=review"))
    assert "1 version on probation" in shown
    assert "alpha/data/2" in shown


def test_usage_is_ordered_by_size(server: Server) -> None:
    shown = text_of(look(server, "?view=usage"))
    assert shown.index("alpha") < shown.index("beta")
    assert "910 B in 2 projects" in shown


@pytest.mark.parametrize("view", ["activity", "schedules"])
def test_a_daemon_that_says_nothing_yet_can_be_looked_at(server: Server, view: str) -> None:
    assert look(server, f"?view={view}").status == 200


@pytest.mark.parametrize(
    "query",
    [
        "?path=nothing",
        "?path=alpha/..permissions",
        "?path=..",
        "?path=..%2F..%2Fetc",
        "?path=..transactions",
        "?path=..logs",
        "?path=alpha/data/1/x.txt/y",
        "?path=alpha/data/1/..manifest",
        "?path=.",
        "?path=%00",
        "?path=" + "x" * 5000,
        "?view=nonsense",
        "?view=%3Cscript%3E",
    ],
)
def test_what_is_not_there_is_said_on_a_page(server: Server, query: str) -> None:
    answer = look(server, query)
    assert answer.status in {400, 404}
    assert "All projects" in text_of(answer)
    assert b"<script>alert" not in answer.body


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    """Markup in names is shown, not obeyed; controls of direction cannot turn the rest of the line."""
    evil = '<img src=x onerror="alert(1)">'
    add_project(tmp_path, evil, 1)
    add_version(tmp_path, f"{evil}/{evil}/{evil}")
    add_project(tmp_path, "left\u202eright", 1)
    with serving(str(tmp_path)) as server:
        for query in (
            "",
            "?view=usage",
            "?q=%3Cimg",
            f"?path={'%3Cimg%20src%3Dx%20onerror%3D%22alert(1)%22%3E'}",
        ):
            body = look(server, query).body.decode()
            assert "<img" not in body
            assert "&lt;img src=x" in body
        assert "\u202e" not in look(server).body.decode()


def test_nothing_foreign_is_loaded(server: Server) -> None:
    """The policy allows the page's own style and script by their hashes, and requests to where it came from."""
    for view in ("projects", "usage", "review", "activity", "schedules"):
        answer = look(server, f"?view={view}")
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert not re.findall(r'(?:src|href)="(?:https?:)?//', answer.body.decode())


def test_problems_are_on_every_page(server: Server, tmp_path: Path) -> None:
    shown = look(server, "?path=alpha").body.decode()
    assert 'class="good"' in shown


def test_ten_thousand_projects(tmp_path: Path) -> None:
    """A hundred at a time; the search finds the one."""
    for n in range(10_000):
        (tmp_path / f"p{n:05d}").mkdir()
    with serving(str(tmp_path)) as server:
        first = look(server).body.decode()
        assert first.count('scope="row"') == 100
        assert "10,000 projects" in first
        assert "p09999" in text_of(look(server, "?page=100"))
        assert "1 project whose name contains" in text_of(look(server, "?q=04711"))
        assert look(server, "?page=5000").status == 200


def test_a_prefix_comes_before_what_leads_elsewhere(tmp_path: Path) -> None:
    add_project(tmp_path, "alpha", 1)
    add_version(tmp_path, "alpha/data/1")
    with serving(str(tmp_path), prefix="/gobbler") as server:
        for root in ("/gobbler", "/gobbler/"):
            body = server.ask(f"{root}?path=alpha/data/1", headers=BROWSER).body.decode()
            assert 'href="/gobbler/fetch/alpha/data/1/x.txt"' in body
            assert 'href="/gobbler/docs"' in body


STATUS = {
    "state": "serving",
    "problems": ["the watcher does not work: <limit reached>"],
    "spool": {
        "running": {"short": 1, "long": 2},
        "queued": {"short": 0, "long": 3},
        "oldest_seconds": 90.0,
        "overflowed": True,
        "unwritten": 1,
        "at_hand": [
            {
                "name": "request-upload-<7>",
                "user": "alice",
                "action": "upload",
                "state": "running",
                "seconds": 90.0,
                "bytes_done": 500,
                "bytes_total": 2000,
            }
        ],
        "recent": [
            {
                "name": "request-reroute_links-8",
                "user": "bob",
                "action": "reroute_links",
                "code": 403,
                "seconds": 0.012,
                "finished": "2026-11-20T10:37:45.5Z",
                "reason": "not an administrator",
            }
        ],
    },
    "schedules": [
        {
            "name": "scrub",
            "when": "0 1 * * *",
            "next_run": "2026-11-21T01:00:00Z",
            "running": True,
            "last": {
                "start": "2026-11-20T01:00:00Z",
                "finish": "2026-11-20T01:10:00Z",
                "outcome": "done",
                "reason": "",
                "seconds": 600.0,
                "numbers": {"read_bytes": 5e9, "faults": 1, "notices": 0},
                "facts": {
                    "findings": [
                        {"path": "p/a/1/<f>", "kind": "wrong size", "expected": "3", "found": "4"},
                    ],
                    "failed": ["p/b"],
                    "mended": [{"place": "p", "stored": 1, "right": 2}],
                },
            },
        },
        {"name": "purge", "when": "", "next_run": None, "running": False, "last": None},
    ],
}


def test_what_the_daemon_does_is_told(tmp_path: Path) -> None:
    """Queue, a long request's progress, recent outcomes with their reasons, and what is wrong."""
    with serving(str(tmp_path), status=lambda: STATUS) as server:
        answer = look(server, "?view=activity")
        shown = text_of(answer)
        assert "request-upload-&lt;7&gt; alice upload running 500 B of 2.00 kB 1.5 min" in shown
        assert (
            "request-reroute_links-8 bob reroute_links 403 not an administrator 2026-11-20 10:37:45 UTC 12 ms"
            in shown
        )
        assert "More requests lie in staging" in shown
        assert "1 response could not be written" in shown
        assert "the watcher does not work: &lt;limit reached&gt;" in shown
        assert 'class="bad"' in answer.body.decode()


def test_jobs_and_their_findings_are_told(tmp_path: Path) -> None:
    """When, how the last run ended, its numbers, and each finding with path, expectation and what was found."""
    with serving(str(tmp_path), status=lambda: STATUS) as server:
        shown = text_of(look(server, "?view=schedules"))
    assert "Scrub running When 0 1 * * * Next run 2026-11-21 01:00:00 UTC" in shown
    assert "done 2026-11-20 01:10:00 UTC, took 10.0 min" in shown
    assert "Read 5.00 GB Faults 1" in shown
    assert "p/a/1/&lt;f&gt; wrong size 3 4" in shown
    assert "Failed p/b" in shown
    assert re.search(r"Mended place: p , stored: 1 , right: 2", shown)
    assert "Purge When off Next run \u2013 Last run never" in shown
