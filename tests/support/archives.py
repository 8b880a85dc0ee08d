"""What the tests of archives are made of: a registry with links of every kind, and a plain directory."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import zstandard
from support.registries import Book, To, Whitelisted

LEAVING = """
import os, signal, sys
from gobblerd.archive.writing import temporary, temporary_directory
with temporary(sys.argv[1]) as file, temporary_directory(sys.argv[1]) as directory:
    file.file.write(b"half")
    file.file.flush()
    os.mkdir(f"{directory}/deep")
    open(f"{directory}/deep/half", "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
FORMATS = ("tar.zst", "tar", "tar.gz", "tar.xz", "tar.bz2", "zip")
TIME = 1_795_171_065  # what support.registries writes as upload_finish, in seconds
CONTENTS = {  # of p/a/2, as a reader sees it
    "README": b"read me\n",
    "again": b"new\n",
    "data/new.bin": bytes(range(256)) * 2000,
    "data/new.txt": b"new\n",
    "data/old.txt": b"old\n",
    "linked/old": b"old\n",
    "outside": b"from elsewhere\n",
    "ü/" + "n" * 150: b"long\n",
}


def make_registry(base: Path) -> Book:
    """Write versions p/a/1 and p/a/2; the second links into the first, within itself, and out of all."""
    root, white = base / "registry", base / "white"
    root.mkdir()
    white.mkdir()
    (white / "file").write_bytes(CONTENTS["outside"])
    book = Book(str(root))
    book.version("p/a/1", {"old.txt": b"old\n"})
    book.version("p/a/1b", {"mid.txt": To("p/a/1/old.txt")})
    long = next(path for path in CONTENTS if path.startswith("ü"))
    book.version(
        "p/a/2",
        {
            "README": CONTENTS["README"],
            "data/new.bin": CONTENTS["data/new.bin"],
            "data/new.txt": b"new\n",
            "data/old.txt": To("p/a/1b/mid.txt"),
            "linked/old": To("p/a/2/data/old.txt"),
            "again": To("p/a/2/data/new.txt"),
            "outside": Whitelisted(str(white / "file")),
            "none": None,
            long: b"long\n",
        },
    )
    return book


def make_directory(top: Path) -> Path:
    """Write a directory as a job leaves one: a script, links of three kinds, an empty directory."""
    (top / "bin").mkdir(parents=True)
    (top / "none").mkdir()
    (top / "a.txt").write_bytes(b"hello\n")
    (top / "bin/run").write_bytes(b"#!/bin/sh\n")
    os.chmod(top / "bin/run", 0o700)
    outside = top.parent / "outside.txt"
    outside.write_bytes(b"outside\n")
    (top / "same").symlink_to("a.txt")
    (top / "tools").symlink_to(top / "bin")
    (top / "far").symlink_to(outside)
    (top / "..hidden").write_bytes(b"internal")
    for path, _, names in os.walk(top):
        for name in names:
            os.utime(os.path.join(path, name), (1_600_000_000, 1_600_000_000.5), follow_symlinks=False)
        os.utime(path, (1_600_000_001, 1_600_000_001))
    return top


def members_of(path: str) -> dict[str, bytes | str | None]:
    """Read an archive with Python's own modules: name -> bytes, a link's text, or None for a directory."""
    if path.endswith(".zip"):
        return _members_of_zip(path)
    with open(path, "rb") as raw:
        if path.endswith(".zst"):
            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                return _members_of_tar(tarfile.open(fileobj=stream, mode="r|"))
        return _members_of_tar(tarfile.open(fileobj=raw, mode="r|*"))


def _members_of_tar(found: tarfile.TarFile) -> dict[str, bytes | str | None]:
    members: dict[str, bytes | str | None] = {}
    with found:
        for info in found:
            file = found.extractfile(info) if info.isreg() else None
            members[info.name] = info.linkname if info.issym() else None if file is None else file.read()
    return members


def _members_of_zip(path: str) -> dict[str, bytes | str | None]:
    members: dict[str, bytes | str | None] = {}
    with zipfile.ZipFile(path) as found:
        assert found.testzip() is None
        for info in found.infolist():
            data = found.read(info)
            is_link = info.external_attr >> 28 == 0o12
            members[info.filename.rstrip("/")] = None if info.is_dir() else data.decode() if is_link else data
    return members


def leave_abandoned(directory: Path) -> set[str]:
    """Leave what a writer leaves that is killed: a file and a directory; return their names."""
    before = {*os.listdir(directory)}
    subprocess.run([sys.executable, "-c", LEAVING, directory], check=False)
    left = {*os.listdir(directory)} - before
    assert len(left) == 2
    return left
