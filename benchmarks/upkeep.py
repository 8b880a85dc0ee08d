"""W9 and W10: what reads every manifest of a project, or of the registry."""

import json
import os
import time
from typing import ClassVar

from benchmarks.asking import require
from benchmarks.registries import FILE_BYTES, write_json, write_linked, write_versions
from benchmarks.workload import Bound, Figures, Limit, Measure, Run, Workload, Workshop

_PROJECT = "bench"
_FILES = 50  # in each version


class _Refresh(Workload):
    """A refresh right after the start, again with nothing changed, and with one manifest changed."""

    versions: ClassVar[int]

    def registry(self, shop: Workshop) -> str:
        versions = shop.count(self.versions)
        return shop.material(
            f"versions-{versions}", lambda root: write_versions(root, _PROJECT, versions, _FILES)
        )

    def measure(self, run: Run) -> Figures:
        expected = run.shop.count(self.versions) * _FILES * FILE_BYTES
        first, unchanged = self._refresh(run, expected), self._refresh(run, expected)
        path = run.stored(_PROJECT, "asset-0", "0", "..manifest")
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        _replace(path, {**manifest, "one-more": {"size": 7, "md5sum": "0" * 32}})
        changed = self._refresh(run, expected + 7)
        _replace(path, manifest)
        return {"first": first, "unchanged": unchanged, "one changed": changed}

    def _refresh(self, run: Run, expected: int) -> float:
        began = time.perf_counter()
        answer = run.desk.ask("refresh_usage", project=_PROJECT)
        seconds = time.perf_counter() - began
        require(answer["total"], expected, "total")
        return seconds

    def limits(self, shop: Workshop) -> list[Limit]:
        every = f"find {self.registry(shop)} -name ..manifest"
        return [
            Limit("cat", f"{every} -print0 | xargs -0 cat >/dev/null"),
            Limit("stat", f"{every} -printf '%s %T@ %i\\n' >/dev/null"),
        ]


def _replace(path: str, document: dict[str, object]) -> None:
    write_json(path + ".new", document)
    os.rename(path + ".new", path)


class RefreshSmall(_Refresh):
    name = "W9"
    title = "refresh_usage over 2,000 versions x 50 files"
    versions = 2000
    measures: ClassVar = (
        Measure("first", go=0.14, bound=Bound.BYTES, reach=4),
        Measure("unchanged", go=0.14, bound=Bound.BYTES),
        Measure("one changed", go=0.14, bound=Bound.BYTES),
    )


class RefreshLarge(_Refresh):
    name = "W9-large"
    title = "refresh_usage over 20,000 versions x 50 files"
    versions = 20_000
    measures: ClassVar = (
        Measure("first", go=1.34, bound=Bound.BYTES, reach=6),
        Measure("unchanged", go=1.34, bound=Bound.BYTES),
        Measure("one changed", go=1.34, bound=Bound.BYTES),
    )


class Reroute(Workload):
    name = "W10"
    title = "reroute dry run, 2,000 versions, 1,990 changes"
    measures: ClassVar = (Measure("dry run", go=0.10, bound=Bound.BYTES, reach=3),)
    _DOOMED = 10
    _FILES = 10

    def _versions(self, shop: Workshop) -> int:
        return shop.count(2000 - self._DOOMED) + self._DOOMED

    def registry(self, shop: Workshop) -> str:
        versions = self._versions(shop)
        return shop.material("linked", lambda root: write_linked(root, versions, self._DOOMED, self._FILES))

    def measure(self, run: Run) -> Figures:
        began = time.perf_counter()
        doomed = [{"project": "old", "asset": "doomed"}]
        answer = run.desk.ask("reroute_links", to_delete=doomed, dry_run=True)
        seconds = time.perf_counter() - began
        require(len(answer["changes"]), self._versions(run.shop) - self._DOOMED, "changes")
        return {"dry run": seconds}

    def limits(self, shop: Workshop) -> list[Limit]:
        return [Limit("grep", f"grep -rlF --include=..manifest '\"old\"' {self.registry(shop)} >/dev/null")]


WORKLOADS = (RefreshSmall(), RefreshLarge(), Reroute())
