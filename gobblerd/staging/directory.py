"""The staging directory, opened once and held by descriptor, and `responses/` in it, which is ours alone.

Nothing below staging is reached by path afterwards. Known limits: without the sticky bit on staging any
user can rename `responses/` itself (doctor says so); flock must reach the other nodes (doctor, too).
"""

import contextlib
import fcntl
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterator

from gobblerd.domain.errors import Fault, Plain
from gobblerd.domain.messages import REQUEST_PREFIX, Identity
from gobblerd.staging.mounts import filesystem_of
from gobblerd.staging.takeover import TAKEOVER, Listed, takeover_bytes
from gobblerd.storage.clock import FileClock
from gobblerd.storage.files import (
    DIRECTORY_MODE,
    READ_DIRECTORY,
    READ_FILE,
    Durability,
    opened,
    read_all,
    replace_file,
    write_all,
    write_file,
)
from gobblerd.storage.sync import Disk

RESPONSES = "responses"
_LOCK = ".daemon"
_ID = ".id"
_CLOCK = ".clock"
_LOCK_MODE = 0o600
_LOCK_TRIES, _LOCK_PAUSE = 10, 0.02  # seconds
_ID_BYTES = 8
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_ACLS = ("system.posix_acl_default", "system.posix_acl_access")


class StagingUnusable(Fault):
    """The daemon cannot serve this staging directory."""


