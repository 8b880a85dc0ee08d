"""W6 and W7: many small requests of eight clients at once."""

from typing import ClassVar

from benchmarks.asking import read_json, require
from benchmarks.crowd import ask_all
from benchmarks.data import KIB, write_files
from benchmarks.workload import Figures, Measure, Run, Workload

_PROJECT = "bench"


class Permissions(Workload):
    name = "W6"
    title = "2,000 set_permissions, 8 clients"
    measures: ClassVar = (Measure("rate", "/s", go=4000, reach=1, reach_full=0.4),)

    def prepare(self, run: Run) -> None:
        run.desk.ask("create_project", project=_PROJECT)

    def measure(self, run: Run) -> Figures:
        documents = [
            {"project": _PROJECT, "permissions": {"owners": [f"user-{number}"]}}
            for number in range(run.shop.count(2000))
        ]
        result = ask_all(run.desk, "set_permissions", documents)
        owners = read_json(run.stored(_PROJECT, "..permissions"))["owners"]
        require({"permissions": {"owners": owners}, "project": _PROJECT} in documents, True, "known owners")
        return {"rate": result.rate}


class _SmallUploads(Workload):
    """200 uploads of one file each."""

    one_asset: ClassVar[bool]

    def prepare(self, run: Run) -> None:
        run.desk.ask("create_project", project=_PROJECT)
        for number in range(run.shop.count(200)):
            write_files(run.staged(f"source-{number}"), 1, KIB, seed=number)

    def measure(self, run: Run) -> Figures:
        count = run.shop.count(200)
        documents = [
            {
                "project": _PROJECT,
                "asset": "asset" if self.one_asset else f"asset-{number}",
                "version": str(number),
                "source": f"source-{number}",
            }
            for number in range(count)
        ]
        result = ask_all(run.desk, "upload", documents)
        require(read_json(run.stored(_PROJECT, "..usage")), {"total": count * KIB}, "usage")
        return {"rate": result.rate, "p99": result.p99 * 1000}


class ToAssets(_SmallUploads):
    name = "W7a"
    title = "200 one-file uploads, one project, 8 clients"
    one_asset = False
    measures: ClassVar = (
        Measure("rate", "/s", go=930, reach=1.5, reach_full=0.8),
        Measure("p99", "ms", go=105, reach=5),
    )


class ToOneAsset(_SmallUploads):
    name = "W7b"
    title = "the same into one asset"
    one_asset = True
    measures: ClassVar = (
        Measure("rate", "/s", go=60, reach=15, reach_full=8),
        Measure("p99", "ms", go=2400),
    )


WORKLOADS = (Permissions(), ToAssets(), ToOneAsset())
