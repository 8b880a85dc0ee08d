"""Metrics and health of a real daemon, as monitoring sees them."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, eventually
from support.obstacles import immutable
from support.places import Users

TABLE = os.path.join(PROJECT_ROOT, "docs", "metrics.md")
QUIET = {"schedule_jitter": 0}


def families(daemon: RunningDaemon) -> dict[str, str]:
    """Names and types of all metrics, as Prometheus would be told of them."""
    found = re.findall(r"^# TYPE (\S+) (\S+)$", daemon.get("/metrics").data.decode(), flags=re.MULTILINE)
    assert len(found) == len(dict(found)), "a metric is there twice"
    return dict(found)


def value(daemon: RunningDaemon, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(daemon.get("/metrics").data.decode()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


def test_every_metric_is_in_the_table_and_the_other_way_round(daemon: RunningDaemon) -> None:
    with open(TABLE, encoding="utf-8") as file:
        table = file.read().partition("<!-- metrics: begin -->")[2].partition("<!-- metrics: end -->")[0]
    listed = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", table, flags=re.MULTILINE))
    assert families(daemon) == listed


def test_an_upload_moves_what_it_should(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(settings={**QUIET, "quota_enforced": True, "quota_baseline": 100})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"12345", "g": b"67"})
    daemon.upload("p/a/2", {"f": b"12345"})  # a link: a file, but no bytes
    assert daemon.ask("nonsense", {}).code == 400
    done = {"action": "upload", "outcome": "success", "code": "200"}
    # The response is told before it is counted.
    eventually(lambda: value(daemon, "gobblerd_requests_total", **done) == 2, "two uploads to be counted")
    other = {"action": "other", "outcome": "error", "code": "400"}
    eventually(lambda: value(daemon, "gobblerd_requests_total", **other) == 1, "the refusal to be counted")
    assert value(daemon, "gobblerd_request_duration_seconds_count", action="upload") == 2
    assert value(daemon, "gobblerd_taken_files_total") == 3
    assert value(daemon, "gobblerd_taken_bytes_total") == 7
    assert (value(daemon, "gobblerd_lock_wait_seconds_count") or 0) >= 3
    assert value(daemon, "gobblerd_queued_requests", lane="long") == 0
    assert value(daemon, "gobblerd_healthy") == 1
    assert (value(daemon, "gobblerd_filesystem_free_bytes", directory="registry") or 0) > 0


def test_how_full_the_projects_are(start_daemon: StartDaemon) -> None:
    settings = {**QUIET, "quota_enforced": True, "quota_baseline": 100, "quota_growth_rate": 0}
    daemon = start_daemon(settings=settings)
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"12345"})
    daemon.finish()
    daemon.start()  # the first figures are read at the first scrape
    eventually(lambda: value(daemon, "gobblerd_project_usage_bytes", project="p") == 5, "the usage")
    assert value(daemon, "gobblerd_project_quota_bytes", project="p") == 100
    assert value(daemon, "gobblerd_projects") == 1


def test_a_job_tells_when_it_last_ended_well(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(settings={**QUIET, "schedule_refresh_usage": "1"})
    daemon.done("create_project", {"project": "p"})
    name = "gobblerd_schedule_last_success_timestamp_seconds"
    eventually(lambda: value(daemon, name, schedule="refresh_usage"), "a run that ended well")
    assert (value(daemon, "gobblerd_schedule_runs_total", schedule="refresh_usage") or 0) >= 1
    assert value(daemon, "gobblerd_schedule_period_seconds", schedule="refresh_usage") == 1


def test_by_how_much_the_refresh_mended_the_usages(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(settings={**QUIET, "schedule_refresh_usage": "86400"})
    daemon.done("create_project", {"project": "p"})
    daemon.finish()
    with open(daemon.path("p", "..usage"), "w", encoding="utf-8") as file:
        file.write('{"total": 40}')
    with open(daemon.path("..transactions", "state", "refresh_usage.json"), "w", encoding="utf-8") as file:
        file.write('{"start": "2026-01-01T00:00:00Z"}')  # so long ago that a run was missed
    daemon.start()
    labels = {"schedule": "refresh_usage", "what": "mended_bytes"}
    eventually(lambda: value(daemon, "gobblerd_schedule_result", **labels) == 40, "the usage to be mended")


def test_metrics_may_be_read_by_any_page_and_asked_for_by_head(daemon: RunningDaemon) -> None:
    head, got = daemon.http("HEAD", "/metrics"), daemon.get("/metrics")
    assert (head.code, head.data) == (200, b"")
    for reply in (head, got):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert reply.headers["Content-Type"].startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text"}
    assert daemon.http("GET", "/metrics", accept).data.endswith(b"# EOF\n")


def test_prometheus_itself_can_read_them(daemon: RunningDaemon) -> None:
    """promtool finds nothing to complain of but what the client library names."""
    import pytest

    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (NOT TESTED on this run)")
    text = daemon.get("/metrics").data
    ran = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()


def test_health_tells_of_a_registry_that_was_taken_away(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    daemon.may_log_traceback = True
    eventually(lambda: daemon.get("/healthz").code == 200, "the daemon to be healthy")
    os.rename(daemon.registry, f"{daemon.registry}-away")
    eventually(lambda: daemon.get("/healthz").code == 503, "/healthz to say so")
    assert "the registry" in daemon.get("/healthz").json()["reason"]
    assert value(daemon, "gobblerd_healthy") == 0
    os.rename(f"{daemon.registry}-away", daemon.registry)
    eventually(lambda: daemon.get("/healthz").code == 200, "the daemon to be well again")


def test_health_tells_of_a_staging_directory_that_was_replaced(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    eventually(lambda: daemon.get("/healthz").code == 200, "the daemon to be healthy")
    os.rename(daemon.staging, f"{daemon.staging}-away")
    os.mkdir(daemon.staging)
    eventually(lambda: daemon.get("/healthz").code == 503, "/healthz to say so")
    eventually(lambda: b"was replaced or unmounted" in daemon.get("/healthz").data, "the reason")
    os.rmdir(daemon.staging)
    os.rename(f"{daemon.staging}-away", daemon.staging)
    eventually(lambda: daemon.get("/healthz").code == 200, "the daemon to be well again")


def test_health_tells_where_no_answer_can_be_written(start_daemon: StartDaemon) -> None:
    """As on a filesystem that went read-only: said once in the log, not in every round; then all is answered."""
    daemon = start_daemon()
    daemon.done("create_project", {"project": "p"})
    with immutable(Path(daemon.staging, "responses")):
        name = daemon.drop("create_project", {"project": "q"})
        eventually(lambda: b"no request can be answered" in daemon.get("/healthz").data, "/healthz to say so")
        eventually(lambda: daemon.logged().count('"again_in"') > 3, "some rounds to pass")
    assert daemon.wait(name).code == 200
    eventually(lambda: daemon.get("/healthz").code == 200, "the daemon to be well again")
    log = daemon.logged()
    assert log.count("no request can be answered") == log.count("serves as it should again") == 1
    assert log.count("the status in responses/ cannot be kept") <= 1


def test_a_request_names_its_requester_nowhere(daemon: RunningDaemon, users: Users) -> None:
    """Metrics are for everyone who can reach the port: no names of people in them."""
    daemon.done("health_check", {}, users.alice)
    assert users.alice not in daemon.get("/metrics").data.decode()
