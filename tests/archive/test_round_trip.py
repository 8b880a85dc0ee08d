"""Whatever is written is found sound by the side that reads, and comes out as it went in."""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.archives import FORMATS, make_directory, make_registry

from gobblerd.archive import Extra, GobblerdError, Version, create_archive, tree_checksum, verify_archive

WAYS: list[dict[str, Any]] = [
    {},
    {"links": "preserve"},
    {"bundle_links": True},
    {"excludes": ["data", "*.none"]},
    {"extras": [Extra("postinstall", b"#!/bin/sh\n", executable=True)]},
    {"excludes": ["README"], "extras": [Extra("x/y", b"")], "links": "preserve"},
    {"prefix": "ü"},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMATS)
def test_versions_verify(form: str, way: dict[str, Any], tmp_path: Path) -> None:
    root = make_registry(tmp_path).root
    made = create_archive(Version(root, "p", "a", "2"), tmp_path / "v", format=form, **way)
    found = verify_archive(made.path, require_sha256=True)
    assert found.problems == ()
    assert (found.tree_checksum, found.sha256) == (made.tree_checksum, made.sha256)


@pytest.mark.parametrize("links", ["files", "preserve"])
@pytest.mark.parametrize("form", FORMATS)
def test_directories_verify(form: str, links: Any, tmp_path: Path) -> None:
    made = create_archive(make_directory(tmp_path / "top"), tmp_path / "d", format=form, links=links)
    assert verify_archive(made.path, require_sha256=True).problems == ()


PARTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=30)


@given(
    paths=st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=6),
    form=st.sampled_from(FORMATS),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_names_are_archived_and_verify_or_are_refused(
    paths: list[str], form: str, tmp_path: Path
) -> None:
    """Nothing is written that would be refused when it is taken out again."""
    top = tmp_path / os.urandom(8).hex()
    top.mkdir()
    for path in paths:
        target = top / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.encode())
        except OSError:  # the filesystem would not have it
            continue
    try:
        made = create_archive(top, tmp_path / f"{top.name}-out", format=form)
    except GobblerdError:
        return
    assert verify_archive(made.path, require_sha256=True).problems == ()
    assert made.tree_checksum == tree_checksum(top)
