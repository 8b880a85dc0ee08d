"""The registry's documents: lenient as the format is, strict in types, written with exactly their keys."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.domain.manifest import Entry, FileAddress, Link
from gobblerd.domain.permissions import Permissions, Uploader
from gobblerd.domain.usage import Quota, Usage
from gobblerd.domain.version import Latest, Summary
from gobblerd.registry import documents
from gobblerd.registry.documents import Unreadable

TEXT = st.text(st.characters(codec="utf-8"))
FILE = st.builds(FileAddress, TEXT, TEXT, TEXT, TEXT)
LINK = st.builds(Link.to, FILE, st.none() | FILE)
ENTRY = st.builds(Entry, st.integers(0, 2**63 - 1), TEXT, st.none() | LINK)
UPLOADER = st.builds(
    Uploader, TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT, st.none() | st.booleans()
)
PERMISSIONS = st.builds(
    Permissions, st.lists(TEXT).map(tuple), st.lists(UPLOADER).map(tuple), st.none() | st.booleans()
)


@given(st.dictionaries(TEXT, ENTRY))
def test_manifests_survive(manifest: dict[str, Entry]) -> None:
    """Written, read, the same; sorted by path; usage can be read off without the rest."""
    data = documents.manifest_bytes(manifest)
    assert documents.read_manifest(data) == manifest
    assert list(json.loads(data)) == sorted(manifest)
    assert documents.read_stored_bytes(data) == sum(e.size for e in manifest.values() if e.link is None)


@given(st.dictionaries(TEXT, LINK))
def test_links_survive(links: dict[str, Link]) -> None:
    """With `ancestor` only where there is one."""
    data = documents.links_bytes(links)
    assert documents.read_links(data) == links
    for name, link in links.items():
        keys = {"project", "asset", "version", "path"} | ({"ancestor"} if link.ancestor else set())
        assert set(json.loads(data)[name]) == keys


@given(PERMISSIONS)
def test_permissions_survive(permissions: Permissions) -> None:
    """Both arrays always; in each uploader only what was given, also false."""
    data = documents.permissions_bytes(permissions)
    assert documents.read_permissions(data) == permissions
    found = json.loads(data)
    assert set(found) == {"owners", "uploaders"} | (
        set() if permissions.global_write is None else {"global_write"}
    )
    for entry, uploader in zip(found["uploaders"], permissions.uploaders, strict=True):
        assert None not in entry.values()
        assert entry["id"] == uploader.id
        assert ("trusted" in entry) == (uploader.trusted is not None)


@pytest.mark.parametrize(
    ("read", "write", "value", "text"),
    [
        (documents.read_latest, documents.latest_bytes, Latest("1"), '{\n    "version": "1"\n}'),
        (documents.read_usage, documents.usage_bytes, Usage(7), '{\n    "total": 7\n}'),
        (
            documents.read_quota,
            documents.quota_bytes,
            Quota(1, 2, 3),
            '{\n    "baseline": 1,\n    "growth_rate": 2,\n    "year": 3\n}',
        ),
        (
            documents.read_summary,
            documents.summary_bytes,
            Summary("u", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
            (
                '{\n    "upload_user_id": "u",\n    "upload_start": "2026-01-01T00:00:00Z",\n'
                '    "upload_finish": "2026-01-01T00:00:01Z"\n}'
            ),
        ),
    ],
)
def test_small_documents(
    read: Callable[[bytes], Any], write: Callable[[Any], bytes], value: Any, text: str
) -> None:
    """Indented by four spaces, as the Go service does."""
    assert write(value).decode() == text
    assert read(write(value)) == value


def test_probation_is_written_only_where_it_holds() -> None:
    """Absent or false for a normal version."""
    summary = Summary("u", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", on_probation=True)
    assert json.loads(documents.summary_bytes(summary))["on_probation"] is True
    assert "on_probation" not in json.loads(documents.summary_bytes(summary.approved()))


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("{}", Entry()),
        ('{"size": 3}', Entry(3)),
        ('{"md5sum": "x", "link": null, "later": [1]}', Entry(0, "x")),
        ('{"size": null, "md5sum": null}', Entry()),
        (
            '{"link": {"project": "p", "asset": "a", "version": "v", "path": "f", "ancestor": null, "x": 1}}',
            Entry(0, "", Link("p", "a", "v", "f")),
        ),
    ],
)
def test_manifest_entries_of_others(text: str, entry: Entry) -> None:
    """Absent or null: size 0, checksum "", no link; unknown keys are ignored."""
    data = f'{{"f": {text}}}'.encode()
    assert documents.read_manifest(data) == {"f": entry}


@pytest.mark.parametrize(
    ("text", "permissions"),
    [
        ("{}", Permissions()),
        ('{"owners": null, "uploaders": null, "global_write": null}', Permissions()),
        ('{"owners": ["a", "a"], "later": 1}', Permissions(("a", "a"))),
        ('{"uploaders": [{"id": "u", "asset": null, "x": 1}]}', Permissions((), (Uploader("u"),))),
        ('{"uploaders": [{"id": "u", "until": "soon"}]}', Permissions((), (Uploader("u", until="soon"),))),
        ('{"global_write": false}', Permissions(global_write=False)),
    ],
)
def test_permissions_of_others(text: str, permissions: Permissions) -> None:
    """As Go and people write them."""
    assert documents.read_permissions(text.encode()) == permissions


READERS = {
    "manifest": documents.read_manifest,
    "sizes": documents.read_stored_bytes,
    "links": documents.read_links,
    "checksums": documents.read_checksums,
    "permissions": documents.read_permissions,
    "summary": documents.read_summary,
    "latest": documents.read_latest,
    "usage": documents.read_usage,
    "quota": documents.read_quota,
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"1", b"null", b"\xff", b'"x"', b"{} {}", b"[" * 100_000])
def test_what_is_no_document(name: str, data: bytes) -> None:
    """Unreadable, whatever is there; nothing else is raised."""
    with pytest.raises(Unreadable):
        READERS[name](data)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("manifest", '{"f": {"size": 1.0}}'),
        ("manifest", '{"f": {"size": "1"}}'),
        ("manifest", '{"f": {"size": true}}'),
        ("manifest", '{"f": {"md5sum": 1}}'),
        ("manifest", '{"f": {"link": {"project": "p"}}}'),
        ("manifest", '{"f": 1}'),
        ("sizes", '{"f": {"size": 1.5}}'),
        ("usage", '{"total": 1.0}'),
        ("usage", '{"total": null}'),
        ("usage", "{}"),
        ("latest", '{"version": 1}'),
        ("quota", '{"baseline": 1, "growth_rate": 1}'),
        ("permissions", '{"owners": "x"}'),
        ("permissions", '{"uploaders": [{}]}'),
        ("permissions", '{"global_write": 1}'),
        ("summary", '{"upload_user_id": "u", "upload_start": "x", "upload_finish": "yesterday"}'),
        ("summary", '{"upload_user_id": "u", "upload_start": "2026-01-01T00:00:00Z"}'),
        (
            "summary",
            (
                '{"upload_user_id": "u", "upload_start": "2026-01-01T00:00:00Z",'
                ' "upload_finish": "2026-01-01T00:00:00Z", "on_probation": "no"}'
            ),
        ),
    ],
)
def test_types_are_strict(name: str, text: str) -> None:
    """A document of the wrong types is not guessed at."""
    with pytest.raises(Unreadable):
        READERS[name](text.encode())
