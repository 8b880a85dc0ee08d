"""The results as JSON, and as a table in Markdown that can be pasted into docs/performance.md."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.machine import REFERENCE
from benchmarks.processes import MIB
from benchmarks.results import Results, Row
from benchmarks.servers import ServerCommand


def document(
    results: Results,
    servers: Sequence[ServerCommand],
    machine: Mapping[str, Any],
    calibration: Mapping[str, float],
) -> dict[str, Any]:
    """Return the whole report as one JSON object."""
    return {
        "format": 1,
        "machine": dict(machine),
        "servers": [{"name": server.name, "command": list(server.command)} for server in servers],
        "calibration": {
            "reference_seconds": {bound.value: seconds for bound, seconds in REFERENCE.items()},
            "seconds": dict(calibration),
        },
        "rows": [row.document() for row in results.rows],
        "memory_bytes": results.memory,
        "problems": results.problems,
    }


BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def put_into(page: str, text: str) -> str:
    """Return the page with what is between its two marks replaced; ValueError if they are not there."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def circumstances(report: Mapping[str, Any]) -> str:
    """Say in a sentence or two where, when and how it was measured."""
    machine, seconds = report["machine"], report["calibration"]["seconds"]
    here = ", ".join(f"`{name}` {value:.3g} s" for name, value in seconds.items())
    there = ", ".join(f"{bound.value} {value:g}" for bound, value in REFERENCE.items())
    return (
        f"Measured on {machine['date']}: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB of memory, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{machine['filesystem']}; scale {report['scale']:g}, {report['rounds']} rounds. "
        f"For scaling Go's figures: {here} (reference: {there})."
    )


def table(results: Results, servers: Sequence[ServerCommand]) -> str:
    """Return the table: a line per figure and server, then peak memory, then what went wrong."""
    lines = [
        "| workload | figure | server | median (least-most) | Go here | x Go | reach | x first | limits, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    full = {server.name: not server.is_process_durable for server in servers}
    for row in results.rows:
        limits = ", ".join(f"{name} {statistics.median(values):.3g}" for name, values in row.limits.items())
        for name in row.contests:
            is_full = full[name.removesuffix(" (drop)")]
            lines.append(_line(row, name, limits, full=is_full))
    return "\n".join([*lines, "", *_memory(results), *(f"WRONG: {each}" for each in results.problems)])


def _line(row: Row, name: str, limits: str, *, full: bool) -> str:
    contest, measure = row.contests[name], row.measure
    values = contest.values
    unit = measure.unit
    spread = f"{_figure(statistics.median(values))} {unit} ({_figure(min(values))}-{_figure(max(values))})"
    go = f"{_figure(statistics.median(row.go_here))} {unit}" if row.go_here else ""
    times = f"{statistics.median(contest.times_go):.2g}" if contest.times_go else ""
    if row.falls_short(name, full=full):
        times = f"**{times or 'over'}**"
    first = f"{statistics.median(contest.times_first):.2f}" if len(row.contests) > 1 else ""
    cells = (
        f"{row.workload} {row.title}",
        measure.key,
        name,
        spread,
        go,
        times,
        _wanted(row, full=full),
        first,
    )
    return "| " + " | ".join((*cells, limits)) + " |"


def _wanted(row: Row, *, full: bool) -> str:
    reach = row.reach(full=full)
    if reach is not None:
        return f"{reach:g} x"
    return f"<= {row.measure.most:g} {row.measure.unit}" if row.measure.most is not None else ""


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _memory(results: Results) -> list[str]:
    """Return the greatest peak of each server, and where it was."""
    if not results.memory:
        return []
    names = dict.fromkeys(name for peaks in results.memory.values() for name in peaks)
    lines = ["| peak memory (sum of PSS over the process tree) | at | MiB |", "|---|---|---|"]
    for name in names:
        peaks = {workload: of[name] for workload, of in results.memory.items() if name in of}
        where = max(peaks, key=peaks.__getitem__)
        lines.append(f"| {name} | {where} | {peaks[where] / MIB:.0f} |")
    return [*lines, ""]
