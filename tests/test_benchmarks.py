"""benchmarks/: every workload runs against a real daemon and finds its answers right; no time is asserted."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.command import WORKLOADS
from benchmarks.results import Row
from benchmarks.servers import ServerCommand
from benchmarks.workload import Measure

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OURS = f"{sys.executable} -m gobblerd serve"
SCALE = "0.002"

# The Go service's API as far as these tests go: it refuses everything, or accepts all, and sees no drops.
FAKE = """
import http.server, json, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self):
        body = json.dumps({"status": sys.argv[1], "reason": "no"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer

port = int(sys.argv[sys.argv.index("-port") + 1])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""

Run = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the benchmarks; returns exit status, JSON report, table."""

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        report, table = tmp_path / "report.json", tmp_path / "table.md"
        where = ("--scratch", str(tmp_path), "--no-mount", "--json", str(report), "--table", str(table))
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks", "--scale", SCALE, *where, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert report.exists(), done.stderr
        return done.returncode, json.loads(report.read_text()), table.read_text()

    return run


def fake(tmp_path: Path, name: str, status: str) -> str:
    path = tmp_path / "fake.py"
    path.write_text(FAKE)
    return f"{name}={sys.executable} {path} {status}"


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_ends_with_right_answers_and_all_its_figures(run: Run, name: str) -> None:
    status, report, table = run("--rounds", "1", "--no-memory", "--no-limits", name)
    assert (status, report["problems"]) == (0, []), table
    assert [row["key"] for row in report["rows"]] == [each.key for each in WORKLOADS[name].measures]
    for row in report["rows"]:
        (server,) = row["servers"].values()
        assert len(server["values"]) == 1


def test_servers_and_ways_are_compared_in_every_round(run: Run) -> None:
    servers = ("--server", f"one={OURS}", "--server", f"two={OURS} --log-level error")
    status, report, table = run(*servers, "--rounds", "2", "--by", "rest,drop", "W1")
    assert (status, report["problems"]) == (0, []), table
    (row,) = report["rows"]
    assert list(row["servers"]) == ["one", "two", "one (drop)", "two (drop)"]
    for server in row["servers"].values():
        assert len(server["values"]) == len(server["times_go"]) == len(server["times_first"]) == 2
    assert row["servers"]["one"]["median_times_first"] == 1
    assert {"cp -r", "md5sum"} <= row["limits"].keys() <= {"cp -r", "rsync -a", "md5sum", "xxhsum -H2"}
    assert all(peak > 0 for peak in report["memory_bytes"]["W1"].values())
    assert report["complete"]
    assert {"processor", "cores", "kernel", "filesystem"} <= report["machine"].keys()
    assert report["calibration"]["reference_seconds"] == {"md5sum": 1.59, "cp -r": 0.285}
    assert table.count("| W1 upload") == 4
    assert "peak memory" in table


def test_a_server_that_syncs_nothing_takes_part_only_where_that_is_compared(run: Run) -> None:
    """No figure may be bought with durability."""
    servers = ("--server", f"full={OURS}", "--server", f"process={OURS} --durability process")
    status, report, _ = run(*servers, "--rounds", "1", "--no-memory", "--no-limits", "W1", "W6")
    assert status == 0
    assert [list(row["servers"]) for row in report["rows"]] == [["full"], ["full", "process"]]


def test_the_table_goes_between_the_marks_of_a_page(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    _, _, table = run("--rounds", "1", "--no-memory", "--into", str(page), "start")
    text = page.read_text()
    assert text.startswith("before\n<!-- table: begin -->\n")
    assert text.endswith("\n<!-- table: end -->\nafter\n")
    assert table.strip() in text
    assert "old" not in text
    assert "GiB of memory" in text


def test_a_wrong_answer_is_told_and_fails(run: Run, tmp_path: Path) -> None:
    status, report, table = run(
        "--server", fake(tmp_path, "wrong", "ERROR"), "--rounds", "1", "--no-memory", "W6"
    )
    assert status == 1
    assert "create_project was answered" in report["problems"][0]
    assert "WRONG: W6 by wrong" in table
    assert report["rows"][0]["servers"] == {}


def test_a_server_that_sees_no_drops_has_no_figures_for_them(run: Run, tmp_path: Path) -> None:
    server = fake(tmp_path, "go", "SUCCESS")
    status, report, _ = run("--server", server, "--rounds", "1", "--no-memory", "drop", "start")
    assert (status, report["problems"]) == (0, [])
    drop, start = report["rows"][0], report["rows"][-1]
    assert (drop["workload"], drop["servers"]) == ("drop", {})
    assert start["servers"]["go"]["values"][0] > 0


def test_nothing_is_left_in_scratch(run: Run, tmp_path: Path) -> None:
    run("--rounds", "1", "--no-memory", "start")
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "table.md"}


def test_more_than_go_is_a_shorter_time_and_a_greater_rate() -> None:
    time, rate = Measure("t", "s", go=2.0, reach=4), Measure("r", "/s", go=100, reach=2, reach_full=0.5)
    assert time.times(0.5, time.go_here(factor=2, scale=0.5) or 0) == 4
    assert rate.times(100, rate.go_here(factor=2, scale=0.5) or 0) == 2


@pytest.mark.parametrize(("value", "full", "short"), [(90, True, False), (90, False, True), (40, True, True)])
def test_what_is_to_be_reached_may_differ_with_durability(
    value: float,
    *,
    full: bool,
    short: bool,
) -> None:
    row = Row("W6", "", Measure("r", "/s", go=100, reach=1, reach_full=0.5), go_here=[100])
    row.add("ours", value, None)
    assert row.falls_short("ours", full=full) is short


def test_a_bound_needs_no_go_service() -> None:
    row = Row("start", "", Measure("s", most=0.6))
    row.add("quick", 0.5, None)
    row.add("slow", 0.7, None)
    assert not row.falls_short("quick", full=True)
    assert row.falls_short("slow", full=True)


def test_a_server_is_named_by_its_program_unless_it_is_given_a_name() -> None:
    assert ServerCommand.parse("/opt/gobbler -x 'a b'") == ServerCommand(
        "gobbler", ("/opt/gobbler", "-x", "a b")
    )
    assert ServerCommand.parse("new=a --b=c").name == "new"
    assert ServerCommand.parse("a serve --durability process").is_process_durable
    assert not ServerCommand.parse("a serve").is_process_durable


def test_growth_is_measured_at_each_size_with_right_answers(tmp_path: Path) -> None:
    report = tmp_path / "growth.json"
    done = subprocess.run(
        [
            *f"{sys.executable} -m benchmarks.growth --sizes 0.002,0.004 --no-mount --json {report}".split(),
            "--scratch",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    series = json.loads(report.read_text())["series"]
    assert [point["entries"] for point in series["projects"]] == [1000, 1000]  # one project at the least
    assert [point["entries"] for point in series["one manifest"]] == [125, 250]
    for point in (*series["projects"], *series["one manifest"]):
        operations = ["start", "small upload", "refresh", "list", "reroute", "scrub pass", "audit"]
        assert list(point["figures"]) == operations
        assert all(figure["seconds"] > 0 and figure["peak_mib"] > 0 for figure in point["figures"].values())
    assert "| small upload |" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["growth.json"]
