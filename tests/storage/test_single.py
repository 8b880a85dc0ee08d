"""One small file in one go: only the ordinary is read, and whatever changes the disk is announced, either way."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gobblerd.storage.files import READ_FILE, opened, read_file, write_opened
from gobblerd.storage.handles import handle_of
from gobblerd.storage.single import Status, Whole, flocked, has_directory, read_whole

LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
REWRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture(autouse=True)
def _no_descriptor_stays() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("data", [b"", b"1", b"x" * 70_000])
def test_reading_a_file(either: str, tmp_path: Path, data: bytes) -> None:
    """All of it, however large."""
    (tmp_path / "ü").write_bytes(data)
    assert read_file(str(tmp_path / "ü")) == data


def test_reading_a_file_without_a_size(either: str) -> None:
    """Those of /proc say 0 bytes."""
    with open("/proc/self/mountinfo", "rb") as file:
        assert read_file("/proc/self/mountinfo") == file.read()


def test_what_cannot_be_read(either: str, tmp_path: Path) -> None:
    """The error names the file; a FIFO without a writer has no bytes, and hangs nobody."""
    with pytest.raises(FileNotFoundError) as error:
        read_file(str(tmp_path / "none"))
    assert error.value.filename == str(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_file(str(tmp_path))
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        read_file(str(tmp_path / "f" / "x"))
    with pytest.raises(ValueError, match="null"):
        read_file("a\0b")
    os.mkfifo(tmp_path / "pipe")
    assert read_file(str(tmp_path / "pipe")) == b""


def whole(top: int, name: str, most: int = 100, flags: int = READ_FILE) -> Whole | None:
    return read_whole(name, flags, most, dir_fd=top, handles=True)


@pytest.mark.parametrize("data", [b"", b"{}", b"\0" * 100])
def test_an_ordinary_file_is_read_whole(either: str, tmp_path: Path, top: int, data: bytes) -> None:
    """With what fstat says of it, and the handle that its descriptor has; without one where none is wanted."""
    path = tmp_path / "f\udcff"
    path.write_bytes(data)
    with opened(str(path), READ_FILE) as fd:
        handle = handle_of(fd)
    assert whole(top, "f\udcff") == Whole(Status.of(path.stat()), handle, data)
    assert read_whole(str(path), READ_FILE, 100, dir_fd=top, handles=False) == Whole(
        Status.of(path.stat()), b"", data
    )


def test_what_is_not_ordinary_is_left_to_the_caller(either: str, tmp_path: Path, top: int) -> None:
    """Links, second names, FIFOs, sockets, directories, too many bytes, nothing at all: None, without waiting."""
    for name in ("f", "two"):
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "link").symlink_to("f")
    os.link(tmp_path / "two", tmp_path / "names")
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket"))
        for name in ("link", "two", "names", "d", "pipe", "socket", "none", "x" * 300):
            assert whole(top, name) is None, name
    assert whole(top, "f", most=4) is None
    assert whole(top, "f", most=5) is not None


def test_a_file_that_has_lost_the_name_it_was_opened_by(either: str, tmp_path: Path, top: int) -> None:
    """It has one link, but that is another name: somebody else's file, perhaps."""
    (tmp_path / "notes").write_bytes(b"12345")
    os.link(tmp_path / "notes", tmp_path / "f")
    with opened(str(tmp_path / "f"), READ_FILE) as fd:
        again = f"/proc/self/fd/{fd}"
        follows = READ_FILE & ~os.O_NOFOLLOW
        assert whole(top, again, flags=follows) is None  # two names
        (tmp_path / "f").unlink()
        assert os.fstat(fd).st_nlink == 1
        assert whole(top, again, flags=follows) is None
    assert whole(top, "notes") is not None


