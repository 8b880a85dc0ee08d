"""The Go service's options, turned into gobblerd's: one or two dashes, `-k value` or `-k=value`.

Source: the Gobbler's README, "Deployment instructions". Known difference: `-probation 0`, which expires
every version on probation there, expires none here.
"""

import re
from collections.abc import Mapping, Sequence

GO_OPTIONS: Mapping[str, str] = {
    "staging": "staging",
    "registry": "registry",
    "port": "port",
    "prefix": "prefix",
    "admin": "administrators",
    "whitelist": "whitelist_file",
    "spoof": "spoof_file",
    "probation": "probation_days",
    "concurrency": "long_workers",
}
_FORM = re.compile(r"--?([a-z]+)(?:=(.*))?", re.ASCII | re.DOTALL)


def is_go_option(arg: str) -> bool:
    """Tell whether an argument is one of the Go service's options."""
    found = _FORM.fullmatch(arg)
    return found is not None and found[1] in GO_OPTIONS


def from_go(args: Sequence[str]) -> list[str]:
    """Return the arguments with the Go service's options as gobblerd's; everything else stays."""
    found: list[str] = []
    rest = list(args)
    while rest:
        arg = rest.pop(0)
        if not is_go_option(arg):
            found.append(arg)
            continue
        name, value = _FORM.fullmatch(arg).groups()  # type: ignore[union-attr]  # is_go_option has matched
        if value is None and not rest:
            found.append(f"--{_option(name)}")  # click says that the value is missing
        else:
            found.append(f"--{_option(name)}={_value(name, rest.pop(0) if value is None else value)}")
    return found


def _option(name: str) -> str:
    return GO_OPTIONS[name].replace("_", "-")


def _value(name: str, value: str) -> str:
    return "0" if name == "probation" and value.startswith("-") else value  # any negative number: never
