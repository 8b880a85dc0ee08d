"""What a figure was measured on, and how fast that is beside the machine of the Go service's figures.

The Go figures of design are from one machine, where `md5sum` of 1 GiB took 1.59 s and `cp -r` of 10,000
files of 4 KiB in 100 directories 0.285 s. Elsewhere they are scaled by the one or the other.
"""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.data import GIB, KIB, write_files
from benchmarks.scratch import remove
from benchmarks.workload import Bound, Workshop

REFERENCE = {Bound.BYTES: 1.59, Bound.FILES: 0.285}  # seconds
_LEAST_SCALE = 0.05  # less would time the start of the programs
CALIBRATION = ("calibration-bytes", "calibration-files")


def described(filesystem: str) -> dict[str, str | int]:
    """Return what is known of the machine; no names."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="utf-8") as file:
        kib = int(file.readline().split()[1])
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(kib / (1 << 20)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "filesystem": filesystem,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def timed(command: str, new: str) -> float:
    """Run a shell command, in which `{new}` is a path that is removed afterwards; return its seconds."""
    began = time.perf_counter()
    subprocess.run(command.replace("{new}", new), shell=True, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    remove(new)
    return seconds


@dataclass
class Calibration:
    """How many times as slow this machine is, measured once per round for each kind of bound."""

    shop: Workshop
    seconds: dict[Bound, list[float]] = field(default_factory=dict)

    def factors(self, bounds: Iterable[Bound]) -> Mapping[Bound, float]:
        """Measure, and return this moment's factors."""
        return {bound: self._measure(bound) / REFERENCE[bound] for bound in set(bounds)}

    def _measure(self, bound: Bound) -> float:
        scale = max(self.shop.scale, _LEAST_SCALE)
        if bound is Bound.BYTES:
            top = self.shop.material(CALIBRATION[0], lambda path: write_files(path, 1, round(GIB * scale)))
            command = f"md5sum {top}/*"
        else:
            files = round(10_000 * scale)
            top = self.shop.material(
                CALIBRATION[1], lambda path: write_files(path, files, 4 * KIB, per_directory=100)
            )
            command = f"cp -r {top} {{new}}"
        seconds = timed(command, os.path.join(self.shop.directory, "calibration-new")) / scale
        self.seconds.setdefault(bound, []).append(seconds)
        return seconds

    def medians(self) -> dict[str, float]:
        """Return the median seconds of each kind, at full scale."""
        return {bound.value: statistics.median(values) for bound, values in self.seconds.items()}
