"""`python -m benchmarks.growth`: what grows with the registry, and what does not.

Two series: a registry of more and more projects, and one version with more and more files; at size 16 each
has 1,000,000 manifest entries. Start and a small upload must cost the same at every size. A scrub pass reads
everything once, as the nightly ones do by parts. Memory is that of the process tree (sum of PSS): the peak
during an operation, and what is left a little later.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.asking import WrongAnswer, require
from benchmarks.data import write_files
from benchmarks.grown import Shape, many_projects, one_manifest, write_grown
from benchmarks.machine import described
from benchmarks.processes import MIB, PeakMemory, pss
from benchmarks.runner import say
from benchmarks.scratch import GIB, remove, scratch, settle
from benchmarks.servers import Server, ServerCommand
from benchmarks.workload import Run, Workshop

_OURS = [sys.executable, "-m", "gobblerd"]
_SMALL_UPLOADS = 9
_STARTS = 3
_SETTLED_AFTER = 2.0  # seconds until memory counts as what is left
_SCRUB = shlex.split(  # everything in one run, as fast as it goes, soon after the start
    "--schedule-scrub 2 --schedule-jitter 0 --scrub-bytes-per-run 1000000000000 --scrub-bytes-per-second 0"
)
_SCRUBBED_WITHIN = 3600.0  # seconds
_LOOK_EVERY = 0.5  # seconds
SERIES: Mapping[str, Callable[[float], Shape]] = {"projects": many_projects, "one manifest": one_manifest}

Figure = dict[str, float]  # seconds, peak_mib, left_mib


def main(args: Sequence[str] | None = None) -> int:
    """Measure, and write the JSON from which `benchmarks.plot` draws."""
    options = _parser().parse_args(args)
    os.makedirs(options.scratch, exist_ok=True)
    largest = max(options.sizes)
    with scratch(options.scratch, round((2 + largest * 0.75) * GIB), mounted=not options.no_mount) as place:
        report: dict[str, Any] = {"format": 1, "machine": described(place.what), "series": {}}
        for name, shape_of in SERIES.items():
            report["series"][name] = [
                _measured(place.path, name, size, shape_of(size), options) for size in options.sizes
            ]
    text = json.dumps(report, indent=1)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    print(table(report))
    return 0


def _measured(path: str, name: str, size: float, shape: Shape, options: argparse.Namespace) -> dict[str, Any]:
    registry, staging = os.path.join(path, "registry"), os.path.join(path, "staging")
    say(f"{name} x {size:g}: writing {shape.entries} entries")
    write_grown(registry, shape)
    os.mkdir(staging)
    os.chmod(staging, 0o1777)
    settle(path)
    server = Server(options.server, staging, registry, os.path.join(path, "log"))
    run = Run(Workshop(path, 1), path, options.server, server)
    try:
        figures = _all_figures(run, shape, options)
    finally:
        run.close()
        server.stop()
        for each in (registry, staging):
            remove(each)
    return {"size": size, "entries": shape.entries, "figures": figures}


def _all_figures(run: Run, shape: Shape, options: argparse.Namespace) -> dict[str, Figure]:
    figures: dict[str, Figure] = {"start": _start(run)}

    def note(name: str, act: Callable[[], float]) -> None:
        with PeakMemory(run.server.pid) as peak:
            seconds = act()
        time.sleep(_SETTLED_AFTER)
        left = pss(run.server.pid)
        figures[name] = {"seconds": seconds, "peak_mib": peak.bytes / MIB, "left_mib": left / MIB}
        say(f"  {name}: {seconds:.4g} s, peak {peak.bytes / MIB:.0f} MiB, then {left / MIB:.0f} MiB")

    note("small upload", lambda: _small_uploads(run))
    note("refresh", lambda: _refresh(run, shape))
    note("list", lambda: _list(run, shape))
    note("reroute", lambda: _reroute(run))
    run.server.stop()
    figures["scrub pass"] = _scrubbed(options.scrub, run, shape)
    seconds, peak = _audited(options.audit, run.server.registry)
    figures["audit"] = {"seconds": seconds, "peak_mib": peak / MIB}
    say(f"  audit: {seconds:.4g} s, peak {peak / MIB:.0f} MiB")
    return figures


def _start(run: Run) -> Figure:
    seconds = []
    for _ in range(_STARTS):
        run.server.stop()
        seconds.append(run.server.start())
    memory = pss(run.server.pid) / MIB
    say(f"  start: {sorted(seconds)[_STARTS // 2]:.4g} s, {memory:.0f} MiB")
    return {"seconds": sorted(seconds)[_STARTS // 2], "peak_mib": memory, "left_mib": memory}


def _small_uploads(run: Run) -> float:
    """Upload one file at a time, to an asset of its own; return the median seconds."""
    seconds = []
    for number in range(_SMALL_UPLOADS):
        write_files(run.staged(f"source-{number}"), 1, 1000, seed=number)
        place = {"project": "p0", "asset": f"small-{number}", "version": "1"}
        began = time.perf_counter()
        run.desk.ask("upload", **place, source=f"source-{number}")
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[_SMALL_UPLOADS // 2]


def _refresh(run: Run, shape: Shape) -> float:
    """Refresh the usage of all projects, one after the other."""
    began = time.perf_counter()
    for project in range(shape.projects):
        total = run.desk.ask("refresh_usage", project=f"p{project}")["total"]
        added = 0 if project else _SMALL_UPLOADS * 1000
        require(total, shape.project_bytes + added, f"usage of p{project}")
    return time.perf_counter() - began


def _list(run: Run, shape: Shape) -> float:
    began = time.perf_counter()
    body = run.desk.get("/list?recursive=true")
    seconds = time.perf_counter() - began
    require(body.count(b"/file-"), shape.entries, "files listed")
    return seconds


def _reroute(run: Run) -> float:
    """Ask what deleting one project would change, which is nothing: every manifest must be looked at."""
    began = time.perf_counter()
    answer = run.desk.ask("reroute_links", to_delete=[{"project": "p0"}], dry_run=True)
    require(answer["changes"], [], "changes")
    return time.perf_counter() - began


def _scrubbed(command: ServerCommand, run: Run, shape: Shape) -> Figure:
    """Have a server read everything again in one scheduled scrub; the seconds are its own."""
    server = Server(command, run.server.staging, run.server.registry, f"{run.server.registry}.scrub-log")
    try:
        server.start()
        with PeakMemory(server.pid) as peak:
            last = _last_scrub(server)
        server.stop()
    finally:
        server.stop()
    numbers = last["numbers"]
    require(numbers["faults"] + numbers["unchecked"], 0, "faults, and places that were not scrubbed")
    require(numbers["places"] >= shape.projects * shape.versions, True, "every version scrubbed")
    say(f"  scrub pass: {last['seconds']:.4g} s, peak {peak.bytes / MIB:.0f} MiB")
    return {"seconds": last["seconds"], "peak_mib": peak.bytes / MIB}


def _last_scrub(server: Server) -> dict[str, Any]:
    """Wait until a scrub is done, and return what the server's status says of it."""
    began = time.monotonic()
    while time.monotonic() - began < _SCRUBBED_WITHIN:
        time.sleep(_LOOK_EVERY)
        with open(os.path.join(server.staging, "responses", ".status.json"), encoding="ascii") as file:
            jobs = {job["name"]: job["last"] for job in json.load(file)["schedules"]}
        if (last := jobs["scrub"]) is not None and (last["success"] or last["outcome"] == "failed"):
            require(last["outcome"] == "failed", False, f"the scrub failed ({last['reason']})")
            return dict(last)
    raise WrongAnswer("no scrub was done")


