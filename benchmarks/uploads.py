"""W1 to W5, W8 and W13: uploads of all shapes, and what is done with all bytes of a version."""

import os
import shutil
import time
from abc import abstractmethod
from typing import ClassVar

from benchmarks.asking import read_json, require
from benchmarks.data import GIB, KIB, MIB, write_files, write_symlinks
from benchmarks.workload import Bound, Figures, Limit, Measure, Run, Workload, Workshop

PROJECT, ASSET = "bench", "asset"
_PLACE = f"{PROJECT}/{ASSET}"


def small_files(shop: Workshop) -> str:
    """Return 10,000 files of 4 KiB in 100 directories."""
    return shop.material(
        "small", lambda top: write_files(top, shop.count(10_000), 4 * KIB, per_directory=100)
    )


def middle_files(shop: Workshop) -> str:
    """Return 200 files of 10 MiB."""
    return shop.material("middle", lambda top: write_files(top, shop.count(200), 10 * MIB))


def large_files(shop: Workshop) -> str:
    """Return 4 files of 1 GiB."""
    return shop.material("large", lambda top: write_large(top, shop))


def write_large(top: str, shop: Workshop) -> None:
    """Write 4 files of 1 GiB."""
    write_files(top, 4, shop.count(GIB))


def read_and_copy_limits(top: str) -> list[Limit]:
    """Return what it takes others to copy a tree, and to hash it."""
    return [
        Limit("cp -r", f"cp -r {top} {{new}}"),
        Limit("rsync -a", f"rsync -a {top}/ {{new}}"),
        *hash_limits(top),
    ]


def hash_limits(top: str) -> list[Limit]:
    """Return what it takes others to hash a tree, on one core."""
    every = f"find {top} -type f -print0 | xargs -0"
    return [
        Limit("md5sum", f"{every} md5sum >/dev/null"),
        Limit("xxhsum -H2", f"{every} xxhsum -q -H2 >/dev/null"),
    ]


def upload(run: Run, source: str, version: str, **options: bool) -> float:
    """Upload a directory of staging; return the seconds that it took."""
    began = time.perf_counter()
    run.desk.ask("upload", project=PROJECT, asset=ASSET, version=version, source=source, **options)
    return time.perf_counter() - began


def count_files(top: str) -> int:
    """Return how many files and symbolic links are below a directory."""
    return sum(len(files) for _, _, files in os.walk(top))


def manifest(run: Run, version: str) -> dict[str, dict[str, object]]:
    """Return the manifest of a version."""
    return dict(read_json(run.stored(_PLACE, version, "..manifest")))


class _Upload(Workload):
    """A directory is put into staging, uploaded, and put back for the next one."""

    @abstractmethod
    def source(self, shop: Workshop) -> str:
        """Return what is uploaded."""

    def prepare(self, run: Run) -> None:
        run.desk.ask("create_project", project=PROJECT)

    def measure(self, run: Run) -> Figures:
        source = self.source(run.shop)
        os.rename(source, run.staged("source"))
        try:
            seconds = upload(run, "source", "1")
            require(len(manifest(run, "1")), count_files(run.staged("source")), "files in the manifest")
        finally:
            os.rename(run.staged("source"), source)
        return {"upload": seconds}

    def limits(self, shop: Workshop) -> list[Limit]:
        return read_and_copy_limits(self.source(shop))


class SmallFiles(_Upload):
    name = "W1"
    title = "upload 10,000 x 4 KiB in 100 directories"
    measures: ClassVar = (Measure("upload", go=0.91, bound=Bound.FILES, reach=4),)

    def source(self, shop: Workshop) -> str:
        return small_files(shop)


class LargeFiles(_Upload):
    name = "W2"
    title = "upload 4 x 1 GiB"
    measures: ClassVar = (Measure("upload", go=7.2, bound=Bound.BYTES, reach=2),)

    def source(self, shop: Workshop) -> str:
        return large_files(shop)


class MiddleFiles(_Upload):
    name = "W3"
    title = "upload 200 x 10 MiB"
    measures: ClassVar = (Measure("upload", go=3.9, bound=Bound.BYTES, reach=6),)

    def source(self, shop: Workshop) -> str:
        return middle_files(shop)


