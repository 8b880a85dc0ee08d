"""Time is the file server's: the ctime of a probe, counted on by a monotonic clock for a second."""

import os
import stat
import time
from pathlib import Path

import pytest

from gobblerd.storage.clock import RENEWAL_NS, FileClock


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list whose only item is what the monotonic clock shows."""
    shown = [1000]
    monkeypatch.setattr(time, "monotonic_ns", lambda: shown[0])
    return shown


def test_it_is_the_probe_s_ctime(tmp_path: Path, ticking: list[int]) -> None:
    """Plus what the monotonic clock says has passed since."""
    clock = FileClock(str(tmp_path / "probe"))
    first = clock.now()
    assert first == (tmp_path / "probe").stat().st_ctime_ns
    ticking[0] += 5
    assert clock.now() == first + 5


def test_the_probe_is_renewed_once_a_second(tmp_path: Path, ticking: list[int]) -> None:
    """Between, nothing is touched: not even its removal is noticed."""
    clock = FileClock(str(tmp_path / "probe"))
    first = clock.now()
    (tmp_path / "probe").unlink()
    ticking[0] += RENEWAL_NS - 1
    assert clock.now() == first + RENEWAL_NS - 1
    assert not (tmp_path / "probe").exists()
    ticking[0] += 1
    assert clock.now() == (tmp_path / "probe").stat().st_ctime_ns


def test_an_old_probe_is_touched(tmp_path: Path) -> None:
    """What a former daemon left does not tell its time; nor what somebody set as its mtime."""
    probe = tmp_path / "probe"
    probe.touch()
    os.utime(probe, (1, 1))
    old = probe.stat().st_ctime_ns
    assert FileClock(str(probe)).now() >= old
    assert probe.stat().st_mtime > 1


def test_the_directory_is_made_when_needed(tmp_path: Path) -> None:
    """Not before; the probe is nobody else's to read or write."""
    made = tmp_path / "made"
    clock = FileClock(str(made / "probe"), lambda: made.mkdir(exist_ok=True))
    assert not made.exists()
    clock.now()
    assert stat.S_IMODE((made / "probe").stat().st_mode) == 0o600


def test_no_link_is_followed(tmp_path: Path) -> None:
    """A link in the probe's place is an error, not a file touched elsewhere."""
    (tmp_path / "probe").symlink_to("other")
    with pytest.raises(OSError, match=r"."):
        FileClock(str(tmp_path / "probe")).now()
    assert not (tmp_path / "other").exists()
