"""Copying a directory into staging before it is uploaded (see `uploading.upload_directory`).

What is copied is what the daemon would take (spec/requests.md, "Upload"): regular files, symbolic links as
links, empty directories; no name that begins with two dots, nor with one if those are to be ignored. Every
copy is read again and compared with what was read. Rights come from the umask, not from the source: its
owner alone may read a result of `mktemp`.

Limit: what is read again may come from this machine's cache, and not from the file server.
"""

import os
import stat
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from gobblerd.client.parallel import Meter, Progress, Stop, for_each

RECEIPT_SUFFIX = ".receipt.json"  # of the name of the receipt that lies beside an archive
_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # neither hangs on a FIFO
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Plan:
    """What a directory holds, by paths relative to it: directories parents first, links with their text."""

    directories: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, int]] = field(default_factory=list)


def copy_tree(
    source: str, target: str, *, ignore_dot: bool, concurrent: int, progress: Progress | None
) -> None:
    """Copy what `source` holds into the directory `target`, which is there and empty.

    ValueError names what cannot be uploaded (a FIFO, a file that changes) or was not copied right.
    """
    plan = look(source, ignore_dot=ignore_dot)
    for path in plan.directories:
        os.mkdir(os.path.join(target, path))
    for path, text in plan.links:
        os.symlink(text, os.path.join(target, path))
    meter = Meter(progress, len(plan.files), sum(size for _, size in plan.files))

    def copy(file: tuple[str, int], stop: Stop) -> None:
        path, _ = file
        _copy(os.path.join(source, path), os.path.join(target, path), meter, stop)

    for_each(plan.files, copy, concurrent)


def copy_archive(archive: str, target: str, *, progress: Progress | None) -> None:
    """Copy an archive file to the new file `target`, and its receipt beside it; ValueError as above."""
    files = [("", os.stat(archive).st_size)]
    receipt = f"{archive}{RECEIPT_SUFFIX}"
    if os.path.isfile(receipt):
        files.append((RECEIPT_SUFFIX, os.stat(receipt).st_size))
    meter = Meter(progress, len(files), sum(size for _, size in files))

    def copy(file: tuple[str, int], stop: Stop) -> None:
        suffix, _ = file
        _copy(os.path.realpath(f"{archive}{suffix}"), f"{target}{suffix}", meter, stop)

    for_each(files, copy, 1)


def look(source: str, *, ignore_dot: bool) -> Plan:
    """Return what is to be copied; links are never followed."""
    plan = Plan()
    pending = [""]
    skipped = "." if ignore_dot else ".."
    while pending:
        directory = pending.pop()
        with os.scandir(os.path.join(source, directory)) as entries:
            for entry in entries:
                if entry.name.startswith(skipped):
                    continue
                path = os.path.join(directory, entry.name)
                if entry.is_symlink():
                    plan.links.append((path, _link_text(source, path, os.readlink(entry.path))))
                elif entry.is_dir(follow_symlinks=False):
                    plan.directories.append(path)
                    pending.append(path)
                else:
                    plan.files.append((path, entry.stat(follow_symlinks=False).st_size))
    return plan


def _link_text(source: str, path: str, text: str) -> str:
    """Return what the copy of a link must say to go where the link goes.

    Relative within the tree if it stays in it, absolute if it leaves it (to the registry, say).
    """
    root = os.path.abspath(source)
    here = os.path.dirname(os.path.join(root, path))
    goes_to = os.path.normpath(os.path.join(here, text))
    is_inside = goes_to == root or goes_to.startswith(f"{root}/")
    if is_inside == os.path.isabs(text):
        return os.path.relpath(goes_to, here) if is_inside else goes_to
    return text


def _copy(source: str, target: str, meter: Meter, stop: Stop) -> None:
    with open(os.open(source, _READ), "rb", buffering=0) as read:
        before = os.fstat(read.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise ValueError(f"{source!r} cannot be uploaded: it is not a regular file")
        with open(os.open(target, _CREATE, 0o666), "wb", buffering=0) as write:
            digest = size = 0
            for chunk in _chunks(read.fileno(), stop):
                _write_all(write.fileno(), chunk)
                digest, size = zlib.crc32(chunk, digest), size + len(chunk)
                meter.add(0, len(chunk))
        after = os.fstat(read.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != before.st_size:
        raise ValueError(f"{source!r} changed while it was copied")
    _verify(target, size, digest, stop)
    meter.add(1, 0)


def _chunks(fd: int, stop: Stop) -> Iterator[bytes]:
    for chunk in iter(partial(os.read, fd, _CHUNK), b""):
        stop.check()
        yield chunk


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _verify(target: str, size: int, digest: int, stop: Stop) -> None:
    """Compare a copy with what was read; ValueError if it is something else."""
    found = found_size = 0
    with open(target, "rb", buffering=0) as file:
        for chunk in _chunks(file.fileno(), stop):
            found, found_size = zlib.crc32(chunk, found), found_size + len(chunk)
    if (found_size, found) != (size, digest):
        raise ValueError(
            f"the copy {target!r} is damaged: {found_size} bytes with CRC-32 {found:08x} were found, "
            f"{size} with {digest:08x} written"
        )
