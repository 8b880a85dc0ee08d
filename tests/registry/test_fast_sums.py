"""Many fast checksums take little memory, and nobody notices otherwise."""

import pytest
import xxhash

from gobblerd.registry import fast_sums
from gobblerd.registry.fast_sums import compact

SUMS = {f"d{index % 7}/ü{index}": xxhash.xxh3_128_hexdigest(b"%d" % index) for index in range(1000)}


def test_many_are_kept_without_their_paths() -> None:
    """Each is found by its path, and nothing by another."""
    found = compact(SUMS, 1000)
    assert isinstance(found, fast_sums._Compact)
    assert {path: found.get(path) for path in SUMS} == SUMS
    assert {found.get(f"{path}x") for path in SUMS} == {None}
    assert compact({}, 0).get("a") is None


def test_few_are_kept_as_they_are() -> None:
    """They are looked up faster."""
    assert compact(SUMS, 1001) is SUMS


@pytest.mark.parametrize("odd", ["", "g" * 32, "A" * 32, "a" * 31 + " ", "a" * 34, "ü" * 32])
def test_what_is_no_digest_is_kept_as_it_was_read(odd: str) -> None:
    """It is compared as it stands there."""
    assert compact({**SUMS, "odd": odd}, 1).get("odd") == odd


def test_paths_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """However unlikely."""
    monkeypatch.setattr(fast_sums, "hash", len, raising=False)
    found = compact(SUMS, 1)
    assert {path: found.get(path) for path in SUMS} == SUMS