def test_directories_in_a_directory(either: str, tmp_path: Path) -> None:
    """A link to one is as good; where there is no parent, or a loop, that is an error."""
    (tmp_path / "d").mkdir()
    (tmp_path / "l").symlink_to("d")
    (tmp_path / "dangling").symlink_to("none")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "f").write_bytes(b"")
    top = str(tmp_path)
    found = [has_directory(top, name) for name in ("d", "l", "dangling", "f", "none")]
    assert found == [True, True, False, False, False]
    for parent, error in (("none", FileNotFoundError), ("f", NotADirectoryError)):
        with pytest.raises(error) as raised:
            has_directory(f"{top}/{parent}", "d")
        assert raised.value.filename == f"{top}/{parent}"
    for name in ("loop", "x" * 300):
        with pytest.raises(OSError, match=r"link|long"):
            has_directory(top, name)


def test_locking(either: str, tmp_path: Path) -> None:
    """The file is made with the given mode; who comes second is told, and leaves nothing open."""
    path = str(tmp_path / "lock")
    shared, exclusive = fcntl.LOCK_SH | fcntl.LOCK_NB, fcntl.LOCK_EX | fcntl.LOCK_NB
    first = flocked(path, LOCK_FLAGS, 0o600, shared)
    second = flocked(path, LOCK_FLAGS, 0o644, shared)
    assert first is not None
    assert second is not None
    assert [stat.S_IMODE(mode) for _, mode in (first, second)] == [0o600, 0o600]
    assert flocked(path, LOCK_FLAGS, 0o600, exclusive) is None
    os.close(first[0])
    os.close(second[0])
    third = flocked(path, LOCK_FLAGS, 0o600, exclusive)
    assert third is not None
    assert flocked(path, LOCK_FLAGS, 0o600, shared) is None
    os.close(third[0])


def test_what_cannot_be_locked(either: str, tmp_path: Path) -> None:
    """No link is followed, and what is not there is an error."""
    (tmp_path / "link").symlink_to("none")
    with pytest.raises(OSError, match="symbolic"):
        flocked(str(tmp_path / "link"), LOCK_FLAGS, 0o600, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(FileNotFoundError) as error:
        flocked(str(tmp_path / "none" / "lock"), LOCK_FLAGS, 0o600, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert error.value.filename == str(tmp_path / "none" / "lock")


@pytest.mark.parametrize("preallocates", [False, True])
def test_writing(either: str, tmp_path: Path, top: int, *, preallocates: bool) -> None:
    """Of exactly the given mode, whatever the umask; by path or in a directory; new, or emptied first."""
    before = os.umask(0o077)
    try:
        for name, data in (("a", b"1234"), ("b", b"")):
            os.close(write_opened(name, data, dir_fd=top, preallocates=preallocates))
            assert (tmp_path / name).read_bytes() == data
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    finally:
        os.umask(before)
    with pytest.raises(FileExistsError) as error:
        write_opened(str(tmp_path / "a"), b"")
    assert error.value.filename == str(tmp_path / "a")
    fd = write_opened(str(tmp_path / "a"), b"56", REWRITE, 0o600, preallocates=preallocates)
    os.close(fd)
    assert (tmp_path / "a").read_bytes() == b"56"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_what_cannot_be_written(either: str) -> None:
    """The error is the kernel's, and no descriptor stays open."""
    with pytest.raises(OSError, match=r"No space left|not permitted"):  # as root, else
        write_opened("/dev/full", b"1", os.O_WRONLY, 0o666)


@pytest.mark.parametrize("extension", ["native.SINGLE", "None"])
def test_changes_are_announced(tmp_path: Path, extension: str) -> None:
    """Auditing hooks see them as they see `os.open`, before they are made, and can prevent them."""
    code = f"""if 1:
        import fcntl, os, sys
        from gobblerd.storage import files, native, single
        native.SINGLE = {extension}
        def hook(event, arguments):
            if event == "open" and arguments[0] in ("written", "locked") and arguments[2] & os.O_CREAT:
                raise OSError(5, "prevented")
        sys.addaudithook(hook)
        for act in (
            lambda: files.write_opened("written", b""),
            lambda: single.flocked("locked", os.O_RDWR | os.O_CREAT, 0o600, fcntl.LOCK_EX),
        ):
            try:
                act()
            except OSError as error:
                print(error)
        print(os.listdir("."))
    """
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert found.stdout.splitlines() == ["[Errno 5] prevented", "[Errno 5] prevented", "[]"]
