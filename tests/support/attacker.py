"""A process that swaps things in an upload source as fast as it can, for tests that read it meanwhile.

`attacking` starts it on a source that holds `d/f` and `d/g`; every state in which it leaves `d/f` is the
requester's own file (`one`, `another`, or a mix of those while it is rewritten), somebody's secret by hard or
symbolic link, a FIFO, a directory, or nothing.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

OWN = (b"one", b"another", b"two")
SECRET = b"SECRET"


@contextlib.contextmanager
def attacking(top: str, secret: str, uid: int) -> Iterator[None]:
    """Attack the source at `top` for the length of the block; `secret` is on the same filesystem."""
    command = [sys.executable, __file__, top, secret, str(uid)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as attacker:
        assert attacker.stdout is not None
        assert attacker.stdout.readline() == b"attacking\n"
        try:
            yield
        finally:
            attacker.kill()


def _attack(top: str, secret: str, uid: int) -> None:
    f, d, new = f"{top}/d/f", f"{top}/d", f"{top}-new"

    def own(content: bytes) -> None:
        with open(new, "wb") as file:
            file.write(content)
        os.chown(new, uid, uid)
        os.rename(new, f)

    def swap(make: object, *arguments: str) -> None:
        make(*arguments)  # type: ignore[operator]
        os.rename(new, f)

    own(b"one")
    swap(os.symlink, secret, new)
    own(b"another")
    swap(os.link, secret, new)
    swap(os.mkfifo, new)
    own(b"one")
    with open(f, "r+b") as file:
        file.write(b"two")
    os.unlink(f)
    os.mkdir(f)
    os.rmdir(f)
    own(b"one")
    os.rename(d, f"{top}-d")
    os.symlink(os.path.dirname(secret), d)
    os.unlink(d)
    os.rename(f"{top}-d", d)


def main() -> None:
    """Attack until killed."""
    sys.stdout.write("attacking\n")
    sys.stdout.flush()
    while True:
        _attack(sys.argv[1], sys.argv[2], int(sys.argv[3]))


if __name__ == "__main__":
    main()
