"""The options that stand for settings, made from the model, and the reading of the configuration."""

import os
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any

import click

from gobblerd.cli.go_options import from_go
from gobblerd.service.config import Config, load
from gobblerd.service.settings import FILE_VARIABLE, ConfigError, option_of

EXIT_CONFIGURATION = 2
_PATHS = ("staging", "registry", "whitelist_file", "spoof_file")


class GoCommand(click.Command):
    """A command that understands the Go service's spelling of its options too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments after turning the Go service's options into ours."""
        return super().parse_args(ctx, from_go(args))


def config_option() -> click.Option:
    """Return the option that names the configuration file."""
    return click.Option(
        ["--config", "config_file"],
        envvar=FILE_VARIABLE,
        show_envvar=True,
        metavar="FILE",
        help="Configuration (TOML); environment variables GOBBLERD_... and options go before it.",
    )


def setting_options() -> Iterator[click.Option]:
    """Yield an option for every setting; its value arrives as text, or None where it was not given."""
    for key, setting in Config.model_fields.items():
        option = option_of(key)
        extra = typing.cast("Mapping[str, Any]", setting.json_schema_extra or {})
        unit = f" [{extra['unit']}]" if extra.get("unit") else ""
        about = f"{setting.description}{unit}"
        if setting.annotation is bool:
            spelled = f"{option}/--no-{option.removeprefix('--')}"
            yield click.Option([spelled, key], default=None, help=about)
        else:
            yield click.Option([option, key], help=about, metavar=_metavar(setting.annotation))


def _metavar(kind: Any) -> str:
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return "|".join(typing.get_args(kind))
    return {int: "N", float: "N", tuple: "A,B,...", Mapping: "JSON"}.get(origin, "TEXT")


def given(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the texts of the options that were given, by key; relative paths are made absolute."""
    texts = {key: _text(value) for key, value in values.items() if value is not None}
    return texts | {key: os.path.abspath(texts[key]) for key in _PATHS if texts.get(key)}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load_or_exit(file: str | None, options: Mapping[str, str]) -> Config:
    """Read the configuration; if it is wrong, say all that is, a line each, and exit with 2."""
    path = os.path.abspath(file) if file else None
    try:
        return load(path, options)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"gobblerd: {problem}", err=True)
        sys.exit(EXIT_CONFIGURATION)
