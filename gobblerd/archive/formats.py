"""The six formats: what they are called, how a file's name shows them, how their bytes are compressed.

Every setting that decides about bytes is fixed here, so that one version gives one archive.
"""

import os
from dataclasses import dataclass

from gobblerd.domain.errors import Plain, Wrong


@dataclass(frozen=True, slots=True)
class Format:
    """A format of archives: its name, and the compression's fixed level (None: it has none)."""

    name: str
    level: int | None

    @property
    def suffix(self) -> str:
        """What the name of such an archive ends in."""
        return f".{self.name}"

    @property
    def is_zip(self) -> bool:
        """Tell whether it is a zip file; the others are tar files, compressed or not."""
        return self.name == "zip"


FORMATS = {
    each.name: each
    for each in (
        Format("tar.zst", 3),
        Format("tar", None),
        Format("tar.gz", 6),
        Format("tar.xz", 6),
        Format("tar.bz2", 9),
        Format("zip", 6),
    )
}
DEFAULT = "tar.zst"


def format_named(name: str) -> Format:
    """Return the format; Wrong if there is none of that name."""
    if name not in FORMATS:
        raise Wrong("there is no archive format {name}: {known}", name=name, known=Plain(", ".join(FORMATS)))
    return FORMATS[name]


def format_of(path: str | os.PathLike[str]) -> str | None:
    """Return the name of the format that a file's name ends in, whatever its case; None if it is none.

    >>> format_of("results/app_1.TAR.ZST")
    'tar.zst'
    >>> format_of("notes.txt") is None
    True
    """
    name = os.path.basename(os.fspath(path)).lower()
    found = [each for each in FORMATS.values() if name.endswith(each.suffix) and name != each.suffix]
    return max(found, key=lambda each: len(each.suffix)).name if found else None


def archive_path(base: str | os.PathLike[str], format: str = DEFAULT) -> str:  # noqa: A002 - the word for it
    """Return the path of an archive of that format: `base` with the format's suffix, if it has not got it.

    A name that ends in the suffix of another format is refused (Wrong): the name must tell what is inside.

    >>> archive_path("out/app", "tar.gz")
    'out/app.tar.gz'
    >>> archive_path("out/app.tar.gz", "tar.gz")
    'out/app.tar.gz'
    """
    path = os.fspath(base)
    wanted = format_named(format)
    found = format_of(path)
    if found == wanted.name:
        return path
    if found is not None:
        raise Wrong("{path} is named as a {found}, not as a {wanted}", path=path, found=found, wanted=format)
    if not os.path.basename(path):
        raise Wrong("{path} names no file", path=path)
    return f"{path}{wanted.suffix}"
