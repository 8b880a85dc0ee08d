"""Drop to response, a flood of drops, what idling costs, and how long a start takes."""

import os
import time
from typing import ClassVar

from benchmarks.asking import WrongAnswer, require_success
from benchmarks.crowd import percentile
from benchmarks.processes import processor_seconds
from benchmarks.workload import Figures, Measure, Run, Workload

_PATIENCE = 600.0

_START_OVER = 10  # seconds after which a server does no more of what follows a start


class DropToResponse(Workload):
    name = "drop"
    title = "from rename to response, idle daemon, 200 times"
    only_drop = True
    measures: ClassVar = (Measure("p50", "ms", most=5), Measure("p99", "ms", most=20))

    def measure(self, run: Run) -> Figures:
        seconds = []
        for _ in range(run.shop.count(200)):
            time.sleep(0.005)
            began = time.perf_counter()
            name = run.desk.drop("health_check", {})
            path = run.desk.response_path(name)
            while not os.path.exists(path):
                if time.perf_counter() - began > _PATIENCE:
                    raise WrongAnswer(f"no response to {name}")
                time.sleep(0.0001)
            seconds.append(time.perf_counter() - began)
            require_success("health_check", run.desk.response(name))
        return {"p50": percentile(seconds, 50) * 1000, "p99": percentile(seconds, 99) * 1000}


class Flood(Workload):
    name = "flood"
    title = "20,000 drops at once"
    only_drop = True
    measures: ClassVar = (Measure("rate", "/s"), Measure("all dropped", "s"))

    def prepare(self, run: Run) -> None:
        os.mkdir(run.staged("waiting"))
        for number in range(run.shop.count(20_000)):
            with open(run.staged(f"waiting/request-health_check-{number}"), "wb") as file:
                file.write(b"{}")

    def measure(self, run: Run) -> Figures:
        names = os.listdir(run.staged("waiting"))
        wanted = set(names)
        responses = run.desk.response_path("")
        began = time.perf_counter()
        for name in names:
            os.rename(run.staged(f"waiting/{name}"), run.staged(name))
        dropped = time.perf_counter() - began
        while not wanted.issubset(os.listdir(responses)):
            if time.perf_counter() - began > _PATIENCE:
                raise WrongAnswer("a drop was not answered")
            time.sleep(0.05)
        seconds = time.perf_counter() - began
        for name in names:
            require_success("health_check", run.desk.response(name))
        return {"rate": len(names) / seconds, "all dropped": dropped}


class Idle(Workload):
    name = "idle"
    title = "35 s with 10,000 files in staging"
    by_drop = False
    measures: ClassVar = (Measure("of a core", "%", most=0.5),)

    def prepare(self, run: Run) -> None:
        for number in range(run.shop.count(10_000)):
            with open(run.staged(f"file-{number}"), "wb"):
                pass
        time.sleep(_START_OVER * run.shop.scale)

    def measure(self, run: Run) -> Figures:
        duration = max(35 * run.shop.scale, 0.5)
        before, began = processor_seconds(run.server.pid), time.perf_counter()
        time.sleep(duration)
        used, passed = processor_seconds(run.server.pid) - before, time.perf_counter() - began
        return {"of a core": used / passed * 100}


class Start(Workload):
    name = "start"
    title = "from exec until `GET /` answers, median of 5"
    by_drop = False
    measures: ClassVar = (Measure("seconds", "s", most=0.6),)

    def measure(self, run: Run) -> Figures:
        seconds = []
        for _ in range(5):
            run.server.stop()
            seconds.append(run.server.start())
        return {"seconds": sorted(seconds)[2]}


WORKLOADS = (DropToResponse(), Flood(), Idle(), Start())
