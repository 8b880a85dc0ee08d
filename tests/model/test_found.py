"""What the state machine found, each as the shortest history that shows it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from model.contract import Request
from model.daemons import Daemon
from support.bench import Bench

from gobblerd.domain.errors import Invalid


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def test_an_upload_into_an_asset_that_goes_away_meanwhile_makes_it_anew(tmp_path: Path) -> None:
    """The upload sees the asset, waits, and finds it deleted: that is no 404, the asset is simply new."""
    for name in ("registry", "white"):
        (tmp_path / name).mkdir()
    daemons = [Daemon(str(tmp_path), number) for number in range(2)]
    try:
        for version in ("1", "2"):
            document = {"project": "p", "asset": "a", "version": version, "source": "up"}
            uploading = Request("upload", "root", document, {"f": b"one"}, "root")
            if version == "1":
                creating = Request("create_project", "root", {"project": "p"})
                assert daemons[0].run(daemons[0].drop(creating))["code"] == 200
            else:
                deleting = Request("delete_asset", "root", {"project": "p", "asset": "a"})
                assert not daemons[1].crash(daemons[1].drop(deleting), 1, committed=True)
            answer = daemons[0].run(daemons[0].drop(uploading))
            assert answer["code"] == 200, answer
    finally:
        for daemon in daemons:
            daemon.close()


@pytest.mark.parametrize("again", [None, {"g": b"other"}])
def test_a_link_whose_real_file_is_no_more_is_not_reindexed(
    bench: Bench, again: dict[str, bytes] | None
) -> None:
    """422 as for a parent that is gone: neither 503 (nothing keeps changing) nor a link into nothing."""
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"one"})
    bench.upload("p/a/2", {"f": b"one"})
    bench.upload("p/b/1", {"l": ("link", str(bench.root / "p/a/2/f"))})
    bench.run("delete_version", project="p", asset="a", version="1")
    if again is not None:
        source = bench.source("again", again)
        bench.run("upload", project="p", asset="a", version="1", source=source)
    before = bench.snapshot()
    with pytest.raises(Invalid):
        bench.run("reindex_version", project="p", asset="b", version="1")
    assert bench.snapshot() == before
