"""Archives of real tools are read, whatever dialect they write; what cannot be extracted safely is named."""

import os
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.bench import Bench

from gobblerd.archive import extract_archive, inspect_archive, tree_checksum, verify_archive
from gobblerd.domain.errors import Wrong

DEEP = f"{'d' * 120}/{'e' * 120}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with what makes tools choose their extensions: long, deep and foreign names, links."""
    top = tmp_path / "from" / "top"
    (top / DEEP).mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "f").write_bytes(b"12345")
    (top / "big").write_bytes(os.urandom(100_000) + bytes(300_000))
    (top / ("long-" + "n" * 200)).write_bytes(b"long")
    (top / "Übung.txt").write_bytes(b"umlaut")
    (top / DEEP / "g").write_bytes(b"deep")
    (top / "to-f").symlink_to("f")
    (top / "to-deep").symlink_to(f"{DEEP}/g")
    (top / "f").chmod(0o755)
    return top


TOOLS = {
    **{
        f"GNU tar {name}": f"tar {options} -cf"
        for name, options in {
            "gnu": "--format=gnu",
            "oldgnu": "--format=oldgnu",
            "pax": "--format=pax",
            "posix with xattrs": "--format=posix --xattrs --acls",
            "gzip": "-z",
            "xz": "-J",
            "bzip2": "-j",
            "zstd": "--zstd",
            "blocked": "-b 200",
            "sorted": "--sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner",
        }.items()
    },
    **{
        f"bsdtar {name}": f"bsdtar {options} -cf"
        for name, options in {
            "pax": "--format=pax",
            "restricted": "",
            "gnutar": "--format=gnutar",
            "zip": "--format=zip",
            "zstd": "--zstd",
        }.items()
    },
    "zip": "zip -qry",
    "zip stored": "zip -qry0",
    "zip in C locale": "LC_ALL=C zip -qry",
}


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_s_archive(tmp_path: Path, tree: Path, tool: str) -> None:
    """It is sound, has the tree's checksum, and becomes the tree again."""
    program = TOOLS[tool].removeprefix("LC_ALL=C ").split()[0]
    if shutil.which(program) is None:
        pytest.skip(f"NOT TESTED: {program} is not installed")
    path = tmp_path / "archive"
    suffix = ".zip" if program == "zip" else ""  # or it adds one
    command = f"{TOOLS[tool]} {path}{suffix} top"
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    subprocess.run(command, shell=True, cwd=tree.parent, env=environment, check=True, capture_output=True)
    verified = verify_archive(f"{path}{suffix}")
    assert verified.problems == ()
    assert verified.tree_checksum == tree_checksum(tree)
    extract_archive(f"{path}{suffix}", tmp_path / "to")
    assert tree_checksum(tmp_path / "to/top") == tree_checksum(tree)
    assert os.readlink(tmp_path / "to/top/to-f") == "f"
    assert os.access(tmp_path / "to/top/f", os.X_OK)


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_python_s_tarfile(tmp_path: Path, tree: Path, form: int) -> None:
    """Both of its formats that can hold such names."""
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as archive:
        archive.add(tree, "top")
    assert verify_archive(tmp_path / "x.tar").tree_checksum == tree_checksum(tree)


def test_python_s_zipfile(tmp_path: Path, tree: Path) -> None:
    """Seekable, and written to a stream, with descriptors behind the members."""
    for name in ("seekable.zip", "streamed.zip"):
        with open(tmp_path / name, "wb") as raw:
            if name == "streamed.zip":
                raw.seekable = lambda: False  # type: ignore[method-assign]
            with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(tree.rglob("*")):
                    if not path.is_symlink():
                        archive.write(path, path.relative_to(tree.parent))
        extract_archive(tmp_path / name, tmp_path / f"from-{name}")
        assert (tmp_path / f"from-{name}/top/big").read_bytes() == (tree / "big").read_bytes()


def test_a_zip_of_more_than_4_gib_is_read(tmp_path: Path) -> None:
    """Its zip64 fields; the limit is lifted by who wants that."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("top/first", "w", force_zip64=True) as member:
            member.write(b"small, but with zip64 fields")
        archive.writestr("top/second", b"plain")
    assert verify_archive(tmp_path / "x.zip").is_sound
    assert [member.size for member in inspect_archive(tmp_path / "x.zip").members] == [28, 5]


def test_a_sparse_file_is_named(tmp_path: Path) -> None:
    """As GNU tar makes it, in both of its ways."""
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(10 << 20)
        file.seek(5 << 20)
        file.write(b"data")
    for form in ("gnu", "posix"):
        subprocess.run(
            ["tar", "-S", f"--format={form}", "-cf", f"{form}.tar", "holes"], cwd=tmp_path, check=True
        )
        with pytest.raises(Wrong, match=r'"holes".*sparse'):
            extract_archive(tmp_path / f"{form}.tar", tmp_path / "to")


def test_a_hard_link_is_named(tmp_path: Path, tree: Path) -> None:
    """As any tar makes it of two names of one file."""
    os.link(tree / "f", tree / "g")
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "top"], cwd=tree.parent, check=True)
    with pytest.raises(Wrong, match=r'"top/[fg]".*hard link'):
        extract_archive(tmp_path / "x.tar", tmp_path / "to")


def test_a_directory_packed_as_dot_is_named(tmp_path: Path, tree: Path) -> None:
    """`tar -C DIR .` gives every member a component that is refused; the reason says which."""
    subprocess.run(["tar", "-C", tree, "-cf", tmp_path / "x.tar", "."], check=True)
    with pytest.raises(Wrong, match=r'"\./".*component'):
        extract_archive(tmp_path / "x.tar", tmp_path / "to")


def test_an_upload_of_a_tool_s_archive(tmp_path: Path, tree: Path) -> None:
    """The version is the tree."""
    bench = Bench(tmp_path)
    try:
        bench.run("create_project", project="p")
        subprocess.run(["tar", "-czf", bench.staging / "x.tgz", "top"], cwd=tree.parent, check=True)
        bench.run("upload", project="p", asset="a", version="1", source="x.tgz")
        assert tree_checksum(bench.root / "p/a/1") == tree_checksum(tree)
    finally:
        bench.close()
