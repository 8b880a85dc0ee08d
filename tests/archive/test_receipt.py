"""Receipts: written the same for the same archive, read as if a stranger had written them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gobblerd.archive import receipt as receipts
from gobblerd.archive.members import Member
from gobblerd.archive.receipt import Options, Receipt, load_receipt, read_receipt, receipt_bytes
from gobblerd.domain.errors import Invalid

ONE, TWO, THREE = ("11" * 32, "22" * 32, "33" * 32)
RECEIPT = Receipt(
    name="app.tar.zst",
    sha256=ONE,
    size=1234,
    options=Options("tar.zst", 3, "app", 1_700_000_000, "preserve", ("*.tmp",)),
    tree_checksum=TWO,
    members=(
        Member("app", "directory", mode=0o755),
        Member("app/..manifest", "file", 10, THREE),
        Member("app/b", "link", mode=0o755, target="sub/ü"),
        Member("app/sub/ü", "file", 3, ONE),
    ),
    project="p",
    asset="a",
    version="1",
    manifest=THREE,
    left_out=("x.tmp",),
    added=("b",),
)
Change = Callable[[dict[str, Any]], object]


def test_what_is_written_is_read_again() -> None:
    assert read_receipt(receipt_bytes(RECEIPT)) == RECEIPT


def test_it_is_an_in_toto_statement_with_sorted_keys_two_spaces_and_a_final_newline() -> None:
    data = receipt_bytes(RECEIPT)
    document = json.loads(data)
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert document["subject"] == [
        {"name": "app.tar.zst", "digest": {"sha256": ONE}},
        {"name": "app/..manifest", "digest": {"sha256": THREE}},
    ]
    assert data.decode() == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _set(*keys: Any) -> Change:
    """Return the change that puts the last value at the place that the keys before it lead to."""
    *path, last, value = keys

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for key in path:
            at = at[key]
        at[last] = value

    return change


def _drop(*keys: Any) -> Change:
    *path, last = keys

    def change(document: dict[str, Any]) -> None:
        at: Any = document
        for key in path:
            at = at[key]
        del at[last]

    return change


MEMBERS = ("predicate", "members")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_set("_type", "https://in-toto.io/Statement/v0.1"), "_type is"),
        (_set("predicateType", "https://slsa.dev/provenance/v1"), "predicateType is"),
        (_set("predicate", "format_version", 2), "format_version is 2"),
        (_set("predicate", "format_version", True), "format_version is True"),
        (_set("predicate", "format_version", 1.0), "format_version is 1.0"),
        (_set("predicate", []), "format_version is None"),
        (_drop("predicate", "size"), "size"),
        (_set("predicate", "size", "1234"), "size"),
        (_set("predicate", "size", -1), "size"),
        (_set("predicate", "size", 1.0), "size"),
        (_set("predicate", "size", 1 << 70), "size"),
        (_set("predicate", "entries", 5), "counts 5 entries and lists 4"),
        (_set("predicate", "tree_checksum", {"gobblerd-tree-2": TWO}), "gobblerd-tree-1"),
        (_set("predicate", "tree_checksum", "gobblerd-tree-1", "22"), "tree_checksum"),
        (_set("predicate", "options", "format", "rar"), "no archive format"),
        (_set("predicate", "options", "level", 19), "level of"),
        (_set("predicate", "options", "links", "hard"), "links"),
        (_set("predicate", "options", "prefix", "../app"), "top directory"),
        (_set("predicate", "options", "excludes", "*"), "excludes"),
        (_set("predicate", "version", ""), "version"),
        (_set("predicate", "project", "../p"), "project"),
        (_set("predicate", "left_out", ["/etc"]), "left out"),
        (_set("subject", []), "no subject"),
        (_set("subject", 0, "name", "../app.tar.zst"), "no file name"),
        (_set("subject", 0, "name", ".."), "no file name"),
        (_set("subject", 0, "digest", {"sha256": ONE.replace("1", "A")}), "digest"),
        (_set("subject", 0, "digest", {"md5": "00"}), "sha256"),
        (lambda d: d["subject"].append(d["subject"][0]), "each once"),
        (lambda d: d["subject"].append(d["subject"][1]), "each once"),
        (_drop("subject", 1), "each once"),
        (_set("subject", 1, "digest", "sha256", ONE), "inventory's checksum"),
        (_set("subject", 1, "name", "app/..summary"), "each once"),
        (_set(*MEMBERS, 3, "path", "app/../x"), '".."'),
        (_set(*MEMBERS, 3, "path", "/x"), "absolute"),
        (_set(*MEMBERS, 3, "path", "other/x"), "does not lie in"),
        (_set(*MEMBERS, 3, "path", "application"), "does not lie in"),
        (_set(*MEMBERS, 3, "path", "app/b"), "same name"),
        (_set(*MEMBERS, 3, "path", "app/B"), "case"),
        (_set(*MEMBERS, 3, "mode", "4755"), "mode"),
        (_set(*MEMBERS, 3, "mode", 420), "mode"),
        (_set(*MEMBERS, 3, "type", "fifo"), "type"),
        (_set(*MEMBERS, 3, "target", "b"), "links have a target"),
        (_drop(*MEMBERS, 3, "sha256"), "files have size and sha256"),
        (_set(*MEMBERS, 2, "target", "/etc/passwd"), "absolute"),
        (_set(*MEMBERS, 2, "target", "../../x"), "leads out"),
        (_set(*MEMBERS, 0, "size", 0), "files have size"),
    ],
)
def test_whatever_is_not_as_it_must_be_is_refused(change: Change, why: str) -> None:
    document = json.loads(receipt_bytes(RECEIPT))
    change(document)
    with pytest.raises(Invalid) as refused:
        read_receipt(json.dumps(document).encode())
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"[]", "not a JSON object"),
        (b"\xff", "not valid UTF-8"),
        (b'{"_type": 1, "_type": 1}', "twice"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "deeper than 128"),
        (b"[" * 100_000, "deeper than 128"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": "\\ud800"}', "surrogate"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_receipt(data)
    assert why in str(refused.value)


def test_a_key_given_twice_deep_inside_is_refused() -> None:
    data = receipt_bytes(RECEIPT).replace(b'"size": 10,', b'"size": 11, "size": 10,')
    with pytest.raises(Invalid, match='the key "size" occurs twice'):
        read_receipt(data)


def test_more_than_64_mib_are_refused_unparsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered here: the rule is the same for any number."""
    assert receipts.MAX_BYTES == 64 << 20
    monkeypatch.setattr(receipts, "MAX_BYTES", 100)
    with pytest.raises(Invalid, match="larger than 100 bytes"):
        read_receipt(b" " * 101)


def test_keys_that_we_do_not_know_are_ignored() -> None:
    """As in-toto asks of every reader."""
    document = json.loads(receipt_bytes(RECEIPT))
    document["predicate"]["note"] = {"more": [1]}
    assert read_receipt(json.dumps(document).encode()) == RECEIPT


def test_a_receipt_that_is_none_is_named(tmp_path: Path) -> None:
    """The file, and what is the matter with it."""
    path = tmp_path / "x.tar.receipt.json"
    path.write_text("{}")
    with pytest.raises(Invalid) as refused:
        load_receipt(path)
    assert refused.value.reason.startswith(f'"{path}" is no sound receipt: ')
