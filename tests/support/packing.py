"""Archives of trees as `support.places` and `support.bench` write them."""

import io
import tarfile
from collections.abc import Mapping
from typing import Any

from support.places import Symlink


def packed(tree: Mapping[str, Any], top: str = "top") -> bytes:
    """Return a tar archive whose one top directory holds the tree."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, top, None)
        for path, content in tree.items():
            _add(archive, f"{top}/{path}", content)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: Any) -> None:
    info = tarfile.TarInfo(name)
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, Symlink | tuple):
        info.type = tarfile.SYMTYPE
        info.linkname = content.target if isinstance(content, Symlink) else content[1]
    else:
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        return
    archive.addfile(info)
