"""Whether this process may write to a registry: asked before anything is served, and from time to time.

A registry that is mounted read-only, or is another account's, looks well to whoever reads it, and every
request would be answered 500.
"""

import errno
import os
import secrets
import stat

from gobblerd.domain.errors import Fault, Plain
from gobblerd.registry import layout

_OURS = (
    layout.LOGS,
    layout.TRANSACTIONS,
    *(layout.join(layout.TRANSACTIONS, each) for each in sorted(layout.TRANSACTION_FOLDERS)),
)
_ALL = os.R_OK | os.W_OK | os.X_OK


def require_writable(root: str) -> None:
    """Raise Fault unless this process may write to the registry, and to what is gobblerd's own in it."""
    for path in (root, *(layout.join(root, each) for each in _OURS)):
        if os.path.lexists(path):
            check_writable(path)


def check_writable(path: str) -> None:
    """Raise Fault unless this process may list a directory and write to it."""
    if os.access(path, _ALL, effective_ids=True):
        return
    # Old kernels leave capabilities out of that answer.
    trial = f"{path}/..trial-{secrets.token_hex(8)}"
    try:
        os.mkdir(trial, 0o700)
        os.rmdir(trial)
    except OSError as error:
        raise Fault(
            "{path} cannot be written to: {why}; {mend}",
            path=path,
            why=Plain(error.strerror or error),
            mend=Plain(_mend(path, error)),
        ) from error


def _mend(path: str, error: OSError) -> str:
    if error.errno == errno.EROFS:
        return "mount its filesystem to be written (under systemd, name it in ReadWritePaths)"
    if error.errno == errno.ENOTDIR:
        return "move it away: gobblerd makes a directory there"
    if error.errno == errno.EPERM:
        return "it is immutable: chattr -i it"
    if os.path.islink(path) and not os.path.exists(path):
        return "it is a symbolic link that goes nowhere: remove it"
    info = os.stat(path)
    if info.st_uid != os.geteuid():
        return (
            f"it belongs to user {info.st_uid}, this is user {os.geteuid()}: run as the account that owns "
            "the registry, or chown this to it"
        )
    return f"its mode is {stat.S_IMODE(info.st_mode):04o}: chmod it to 0755 (..transactions to 0700)"