class MostlyKnownFiles(_Upload):
    name = "W4"
    title = "upload 5,000 x 64 KiB, 90 % already in latest"
    measures: ClassVar = (Measure("upload", go=0.52, bound=Bound.BYTES, reach=3.5),)

    def source(self, shop: Workshop) -> str:
        return shop.material("known", lambda top: write_files(top, shop.count(5000), 64 * KIB))

    def _next(self, top: str, shop: Workshop) -> None:
        shutil.copytree(self.source(shop), top)
        for number in range(0, shop.count(5000), 10):
            with open(os.path.join(top, f"f{number:06}"), "r+b") as file:
                file.write(b"changed")

    def prepare(self, run: Run) -> None:
        super().prepare(run)
        super().measure(run)

    def measure(self, run: Run) -> Figures:
        source = run.shop.material("known-next", lambda top: self._next(top, run.shop))
        os.rename(source, run.staged("next"))
        try:
            seconds = upload(run, "next", "2")
        finally:
            os.rename(run.staged("next"), source)
        entries = manifest(run, "2").values()
        changed = len(range(0, run.shop.count(5000), 10))
        require(sum("link" not in entry for entry in entries), changed, "files that are no links")
        return {"upload": seconds}


class Symlinks(_Upload):
    name = "W5"
    title = "upload 5,000 symlinks into the registry"
    measures: ClassVar = (Measure("upload", go=0.12, bound=Bound.FILES, reach=1.5),)

    def source(self, shop: Workshop) -> str:
        return shop.material("targets", lambda top: write_files(top, shop.count(5000), KIB))

    def prepare(self, run: Run) -> None:
        super().prepare(run)
        super().measure(run)
        names = os.listdir(self.source(run.shop))
        write_symlinks(run.staged("links"), run.stored(_PLACE, "1"), names)

    def measure(self, run: Run) -> Figures:
        seconds = upload(run, "links", "2")
        entries = manifest(run, "2").values()
        require(sum("link" in entry for entry in entries), run.shop.count(5000), "links in the manifest")
        return {"upload": seconds}


class _WholeVersion(_Upload):
    """Everything of a version is read again."""

    def prepare(self, run: Run) -> None:
        super().prepare(run)
        super().measure(run)

    def measure(self, run: Run) -> Figures:
        before = manifest(run, "1")
        figures = {}
        for action in ("validate", "reindex"):
            began = time.perf_counter()
            run.desk.ask(f"{action}_version", project=PROJECT, asset=ASSET, version="1")
            figures[action] = time.perf_counter() - began
        require(manifest(run, "1"), before, "the manifest after reindexing")
        return figures

    def limits(self, shop: Workshop) -> list[Limit]:
        return hash_limits(self.source(shop))


class WholeSmall(_WholeVersion):
    name = "W8-small"
    title = "of 10,000 x 4 KiB (W1)"
    measures: ClassVar = (
        Measure("validate", go=0.27, bound=Bound.FILES, reach=4),
        Measure("reindex", go=0.27, bound=Bound.FILES, reach=4),
    )

    def source(self, shop: Workshop) -> str:
        return small_files(shop)


class WholeMiddle(_WholeVersion):
    name = "W8-middle"
    title = "of 200 x 10 MiB (W3)"
    measures: ClassVar = (
        Measure("validate", go=1.43, bound=Bound.BYTES, reach=5),
        Measure("reindex", go=1.43, bound=Bound.BYTES, reach=5),
    )

    def source(self, shop: Workshop) -> str:
        return middle_files(shop)


class _Consume(Workload):
    """The source is made anew each time, as it is gone afterwards."""

    @abstractmethod
    def write(self, top: str, shop: Workshop) -> None:
        """Write what is uploaded."""

    def prepare(self, run: Run) -> None:
        self.write(run.staged("source"), run.shop)
        run.desk.ask("create_project", project=PROJECT)

    def measure(self, run: Run) -> Figures:
        files = count_files(run.staged("source"))
        seconds = upload(run, "source", "1", consume=True)
        require(len(manifest(run, "1")), files, "files in the manifest")
        return {"upload": seconds}


class ConsumeSmall(_Consume):
    name = "W13-small"
    title = "consume 10,000 x 4 KiB (W1)"
    measures: ClassVar = (Measure("upload", go=0.48, bound=Bound.FILES, reach=3),)

    def write(self, top: str, shop: Workshop) -> None:
        write_files(top, shop.count(10_000), 4 * KIB, per_directory=100)


class ConsumeLarge(_Consume):
    name = "W13-large"
    title = "consume 4 x 1 GiB (W2)"
    measures: ClassVar = (Measure("upload", go=2.95, bound=Bound.BYTES, reach=0.7),)

    def write(self, top: str, shop: Workshop) -> None:
        write_large(top, shop)


WORKLOADS = (
    SmallFiles(),
    LargeFiles(),
    MiddleFiles(),
    MostlyKnownFiles(),
    Symlinks(),
    WholeSmall(),
    WholeMiddle(),
    ConsumeSmall(),
    ConsumeLarge(),
)
