"""A file's name and its format belong together."""

import pytest

from gobblerd.archive.formats import FORMATS, archive_path, format_of
from gobblerd.domain.errors import Wrong


@pytest.mark.parametrize("name", FORMATS)
def test_the_path_has_the_formats_suffix_once(name: str) -> None:
    path = archive_path("out/app-1.0", name)
    assert path == f"out/app-1.0.{name}"
    assert archive_path(path, name) == path
    assert format_of(path) == name


def test_a_name_of_another_format_is_refused() -> None:
    with pytest.raises(Wrong, match=r'"app\.zip" is named as a "zip"'):
        archive_path("app.zip", "tar.zst")


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(Wrong, match=r"tar\.zst, tar, tar\.gz"):
        archive_path("app", "rar")


@pytest.mark.parametrize("name", ["notes.txt", ".zip", "dir/.tar.gz", "tar", ""])
def test_what_is_no_archives_name_has_no_format(name: str) -> None:
    assert format_of(name) is None
