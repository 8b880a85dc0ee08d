"""The same version gives the same bytes, whoever packs it, wherever, however often, with how many threads."""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.archives import FORMATS, make_directory, make_registry
from support.places import Users

from gobblerd.archive import Version, create_archive
from gobblerd.archive.plan import Planned
from gobblerd.archive.tars import header, info_of, tar_size

PACK = """
import sys
import tarfile
from gobblerd.archive import Version, create_archive
registry, out, threads, *formats = sys.argv[1:]
for name in formats:
    create_archive(Version(registry, "p", "a", "2"), f"{out}/v", format=name, threads=int(threads))
"""


def pack_elsewhere(
    registry: str, out: Path, threads: int, environ: Mapping[str, str], prefix: tuple[str, ...] = ()
) -> dict[str, str]:
    """Pack all formats in a process of its own; return the digests of archives and receipts."""
    out.mkdir()
    out.chmod(0o777)
    command = [*prefix, sys.executable, "-c", PACK, registry, str(out), str(threads), *FORMATS]
    subprocess.run(command, check=True, env={**os.environ, **environ})
    return digests(out)


def digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def touch_all(root: str) -> None:
    """Give everything another time, and other modes."""
    for path, _, names in os.walk(root):
        os.utime(path, (1, 1))
        for name in names:
            full = os.path.join(path, name)
            os.utime(full, (2, 2), follow_symlinks=False)
            if not os.path.islink(full):
                os.chmod(full, 0o444)


@pytest.fixture
def expected(tmp_path: Path) -> dict[str, str]:
    root = make_registry(tmp_path).root
    os.makedirs(tmp_path / "here")
    for name in FORMATS:
        create_archive(Version(root, "p", "a", "2"), tmp_path / "here/v", format=name, threads=1)
    found = digests(tmp_path / "here")
    assert len(found) == 2 * len(FORMATS)
    return found


def test_the_same_bytes_with_other_times_and_another_copy_of_the_registry(
    expected: dict[str, str], tmp_path: Path
) -> None:
    """Archive and receipt, in all six formats."""
    shutil.copytree(tmp_path / "registry", tmp_path / "copy", symlinks=True)
    touch_all(str(tmp_path / "copy"))
    assert pack_elsewhere(str(tmp_path / "copy"), tmp_path / "there", 1, {}) == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_same_bytes_in_other_processes_with_other_threads_hash_seeds_time_zones_locales_and_umasks(
    threads: int, expected: dict[str, str], tmp_path: Path
) -> None:
    for seed, zone, locale, umask in (("0", "UTC", "C", "022"), ("4711", "Asia/Kathmandu", "C.UTF-8", "077")):
        environ = {"PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale}
        prefix = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")
        found = pack_elsewhere(str(tmp_path / "registry"), tmp_path / seed, threads, environ, prefix)
        assert found == expected


def test_the_same_bytes_as_another_user(expected: dict[str, str], tmp_path: Path, users: Users) -> None:
    """Who may read the registry gets what the daemon gets."""
    at: Path | None = tmp_path
    while at is not None and at != Path("/"):
        at.chmod(at.stat().st_mode | 0o055)
        at = at.parent if at.parent != Path("/tmp") else None
    prefix = ("setpriv", f"--reuid={users.alice}", f"--regid={users.alice}", "--clear-groups")
    found = pack_elsewhere(str(tmp_path / "registry"), tmp_path / "theirs", 2, {}, prefix)
    assert found == expected


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_that_share_the_work_give_the_bytes_of_one(threads: int, tmp_path: Path) -> None:
    """With enough data that each of them has some."""
    (tmp_path / "top").mkdir()
    (tmp_path / "top/numbers").write_bytes(b"".join(b"%d," % (i * i) for i in range(4_000_000)))
    one = create_archive(tmp_path / "top", tmp_path / "1", threads=1)
    assert one.size > 8 << 20
    assert create_archive(tmp_path / "top", tmp_path / "n", threads=threads).sha256 == one.sha256


def test_a_directory_with_the_same_files_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever order the filesystem lists them in, and whoever owns them."""
    first, second = make_directory(tmp_path / "1/top"), tmp_path / "2/top"
    shutil.copytree(first, second)
    for name in FORMATS:
        made = [
            create_archive(top, top.parent / "d", format=name, clamp_mtime=9).sha256
            for top in (first, second)
        ]
        assert made[0] == made[1]


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
@pytest.mark.parametrize("path", ["a", "d/" + "n" * 98, "d/" + "n" * 99, "ü", "a b/c'd"])
@pytest.mark.parametrize("mtime", [0, 1_795_171_065, 0o77777777777, 1 << 40])
@pytest.mark.parametrize("size", [0, 511, (8 << 30) - 1, 8 << 30])
def test_headers_are_what_tarfile_would_write(kind: str, path: str, mtime: int, size: int) -> None:
    member = Planned(
        path, kind, mtime, size if kind == "file" else 0, 0o755, None, "x/y" if kind == "link" else ""
    )  # type: ignore[arg-type]
    assert header(member) == info_of(member).tobuf(tarfile.PAX_FORMAT)


def test_the_length_of_a_tar_file_is_known_before_it_is_written(tmp_path: Path) -> None:
    """That is what zstd's content size is made of."""
    from gobblerd.archive.version_plan import Wish, plan_version

    root = make_registry(tmp_path).root
    made = create_archive(Version(root, "p", "a", "2"), tmp_path / "v.tar")
    assert tar_size(plan_version(Version(root, "p", "a", "2"), Wish())) == made.size
