"""Names of archives: templates are checked when they are set, names are read only where they are unequivocal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gobblerd.archive.naming import DEFAULT_TEMPLATE, NameParts, Template
from gobblerd.domain.errors import Wrong

DIGITS = "0123456789abcdef"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "end in"),
        ("{version}", "end in {suffix}"),
        ("{version}{suffix}x", "end in {suffix}"),
        ("{version}{suffix}{asset}", "end in {suffix}"),
        ("archive{suffix}", "hold {version} or {checksum}"),
        ("{project}{suffix}", "hold {version} or {checksum}"),
        ("{name}_{version}{suffix}", "no field {name}"),
        ("{}_{version}{suffix}", "no field"),
        ("{version}_{version}{suffix}", "twice"),
        ("{asset}{version}{suffix}", "without anything between"),
        ("{version!r}{suffix}", "no format"),
        ("{version:>9}{suffix}", "no format"),
        ("{version.real}{suffix}", "no field"),
        ("{version", "expected"),
        ("a/{version}{suffix}", "/"),
        ("a\\{version}{suffix}", "backslash"),
        ("a\n{version}{suffix}", "control"),
        (".{version}{suffix}", "dot"),
        ("-{version}{suffix}", "dash"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_it_is_set(text: str, why: str) -> None:
    with pytest.raises(Wrong) as refused:
        Template(text)
    assert why in str(refused.value)


def test_a_name_is_made_of_its_parts() -> None:
    parts = NameParts("p", "a", "1.0", DIGITS, ".tar.zst")
    assert Template(DEFAULT_TEMPLATE).name(parts) == f"p_a_1.0_{DIGITS}.tar.zst"
    assert Template("x {{{version}}}{suffix}").name(parts) == "x {1.0}.tar.zst"


def test_what_a_directory_has_not_is_left_out_with_what_stands_before_it() -> None:
    assert (
        Template(DEFAULT_TEMPLATE).name(NameParts("results", "", "", DIGITS, ".zip"))
        == f"results_{DIGITS}.zip"
    )


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(Wrong, match="longer than 255 bytes"):
        Template(DEFAULT_TEMPLATE).name(NameParts("p" * 150, "a" * 90, "1", DIGITS, ".zip"))


NAMES = st.text("ab_.-", min_size=1, max_size=6).filter(lambda name: not name.startswith(".."))


@given(NAMES, NAMES, NAMES)
def test_reading_a_name_gives_what_it_was_made_of_or_nothing(project: str, asset: str, version: str) -> None:
    """Never something else."""
    template = Template(DEFAULT_TEMPLATE)
    parts = NameParts(project, asset, version, DIGITS, ".tar.gz")
    name = template.name(parts)
    assert parts in set(template.readings(name))
    assert template.read(name) in {parts, None}
    if "_" not in project + asset + version:
        assert template.read(name) == parts


@pytest.mark.parametrize(
    "name", ["notes.txt", "p_a_1.zip", "p_a_1_0123.zip", f"p_a_{DIGITS}.zip", f"p_a_1_{DIGITS}.rar"]
)
def test_a_name_of_another_kind_means_nothing(name: str) -> None:
    assert Template(DEFAULT_TEMPLATE).read(name) is None
