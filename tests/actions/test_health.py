"""`health_check` succeeds for anyone and reads nothing."""

from support.bench import Bench


def test_anyone_is_answered(bench: Bench) -> None:
    """No keys, no transaction, no need of a registry that holds anything."""
    before = bench.snapshot()
    assert bench.run("health_check", "stranger", 61001) == {}
    assert bench.snapshot() == before
    assert not (bench.root / "..transactions").exists()


def test_its_content_is_ignored(bench: Bench) -> None:
    """So that an empty or unreadable file is answered too."""
    action = bench.actions["health_check"]
    assert not action.reads_content
    assert not action.is_long
    assert not action.administrators_only
