"""Where settings come from: a TOML file, then GOBBLERD_... variables, then options of the command line.

Knows nothing of what the settings mean (config.py does); remembers where each value came from, so that
every problem can name the place to mend it. The values are gathered here rather than by
pydantic-settings, whose sources stop at the first text that does not parse, say nothing of an unknown
variable, and do not tell which source a refused value came from.
"""

import difflib
import json
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gobblerd.domain.errors import escaped_line, quoted

if typing.TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

ENVIRONMENT_PREFIX = "GOBBLERD_"
FILE_VARIABLE = "GOBBLERD_CONFIG"  # names the file itself; no setting
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True}
_BOOLEANS |= {"false": False, "no": False, "off": False, "0": False}
_SHOWN_MAX = 100
_REASONS = {
    "tuple_type": "should be a list",
    "string_type": "should be a text",
    "string_too_short": "should not be empty",
    "string_unicode": "should be UTF-8",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "float_type": "should be a number",
    "finite_number": "should be a finite number",
    "bool_type": "should be true or false",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration: where to mend it, which key, and why."""

    where: str
    key: str
    reason: str

    def __str__(self) -> str:
        """Return the problem on one line, whatever the file held."""
        return escaped_line(": ".join(part for part in (self.where, self.key, self.reason) if part))


class ConfigError(Exception):
    """The configuration cannot be used; `problems` lists all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def option_of(key: str) -> str:
    """Return the long option of a setting."""
    return "--" + key.replace("_", "-")


def variable_of(key: str) -> str:
    """Return the environment variable of a setting."""
    return ENVIRONMENT_PREFIX + key.upper()


@dataclass(slots=True)
class Gathered:
    """The values of all sources, the stronger over the weaker, and what was wrong with the sources."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def origin(self, key: str) -> str:
        """Return where the value of `key` came from, in words."""
        return self.origins.get(key, "default")

    def refuse(self, errors: Iterable["ErrorDetails"]) -> set[str]:
        """Add what the model refused to the problems; returns the keys at fault."""
        keys = set()
        for error in errors:
            key, *rest = (str(part) for part in error["loc"])
            keys.add(key)
            where = self.origins.get(key, "configuration")
            self.problems.append(Problem(where, key + "".join(f"[{part}]" for part in rest), _reason(error)))
        return keys


def gather(
    fields: Mapping[str, "FieldInfo"],
    file: str | None,
    environ: Mapping[str, str],
    options: Mapping[str, str],
) -> Gathered:
    """Collect the values of the settings `fields`; `options` holds texts by key."""
    found = Gathered()
    if file is not None:
        _add(found, fields, _read(file, found), lambda _: file)
    variables = {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): text
        for name, text in environ.items()
        if name.startswith(ENVIRONMENT_PREFIX) and name != FILE_VARIABLE
    }
    _add(found, fields, _converted(fields, variables), lambda key: f"environment variable {variable_of(key)}")
    _add(found, fields, _converted(fields, options), lambda key: f"option {option_of(key)}")
    return found


def _read(path: str, found: Gathered) -> Mapping[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start})"
    except tomllib.TOMLDecodeError as error:
        reason = f"is not TOML: {error}"
    found.problems.append(Problem(path, "", reason))
    return {}


def _add(
    found: Gathered,
    fields: Mapping[str, "FieldInfo"],
    values: Mapping[str, Any],
    origin: Callable[[str], str],
) -> None:
    for key, value in values.items():
        if key in fields:
            found.values[key] = value
            found.origins[key] = origin(key)
        else:
            close = difflib.get_close_matches(key, fields, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            found.problems.append(Problem(origin(key), key, f"there is no such setting{hint}"))


def _converted(fields: Mapping[str, "FieldInfo"], texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        key: _value(fields[key].annotation, text) if key in fields else text for key, text in texts.items()
    }


def _value(kind: Any, text: str) -> Any:
    """Return the value that a text stands for; the text itself if it stands for none, to be refused later."""
    origin = typing.get_origin(kind) or kind
    try:
        if origin is bool:
            return _BOOLEANS.get(text.lower(), text)
        if origin in {int, float}:
            return origin(text)
        if origin is Mapping or (origin is tuple and text.startswith("[")):
            return json.loads(text)
    except (ValueError, RecursionError):
        return text
    if origin is tuple:
        return [item for item in text.split(",") if item]
    return text


def _reason(error: "ErrorDetails") -> str:
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    value = error["input"]
    shown = quoted(value) if isinstance(value, str) else repr(value)[:_SHOWN_MAX]
    return f"{_REASONS.get(error['type'], error['msg'].removeprefix('Input '))}, not {shown}"
