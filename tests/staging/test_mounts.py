"""Which filesystem a path is on."""

from pathlib import Path

import pytest

from gobblerd.staging.mounts import Filesystem, filesystem_of

TABLE = """\
22 1 0:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:40 / /cluster rw - nfs4 server:/x rw
31 30 0:41 / /cluster/own\\040disk rw shared:5 master:1 - xfs /dev/vdb rw
32 22 0:42 / /home rw - autofs systemd rw
33 32 0:43 / /home rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "is_local"),
    [
        ("/srv/x", "ext4", True),
        ("/cluster", "nfs4", False),
        ("/cluster/staging", "nfs4", False),
        ("/clusters", "ext4", True),
        ("/cluster/own disk/a", "xfs", True),
        ("/home/x", "fuse.sshfs", False),
    ],
)
def test_the_innermost_and_latest_mount_counts(tmp_path: Path, path: str, kind: str, is_local: bool) -> None:  # noqa: FBT001  a table's column
    """By path; an unknown type is not local."""
    (tmp_path / "mountinfo").write_text(TABLE)
    found = filesystem_of(path, str(tmp_path / "mountinfo"))
    assert (found.type, found.is_local) == (kind, is_local)


def test_without_a_table_nothing_is_known(tmp_path: Path) -> None:
    """Then it counts as remote: looking too often is the lesser harm."""
    assert not filesystem_of("/", str(tmp_path / "absent")).is_local
    assert filesystem_of("/").type != "unknown"
    assert not Filesystem("overlay").has_generations