class Staging:
    """An open staging directory with its exclusive lock; see `open`.

    `id` is 16 hexadecimal digits, the same for ever. `first_start` tells whether `responses/` was made
    just now. `clock` has the file server's time.
    """

    def __init__(
        self, path: str, fds: tuple[int, int], identifier: str, durability: Durability, *, first: bool
    ) -> None:
        self.path = path
        self.fd, self.responses_fd = fds
        self.id = identifier
        self.durability = durability
        self.first_start = first
        self.filesystem = filesystem_of(path)
        self.disk = Disk.of(path, durability)
        # Through the descriptor, so that the clock goes on when the path leads elsewhere.
        self.clock = FileClock(f"/proc/self/fd/{self.responses_fd}/{_CLOCK}")
        self._held = contextlib.ExitStack()

    @classmethod
    def open(cls, path: str, durability: Durability) -> "Staging":
        """Open the directory and take its lock; makes `responses/` if absent. Raises StagingUnusable.

        The path itself may lead through links: it comes from the configuration, not from a user.
        """
        path = os.path.abspath(path)
        with contextlib.ExitStack() as stack:
            try:
                fd = stack.enter_context(opened(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                first = _make_responses(fd, durability)
                responses_fd = _open_responses(fd, path, stack)
                _lock(responses_fd, path, stack)
                identifier = _identifier(responses_fd)
                staging = cls(path, (fd, responses_fd), identifier, durability, first=first)
                staging._held = stack.pop_all()
            except OSError as error:
                raise _unusable(path, error) from error
            return staging

    def close(self) -> None:
        """Give up the lock and the descriptors."""
        self._held.close()

    @contextlib.contextmanager
    def entries(self) -> Iterator[Iterator["os.DirEntry[str]"]]:
        """List the directory.

        Opened anew each time: that makes an NFS client ask the server, and two listings of one
        descriptor would share their position.
        """
        with opened(".", READ_DIRECTORY, dir_fd=self.fd) as fd, os.scandir(fd) as found:
            yield found

    def has(self, name: str) -> bool:
        """Tell whether anything is there under a name; OSError if that cannot be told."""
        return _has(self.fd, name)

    def identity(self, name: str) -> Identity:
        """Return the identity of whatever is there under a name, unopened; OSError."""
        found = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        return Identity(name, found.st_ino, found.st_mtime_ns, found.st_size)

    def changed(self) -> int:
        """Return the directory's mtime in nanoseconds, as the server has it."""
        with opened(".", READ_DIRECTORY, dir_fd=self.fd) as fd:
            return os.fstat(fd).st_mtime_ns

    def trouble(self) -> str:
        """Return what is wrong if the paths no longer lead to the directories that are open; else ""."""
        try:
            if not os.path.samestat(os.stat(self.path), os.fstat(self.fd)):
                return "the staging directory was replaced or unmounted"
        except OSError as error:
            return f"the staging directory cannot be reached: {error.strerror}"
        try:
            found = os.stat(RESPONSES, dir_fd=self.fd, follow_symlinks=False)
            there = os.path.samestat(found, os.fstat(self.responses_fd))
        except OSError:
            there = False
        return "" if there else "responses/ was taken away from staging: put it back, or restart gobblerd"


def _unusable(path: str, error: OSError) -> StagingUnusable:
    if isinstance(error, FileNotFoundError):
        return StagingUnusable("the staging directory {path} does not exist", path=path)
    return StagingUnusable(
        "the staging directory {path} cannot be used: {why}", path=path, why=Plain(error.strerror or error)
    )


def _make_responses(fd: int, durability: Durability) -> bool:
    """Make `responses/` if absent, together with its takeover list, and tell whether it was absent.

    Both appear in one rename: killed before it, the next start takes over again; after it, it goes on.
    """
    if _has(fd, RESPONSES):
        return False
    temporary = f".{RESPONSES}-{os.getpid()}-{secrets.token_hex(4)}"
    os.mkdir(temporary, 0o700, dir_fd=fd)
    try:
        with opened(temporary, READ_DIRECTORY, dir_fd=fd) as made:
            write_file(TAKEOVER, takeover_bytes(_present(fd)), durability, dir_fd=made)
            os.fchmod(made, DIRECTORY_MODE)  # whatever umask and default ACL made of it
            _sync(made, durability)
        os.rename(temporary, RESPONSES, src_dir_fd=fd, dst_dir_fd=fd)
    except OSError:
        _discard(fd, temporary)
        if _has(fd, RESPONSES):  # another daemon was faster; the lock decides between us
            return False
        raise
    _sync(fd, durability)
    return True


def _present(fd: int) -> Listed:
    with opened(".", READ_DIRECTORY, dir_fd=fd) as listing, os.scandir(listing) as entries:
        return frozenset((e.name, e.inode()) for e in entries if e.name.startswith(REQUEST_PREFIX))


def _discard(fd: int, temporary: str) -> None:
    with contextlib.suppress(OSError), opened(temporary, READ_DIRECTORY, dir_fd=fd) as made:
        os.unlink(TAKEOVER, dir_fd=made)
    with contextlib.suppress(OSError):
        os.rmdir(temporary, dir_fd=fd)


def _has(fd: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _sync(fd: int, durability: Durability) -> None:
    if durability is Durability.FULL:
        os.fsync(fd)


def _open_responses(fd: int, path: str, stack: contextlib.ExitStack) -> int:
    """Open `responses/` if it is a real directory that only we can write to."""
    shown = f"{path}/{RESPONSES}"
    try:
        responses_fd = stack.enter_context(opened(RESPONSES, READ_DIRECTORY, dir_fd=fd))
    except OSError as error:
        raise StagingUnusable(
            "{shown} is not a directory of gobblerd's own: {why}", shown=shown, why=Plain(error.strerror)
        ) from None
    found = os.fstat(responses_fd)
    if found.st_uid != os.geteuid():
        raise StagingUnusable(
            "{shown} belongs to user {owner}, not to the daemon's user {us}: responses in it could be forged",
            shown=shown,
            owner=found.st_uid,
            us=os.geteuid(),
        )
    if found.st_mode & _WRITABLE_BY_OTHERS:
        raise StagingUnusable(
            "{shown} is writable by others (mode {mode}): chmod it to 755",
            shown=shown,
            mode=Plain(f"{stat.S_IMODE(found.st_mode):o}"),
        )
    _drop_acls(responses_fd)
    return responses_fd


def _drop_acls(responses_fd: int) -> None:
    """Leave modes alone to say who reads responses: everybody.

    Staging's default ACL, which `responses/` was made under, keeps uploads from the group; responses too, and
    an entry for the group is stronger than a mode: whoever has the daemon's group could not read the answer.
    """
    for name in _ACLS:
        with contextlib.suppress(OSError):  # none there, or a filesystem without
            os.removexattr(responses_fd, name)


def _lock(responses_fd: int, path: str, stack: contextlib.ExitStack) -> None:
    # 0600: whoever could open it could hold it, and keep the daemon from starting.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_LOCK, flags, _LOCK_MODE, dir_fd=responses_fd)
    stack.callback(os.close, fd)
    try:
        os.fchmod(fd, _LOCK_MODE)
        _flock(fd)
    except BlockingIOError:
        holder = os.pread(fd, 200, 0).decode("ascii", "replace")
        raise StagingUnusable(
            "another gobblerd serves the staging directory {path} ({holder})", path=path, holder=holder
        ) from None
    except OSError as error:
        raise StagingUnusable(
            "{path}/responses/.daemon cannot be locked: {why}", path=path, why=Plain(error.strerror)
        ) from None
    os.ftruncate(fd, 0)
    write_all(fd, f"process {os.getpid()} on {socket.gethostname()}".encode("ascii", "replace"))


def _flock(fd: int) -> None:
    """Take the lock; tried for a moment, since `gobblerd status` asks for it for an instant."""
    for _ in range(_LOCK_TRIES):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_PAUSE)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _identifier(responses_fd: int) -> str:
    """Return the staging id, made at the first start."""
    try:
        with opened(_ID, READ_FILE, dir_fd=responses_fd) as fd:
            text = read_all(fd, 100).decode("ascii", "replace").strip()
    except FileNotFoundError:
        text = secrets.token_hex(_ID_BYTES)
        # Durable whatever was chosen: written once, and without it no daemon starts here again.
        replace_file(responses_fd, f"{_ID}.new", _ID, f"{text}\n".encode("ascii"), Durability.FULL)
    if not re.fullmatch(r"[0-9a-f]{16}", text):
        raise StagingUnusable("the staging id in responses/.id is damaged: {text}", text=text)
    return text
