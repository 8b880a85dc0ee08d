"""What is refused by whoever reads an archive, and what is read."""

import os
from pathlib import Path

import pytest
import zstandard
from support.malice import MALICE, Evil, directory, file, tar

from gobblerd.archive.limits import ArchiveLimits
from gobblerd.archive.reader import Reading
from gobblerd.archive.source import ArchiveFile
from gobblerd.domain.errors import Refused


def read(path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    fd = os.open(path, os.O_RDONLY)
    try:
        reading = Reading(ArchiveFile(fd), limits or ArchiveLimits())
        return {member.path: content.whole() for member, content in reading.members()}
    finally:
        os.close(fd)


def test_the_corpus_is_large_enough() -> None:
    """At least forty of each kind, none twice."""
    assert len({evil.id for evil in MALICE}) == len(MALICE)
    for suffix in ("tar", "zip"):
        assert sum(evil.suffix == suffix for evil in MALICE) >= 40


def test_who_wants_to_stop_is_asked_while_little_becomes_much(tmp_path: Path) -> None:
    """200 MiB of zeros are a few kilobytes of zstd, read at once; that can be stopped all the same."""
    (tmp_path / "archive").write_bytes(zstandard.compress(tar(file("top/zeros", bytes(200 << 20)))))
    told: list[int] = []
    fd = os.open(tmp_path / "archive", os.O_RDONLY)
    try:
        reading = Reading(ArchiveFile(fd, lambda done, _: told.append(done)), ArchiveLimits())
        for _, content in reading.members():
            for _ in content.chunks():
                pass
    finally:
        os.close(fd)
    assert len(told) > 10


def test_a_dot_before_every_name(tmp_path: Path) -> None:
    """`tar -C DIR .` makes such archives: refused, unless whoever reads takes them, without the dot."""
    (tmp_path / "archive").write_bytes(tar(directory("."), file("./f", b"1"), file("./d/g", b"2")))
    with pytest.raises(Refused, match=r'"\./" is refused'):
        read(tmp_path / "archive")
    fd = os.open(tmp_path / "archive", os.O_RDONLY)
    try:
        reading = Reading(ArchiveFile(fd), ArchiveLimits(), dotted=True)
        assert {member.path: content.whole() for member, content in reading.members()} == {
            "f": b"1",
            "d/g": b"2",
        }
    finally:
        os.close(fd)
    assert reading.top_is_dot


@pytest.mark.parametrize("name", ["././f", ".//f", "./../f", "./"])
def test_only_one_dot_is_left_out(tmp_path: Path, name: str) -> None:
    """What remains is judged like any name."""
    (tmp_path / "archive").write_bytes(tar(file(name)))
    fd = os.open(tmp_path / "archive", os.O_RDONLY)
    try:
        with pytest.raises(Refused):
            list(Reading(ArchiveFile(fd), ArchiveLimits(), dotted=True).members())
    finally:
        os.close(fd)


@pytest.mark.parametrize("evil", MALICE, ids=lambda evil: evil.id)
def test_malice_is_refused(tmp_path: Path, evil: Evil) -> None:
    """Every one, with the member at fault named."""
    (tmp_path / "archive").write_bytes(evil.data)
    with pytest.raises(Refused) as refused:
        read(tmp_path / "archive")
    assert evil.says in refused.value.reason
