"""SIGHUP: a running daemon takes over what changed in its configuration, or nothing of it."""

import json
import os
import signal
from pathlib import Path

from support.daemon import RunningDaemon, StartDaemon, eventually


def test_sighup_reloads_and_serves_on(start_daemon: StartDaemon) -> None:
    """SIGHUP takes over what changed in the configuration; a broken one leaves the old in force."""
    daemon = start_daemon(settings={})
    pid = daemon.pid
    assert daemon.ask("create_project", {"project": "p1"}, 61001).code == 403
    daemon.write_settings({"administrators": ["61001", "root"]})
    os.kill(pid, signal.SIGHUP)
    eventually(
        lambda: daemon.ask("refresh_usage", {"project": "none"}, 61001).code == 404,
        "the new administrator to be known",
    )
    daemon.done("create_project", {"project": "p1"}, 61001)

    daemon.write_settings({"administrators": [], "no_such_setting": 1})
    os.kill(pid, signal.SIGHUP)
    eventually(lambda: "no_such_setting" in daemon.logged(), "the log to say what is wrong")
    daemon.done("create_project", {"project": "p2"}, 61001)
    assert daemon.alive
    assert daemon.pid == pid


def test_a_reload_takes_over_the_marker_and_how_to_watch_at_once(start_daemon: StartDaemon) -> None:
    """Not at the next restart, nor at the next sweep, which may be half a minute away."""
    daemon = start_daemon(settings={"watch": "sweep", "sweep_interval_remote": 100})
    daemon.write_settings({"watch": "events", "require_marker": True})
    os.kill(daemon.pid, signal.SIGHUP)
    eventually(lambda: 'configuration says \\"events' in daemon.logged(), "events")
    assert "marker" in daemon.ask("create_project", {"project": "p"}).reason
    eventually(lambda: b"marker" in daemon.get("/healthz").data, "/healthz to say so")


def blocks(pid: int, number: int) -> bool:
    """Tell whether a process lets a signal wait."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        (mask,) = (line.split()[1] for line in file if line.startswith("SigBlk"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_sighup_while_it_starts_is_a_reload_too(start_daemon: StartDaemon) -> None:
    """Whoever restarts and reloads in one breath finds it serving, with the newest configuration."""
    daemon = start_daemon(serving=False, settings={"schedule_purge": "3600"})
    process = daemon.spawn()
    lock = f"{daemon.staging}/responses/.daemon"
    eventually(lambda: blocks(process.pid, signal.SIGHUP) or os.path.exists(lock), "it to have begun")
    daemon.write_settings({"schedule_purge": "7200"})
    process.send_signal(signal.SIGHUP)
    eventually(lambda: "the configuration was reloaded" in daemon.logged(), "the reload")
    assert daemon.alive
    eventually(lambda: planned(daemon).get("purge") == "7200", "the new schedule")


def planned(daemon: RunningDaemon) -> dict[str, str]:
    """Return when each job runs, by the daemon's own word."""
    path = Path(daemon.staging, "responses/.status.json")
    schedules = json.loads(path.read_bytes())["schedules"] if path.exists() else []
    return {each["name"]: each["when"] for each in schedules}
