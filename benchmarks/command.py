"""The command line of the benchmarks; benchmarks/README.md says how they are meant to be used."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence

from benchmarks import latency, readers, small_requests, upkeep, uploads
from benchmarks.asking import DROP, REST
from benchmarks.machine import described
from benchmarks.report import circumstances, document, put_into, table
from benchmarks.runner import Runner, say
from benchmarks.scratch import GIB, scratch
from benchmarks.servers import ServerCommand
from benchmarks.workload import Workload

_EVERY = (
    *uploads.WORKLOADS,
    *small_requests.WORKLOADS,
    *upkeep.WORKLOADS,
    *readers.WORKLOADS,
    *latency.WORKLOADS,
)
WORKLOADS = {each.name: each for each in _EVERY}
_OURS = shlex.join([sys.executable, "-m", "gobblerd", "serve"])


def main(args: Sequence[str] | None = None) -> int:
    """Measure what is asked for; return 0, or 1 if any answer was wrong."""
    options = _parser().parse_args(args)
    if options.list:
        for workload in WORKLOADS.values():
            print(f"{workload.name:10} {workload.title}")
        return 0
    servers = options.server or [ServerCommand.parse(f"gobblerd={_OURS}")]
    if len({server.name for server in servers}) < len(servers):
        raise SystemExit("two servers have one name: use --server NAME=COMMAND")
    return _measure(options, servers)


def _measure(options: argparse.Namespace, servers: Sequence[ServerCommand]) -> int:
    size = round((options.image_gib or 3 + 13 * options.scale) * GIB)
    os.makedirs(options.scratch, exist_ok=True)
    with scratch(options.scratch, size, mounted=not options.no_mount) as place:
        say(f"measuring on {place.what}")
        runner = Runner(place.path, servers, options.by, scale=options.scale, rounds=options.rounds)
        runner.watch_memory = not options.no_memory
        runner.with_limits = not options.no_limits
        chosen, done = _chosen(options.workloads), 0
        try:
            for workload in chosen:
                runner.run(workload)
                done += 1
        finally:  # what was measured before somebody ended it is worth something
            report = document(runner.results, servers, described(place.what), runner.calibration.medians())
            report |= {"scale": options.scale, "rounds": options.rounds, "complete": done == len(chosen)}
            text = table(runner.results, servers)
            print(text)
            _write(options.json, json.dumps(report, indent=1))
            _write(options.table, text)
    if options.into:
        with open(options.into, encoding="utf-8") as file:
            page = put_into(file.read(), f"{circumstances(report)}\n\n{text.strip()}")
        _write(options.into, page.rstrip("\n"))
    return 1 if runner.results.problems else 0


def _chosen(names: Sequence[str]) -> list[Workload]:
    """Return the workloads of these names; W8 means all whose names begin so."""
    chosen = []
    for name in names or WORKLOADS:
        found = [each for each in WORKLOADS.values() if each.name == name] or [
            each for each in WORKLOADS.values() if each.name.startswith((f"{name}-", f"{name}a", f"{name}b"))
        ]
        if not found:
            raise SystemExit(f"no workload is called {name}; --list shows all")
        chosen += [each for each in found if each not in chosen]
    return chosen


def _write(path: str | None, text: str) -> None:
    if path:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure servers of one API.")
    add = parser.add_argument
    add("workloads", nargs="*", metavar="WORKLOAD", help="which ones; default all (--list)")
    add("--list", action="store_true", help="list the workloads and end")
    add(
        "--server",
        action="append",
        type=ServerCommand.parse,
        metavar="[NAME=]COMMAND",
        help="a server that takes the Go service's options, which are appended; may be repeated (default: "
        "gobblerd as installed here)",
    )
    add("--rounds", type=int, default=3, help="timed rounds (default 3)")
    add("--scale", type=float, default=1.0, help="size of the workloads (default 1; 0.1 for a quick look)")
    add("--by", type=_ways, default=(REST,), metavar="rest,drop", help="how to ask (default rest)")
    add(
        "--scratch",
        default=".",
        metavar="DIRECTORY",
        help="where the image of the filesystem is made (default .)",
    )
    add(
        "--image-gib",
        type=float,
        default=0,
        help="how large it may become (default 3 + 13 x scale; it is sparse)",
    )
    add("--no-mount", action="store_true", help="measure on the filesystem of --scratch itself")
    add("--no-memory", action="store_true", help="leave out the first round, in which memory is watched")
    add("--no-limits", action="store_true", help="leave out cp, rsync, md5sum and xxhsum")
    add("--json", metavar="FILE", help="write all values here")
    add("--table", metavar="FILE", help="write the table here too")
    add("--into", metavar="FILE", help="put it into this page, between `<!-- table: begin -->` and `end`")
    return parser


def _ways(text: str) -> tuple[str, ...]:
    ways = tuple(text.split(","))
    if not ways or not set(ways) <= {REST, DROP}:
        raise argparse.ArgumentTypeError("rest, drop, or rest,drop")
    return ways
