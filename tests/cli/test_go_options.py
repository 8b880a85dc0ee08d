"""gobblerd.cli.go_options: the Go service's spelling."""

import pytest

from gobblerd.cli.go_options import from_go, is_go_option


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("staging", "s", "--staging=s"),
        ("registry", "/a b", "--registry=/a b"),
        ("port", "8080", "--port=8080"),
        ("prefix", "", "--prefix="),
        ("admin", "a,b", "--administrators=a,b"),
        ("whitelist", "w", "--whitelist-file=w"),
        ("spoof", "a=b", "--spoof-file=a=b"),
        ("probation", "30", "--probation-days=30"),
        ("probation", "-1", "--probation-days=0"),
        ("concurrency", "100", "--long-workers=100"),
    ],
)
def test_every_option_in_every_spelling(
    name: str, value: str, found: str, dashes: str, *, joined: bool
) -> None:
    """One or two dashes, `-k v` or `-k=v`."""
    args = [f"{dashes}{name}={value}"] if joined else [f"{dashes}{name}", value]
    assert is_go_option(args[0])
    assert from_go(args) == [found]


def test_everything_else_stays_in_its_place() -> None:
    """Our own options, and what nobody knows, are left to click."""
    args = ["--config", "f", "-port", "1", "--no-require-marker", "-x", "--", "-admin"]
    expected = ["--config", "f", "--port=1", "--no-require-marker", "-x", "--", "--administrators"]
    assert from_go(args) == expected


@pytest.mark.parametrize(
    "arg", ["staging", "-s", "---staging", "--administrators", "-port8080", "", "-", "--help"]
)
def test_what_is_none_of_them(arg: str) -> None:
    """Nothing else passes for one."""
    assert not is_go_option(arg)
