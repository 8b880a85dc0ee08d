"""examples/monitoring/: what dashboard and rules speak of exists, promtool agrees, and a real Prometheus scrapes it."""

import json
import os
import re
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.daemon import PROJECT_ROOT, RunningDaemon, StartDaemon, eventually, free_port

MONITORING = os.path.join(PROJECT_ROOT, "examples", "monitoring")
_NAME = re.compile(r"\b((?:gobblerd|process|python)_[a-z_]+)")
_PARTS = re.compile(r"_(bucket|sum|count)$")


def text_of(name: str) -> str:
    with open(os.path.join(MONITORING, name), encoding="utf-8") as file:
        return file.read()


def expressions() -> list[str]:
    """What the dashboard asks for, its variables filled in."""
    dashboard = json.loads(text_of("dashboard.json"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    return [expression.replace("$instance", ".*") for expression in asked]


def promtool(*arguments: str) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (NOT TESTED on this run)")
    ran = subprocess.run([program, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_dashboard_and_rules_speak_of_metrics_that_a_daemon_has(daemon: RunningDaemon) -> None:
    offered = set(re.findall(r"^# TYPE (\S+)", daemon.get("/metrics").data.decode(), flags=re.MULTILINE))
    for source in (text_of("rules.yml"), "\n".join(expressions())):
        used = {_PARTS.sub("", name) for name in _NAME.findall(source)}
        assert len(used) > 10
        assert used <= offered


def test_promtool_accepts_the_rules_and_they_fire_as_they_should() -> None:
    promtool("check", "rules", "rules.yml")
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules.test.yml")


def test_every_alert_is_tried_and_explained() -> None:
    alerts = re.findall(r"- alert: (\w+)", text_of("rules.yml"))
    assert len(alerts) == len(set(alerts))
    tried = set(re.findall(r"alertname: (\w+)\s+exp_alerts:\s+(?:\[\{|- )", text_of("rules.test.yml")))
    assert tried == set(alerts)
    with open(os.path.join(PROJECT_ROOT, "docs", "alerts.md"), encoding="utf-8") as file:
        table = file.read().partition("<!-- alerts: begin -->")[2].partition("<!-- alerts: end -->")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == alerts


def test_what_the_dashboard_asks_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": asked} for number, asked in enumerate(expressions())]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "panels.yml"))


def test_the_dashboard_names_each_panel_once() -> None:
    panels = json.loads(text_of("dashboard.json"))["panels"]
    for key in ("id", "title"):
        assert len({panel[key] for panel in panels}) == len(panels)


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[str]:
    """Run a real Prometheus with our configuration, on this daemon, scraping every second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (NOT TESTED on this run)")
    config = text_of("prometheus.yml").replace("localhost:8080", f"127.0.0.1:{target}").replace("30s", "1s")
    (directory / "prometheus.yml").write_text(config)
    (directory / "rules.yml").write_text(text_of("rules.yml"))
    address = f"127.0.0.1:{free_port()}"
    options = [f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data"]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [program, *options, f"--web.listen-address={address}"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(60)


def ask(server: str, path: str, **query: str) -> Any:
    with urllib.request.urlopen(
        f"{server}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=60
    ) as reply:
        return json.load(reply)["data"]


def scraped(server: str) -> bool:
    try:
        found = ask(server, "query", query='up{job="gobblerd"}')["result"]
    except OSError:
        return False
    return bool(found) and found[0]["value"][1] == "1"


def test_a_real_prometheus_scrapes_a_daemon(start_daemon: StartDaemon, tmp_path: Path) -> None:
    """Everything arrives, no label is renamed for a clash, every rule and panel can be evaluated."""
    daemon = start_daemon(settings={"quota_enforced": True})
    daemon.done("create_project", {"project": "p"})
    daemon.upload("p/a/1", {"f": b"12345"})
    with prometheus(tmp_path, daemon.port) as server:
        eventually(lambda: scraped(server), "a scrape that went well")
        series = ask(server, "series", **{"match[]": '{job="gobblerd"}'})
        assert not [each for each in series if any(label.startswith("exported_") for label in each)]
        eventually(
            lambda: (
                ask(server, "query", query='gobblerd_taken_bytes_total{job="gobblerd"}')["result"][0][
                    "value"
                ][1]
                == "5"
            ),
            "the bytes to arrive",
        )
        for asked in expressions():
            ask(server, "query", query=asked)
        rules = [rule for group in ask(server, "rules")["groups"] for rule in group["rules"]]
        assert len(rules) == text_of("rules.yml").count("- alert:")
        eventually(
            lambda: all(
                rule["health"] == "ok" for group in ask(server, "rules")["groups"] for rule in group["rules"]
            ),
            "every rule to be evaluated",
            120,
        )
