"""Transactions are ended in batches, in the background; what cannot be made durable stays for recovery."""

import errno
import os
import time
from collections.abc import Callable

import pytest
from support.bench import Bench
from support.checker import assert_clean

from gobblerd.domain.messages import Response
from gobblerd.registry import closing
from gobblerd.storage.files import Durability

SECONDS = 60  # how long a test waits for what must happen


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def waiting(bench: Bench) -> list[str]:
    return os.listdir(bench.root / "..transactions" / "applied")


@pytest.fixture(autouse=True)
def filled(bench: Bench) -> None:
    bench.run("create_project", project="p")
    bench.upload("p/a/1", {"f": b"12"})


def eventually_delivered(bench: Bench) -> list[Response]:
    delivered: list[Response] = []

    def mended() -> bool:
        bench.registry.recovery.mend(delivered.append, lambda _: None)
        return bool(delivered)

    eventually(mended)
    return delivered


def change(bench: Bench, count: int = 5) -> None:
    for number in range(count):
        bench.run("set_permissions", project="p", permissions={"owners": [f"user-{number}"]})


def test_all_are_ended_after_the_responses_are_durable(bench: Bench) -> None:
    """Records stay until both the registry and the responses are synced; then nothing is left."""
    seen = []
    bench.registry.close_in_batches(lambda: seen.append(len(waiting(bench))))
    change(bench)
    bench.run("delete_version", project="p", asset="a", version="1")
    eventually(lambda: not waiting(bench))
    assert sum(seen) >= 6  # each was there at a sync
    assert len(seen) <= 6
    bench.registry.close(None)
    assert_clean(str(bench.root))


def test_a_stop_ends_what_waits(bench: Bench) -> None:
    """And whatever comes later is ended at once."""
    bench.registry.close_in_batches(lambda: None)
    change(bench)
    bench.registry.close(None)
    assert waiting(bench) == []
    bench.run("set_permissions", project="p", permissions={"owners": ["late"]})
    assert waiting(bench) == []


def test_what_cannot_be_synced_is_left_to_recovery(bench: Bench) -> None:
    """Its records stay, and its responses are delivered again, from them."""

    def fails() -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    bench.registry.close_in_batches(fails)
    change(bench, 1)
    delivered = eventually_delivered(bench)
    assert [(r.code, r.action) for r in delivered] == [(200, "set_permissions")]
    assert waiting(bench) == []
    assert_clean(str(bench.root))


def test_without_a_sync_for_all_each_is_synced(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where syncfs is not to be trusted, the directories that were touched are synced one by one."""
    synced = []
    monkeypatch.setattr(closing, "sync_touched", lambda root, record: synced.append(record.id))
    disk = bench.registry.disk
    bench.registry.disk = type(disk)(disk.root, disk.durability, disk.ordered, syncs_whole=False)
    bench.registry.close_in_batches(lambda: None)
    change(bench, 3)
    eventually(lambda: not waiting(bench))
    assert len(set(synced)) == 3


def test_durability_process_needs_none_of_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    """There is nothing to sync, so each is ended by itself at once."""
    bench = Bench(tmp_path_factory.mktemp("process"), durability=Durability.PROCESS)
    bench.run("create_project", project="p")
    bench.registry.close_in_batches(lambda: None)
    change(bench)
    assert waiting(bench) == []
    bench.close()
