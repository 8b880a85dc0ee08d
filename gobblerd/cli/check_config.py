"""`gobblerd check-config`: say what the configuration amounts to, or everything that is wrong with it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import click

from gobblerd.cli.settings import GoCommand, config_option, given, load_or_exit, setting_options
from gobblerd.domain.permissions import SpoofingRule
from gobblerd.service.config import Config
from gobblerd.service.go_files import SpoofFile, WhitelistFile, rule_entries


@click.command("check-config", cls=GoCommand, params=[config_option(), *setting_options()])
def command(config_file: str | None, **values: Any) -> None:
    """Print the configuration that `serve` would use, or all that is wrong with it (exit code 2)."""
    config = load_or_exit(config_file, given(values))
    click.echo("\n".join(effective(config)))


def effective(config: Config) -> Iterator[str]:
    """Yield the lines of a TOML file that gives this configuration."""
    tables = []
    for key, setting in Config.model_fields.items():
        value = getattr(config, key)
        if isinstance(value, Mapping):
            tables.append((key, value))
        elif value is None:
            yield f"# {key} is not set"
        else:
            extra = setting.json_schema_extra
            unit = extra["unit"] if isinstance(extra, dict) else ""
            yield f"{key} = {toml_value(value)}{f'  # {unit}' if unit else ''}"
    for file in (config.whitelist_file, config.spoof_file):
        if file is not None:
            yield from _contents(file)
    for key, table in tables:
        yield ""
        yield f"[{key}]"
        yield from (f"{_toml_text(name)} = {toml_value(item)}" for name, item in table.items())


def _contents(file: WhitelistFile | SpoofFile) -> Iterator[str]:
    yield f"# {file.path} holds:"
    if isinstance(file, WhitelistFile):
        yield from (f"#   {json.dumps(directory)}" for directory in file.directories)
    else:
        yield from (f"#   {json.dumps(name)} = {toml_value(rule)}" for name, rule in file.rules.items())


def toml_value(value: object) -> str:
    """Return a setting's value as TOML writes it."""
    if isinstance(value, SpoofingRule):
        return toml_value(rule_entries(value))
    if isinstance(value, tuple | list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, bool | int):
        return str(value).lower()
    return _toml_text(str(value))


def _toml_text(text: str) -> str:
    """Return a TOML string: as JSON's, whose pairs of escapes for one character TOML does not know."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else _escaped(ord(each)) for each in quoted)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