def _audited(command: Sequence[str], registry: str) -> tuple[float, int]:
    """Have everything in the registry checked; return the seconds and the peak memory."""
    began = time.perf_counter()
    with subprocess.Popen([*command, registry], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        with PeakMemory(process.pid) as peak:
            said, log = process.communicate()
        require(process.returncode, 0, f"exit code of the audit ({said[-500:]!r} {log[-500:]!r})")
    return time.perf_counter() - began, peak.bytes


def table(report: Mapping[str, Any]) -> str:
    """Return the figures as tables in Markdown, one for each series."""
    lines = []
    for name, points in report["series"].items():
        sizes = [f"{point['entries']:,} entries" for point in points]
        lines += [f"| {name} | " + " | ".join(sizes) + " |", "|---" * (len(points) + 1) + "|"]
        for figure in points[0]["figures"]:
            cells = [_cell(point["figures"][figure]) for point in points]
            lines.append(f"| {figure} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(figure: Figure) -> str:
    seconds = figure["seconds"]
    shown = f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
    left = f", then {figure['left_mib']:.0f}" if "left_mib" in figure else ""
    return f"{shown}, {figure['peak_mib']:.0f} MiB{left}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description="Measure what grows.")
    add = parser.add_argument
    add("--sizes", type=_sizes, default=(1, 4, 16), metavar="1,4,16", help="16: 1,000,000 manifest entries")
    add(
        "--server",
        type=ServerCommand.parse,
        default=ServerCommand("gobblerd", (*_OURS, "serve")),
        metavar="COMMAND",
        help="as for `python -m benchmarks` (default: gobblerd as installed here)",
    )
    add(
        "--audit",
        type=shlex.split,
        default=[*_OURS, "audit"],
        metavar="COMMAND",
        help="gobblerd audit, that is",
    )
    add(
        "--scrub",
        type=ServerCommand.parse,
        default=ServerCommand("gobblerd", (*_OURS, "serve", *_SCRUB)),
        metavar="COMMAND",
        help="gobblerd serve with a schedule by which everything is scrubbed at once",
    )
    add("--scratch", default=".", metavar="DIRECTORY", help="where the image of the filesystem is made")
    add("--no-mount", action="store_true", help="measure on the filesystem of --scratch itself")
    add("--json", metavar="FILE", help="write all values here")
    return parser


def _sizes(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
