"""The configuration: every setting, its default and unit, and what is refused.

`load` reads it (see settings.py for the sources); config.example.toml shows every key. The values never
change: a reload (SIGHUP) makes a new Config, and `taken_over` says what a running daemon makes of it.
Defaults are taken as they are; that they are valid is a test's matter. Known limits: cron expressions are
checked by APScheduler, which costs some 40 ms of start-up when one is configured; whether directories exist
is for whoever opens them to find out.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    Strict,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gobblerd.archive.naming import DEFAULT_TEMPLATE, Template
from gobblerd.domain.errors import Wrong
from gobblerd.domain.permissions import SpoofingRule
from gobblerd.service.go_files import (
    SpoofFile,
    WhitelistFile,
    checked_name,
    cleaned,
    read_spoofing,
    read_whitelist,
    spoofing_rule,
)
from gobblerd.service.settings import ConfigError, Gathered, Problem, gather, option_of, variable_of
from gobblerd.service.when import LONGEST, parse_when
from gobblerd.storage.files import Durability

DAY = 86400
GIGABYTE = 1_000_000_000
MEBIBYTE = 1 << 20
_LISTS = ("administrators", "whitelist_directories", "export_pins")  # as [spoofing] they would pass for users
_PREFIX = re.compile(r"[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*", re.ASCII)


def _absolute(path: str) -> str:
    if not os.path.isabs(path):
        raise ValueError(f"should be an absolute path, not {path!r}")
    if "\0" in path:
        raise ValueError("holds a NUL character")
    return cleaned(path)


def _optional_directory(path: str) -> str:
    return _absolute(path) if path else ""


def _name_template(text: str) -> str:
    try:
        return Template(text).text
    except Wrong as error:
        raise ValueError(error.reason) from None


def _prefix(text: str) -> str:
    bare = text.strip("/")
    if bare and (not _PREFIX.fullmatch(bare) or {".", ".."} & set(bare.split("/"))):
        raise ValueError(f"should be a plain path such as /api/v2, not {text!r}")
    return f"/{bare}" if bare else ""


def _schedule(value: object) -> object:
    """Take a number for the text that it is."""
    return str(value).removesuffix(".0") if type(value) in {int, float} else value


def _checked_schedule(text: str) -> str:
    parse_when(text)
    return text


def _file_path(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"should be a path, not {value!r}")  # noqa: TRY004 - pydantic reports ValueErrors only
    return _absolute(value)


def _whitelist_file(value: object) -> WhitelistFile | None:
    if value is None or isinstance(value, WhitelistFile):
        return value
    if value == "":  # as the Go service has it: none
        return None
    return read_whitelist(_file_path(value))


def _spoof_file(value: object) -> SpoofFile | None:
    if value is None or isinstance(value, SpoofFile):
        return value
    if value == "":  # as above
        return None
    return read_spoofing(_file_path(value))


def _rules(value: object) -> dict[str, SpoofingRule]:
    if not isinstance(value, Mapping):
        raise ValueError("should be a table of lists: spoofer = [user, ...]")  # noqa: TRY004 - as above
    return {checked_name(spoofer): _rule(spoofer, users) for spoofer, users in value.items()}


def _rule(spoofer: str, users: object) -> SpoofingRule:
    if isinstance(users, SpoofingRule):
        return users
    if spoofer in _LISTS or (spoofer in Config.model_fields and not isinstance(users, list | tuple)):
        raise ValueError(f"{spoofer}: is a setting, not a user: put it above the line [spoofing]")
    if not isinstance(users, list | tuple) or not all(isinstance(user, str) for user in users):
        raise ValueError(f"{spoofer}: should be a list of user names, not {users!r}")
    return spoofing_rule(users)


Directory = Annotated[str, AfterValidator(_absolute)]
OptionalDirectory = Annotated[str, AfterValidator(_optional_directory)]
NameTemplate = Annotated[str, AfterValidator(_name_template)]
User = Annotated[str, AfterValidator(checked_name)]
Schedule = Annotated[str, BeforeValidator(_schedule), AfterValidator(_checked_schedule)]


def _setting(default: Any, description: str, unit: str = "", *, restart: bool = False, **limits: Any) -> Any:
    """Describe a setting: its default, what it means, its unit, whether a change needs a restart."""
    extra: dict[str, Any] = {"unit": unit, "restart": restart}
    most: Any = {"le": LONGEST} if unit == "seconds" else {}
    return Field(default, description=description, json_schema_extra=extra, **most, **limits)


class Config(BaseModel):
    """The settings of one daemon. Times in seconds, sizes in bytes, where no other unit is named."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    staging: Directory = _setting(..., "Staging directory, where users drop requests.", restart=True)
    registry: Directory = _setting(..., "Registry directory, written by gobblerd alone.", restart=True)
    require_marker: bool = _setting(
        default=False, description="Serve only a registry that bears the marker that `gobblerd init` writes."
    )
    durability: Annotated[Durability, Strict(strict=False)] = _setting(
        Durability.FULL,
        'What an answered request survives: "full" a power cut, "process" the death of the daemon.',
        restart=True,
    )

    host: str = _setting("0.0.0.0", "Address that the REST API listens on.", restart=True, min_length=1)  # noqa: S104 - as the Go service; clients of pygobbler ask this address
    port: int = _setting(8080, "Port of the REST API; 0: no REST API.", restart=True, ge=0, le=65535)
    prefix: Annotated[str, AfterValidator(_prefix)] = _setting(
        "", "Put before every path of the REST API.", restart=True
    )

    administrators: Annotated[tuple[User, ...], Strict(strict=False)] = _setting(
        (), "Users who may do everything."
    )
    whitelist_directories: Annotated[tuple[Directory, ...], Strict(strict=False)] = _setting(
        (), "Directories whose files uploads may keep as absolute symbolic links."
    )
    whitelist_file: Annotated[WhitelistFile | None, PlainValidator(_whitelist_file)] = _setting(
        None, "More of them, one a line (the Go service's file)."
    )
    spoof_file: Annotated[SpoofFile | None, PlainValidator(_spoof_file)] = _setting(
        None, "Spoofing rules, `spoofer:user,user` a line (the Go service's file)."
    )
    spoofing: Annotated[Mapping[str, SpoofingRule], PlainValidator(_rules)] = _setting(
        {}, 'Whom each spoofer may act as: a list of users, or "*" for anyone less the "-user" entries.'
    )

    quota_enforced: bool = _setting(
        default=False, description="Refuse uploads that would take a project over its quota."
    )
    quota_baseline: int = _setting(GIGABYTE, "Quota of a new project in its first year.", "bytes", ge=0)
    quota_growth_rate: int = _setting(GIGABYTE, "What its quota grows by.", "bytes per year", ge=0)

    watch: Literal["auto", "events", "sweep"] = _setting(
        "auto", "How dropped requests are noticed: by events and sweeps, whichever the filesystem needs."
    )
    sweep_interval_local: float = _setting(30, "Time between sweeps where events are heard.", "seconds", gt=0)
    sweep_interval_remote: float = _setting(
        2, "Time between sweeps of a network or FUSE filesystem.", "seconds", gt=0
    )

    lock_timeout: float = _setting(600, "How long a request waits for a locked place.", "seconds", gt=0)
    drain_timeout: float = _setting(20, "How long a stopping daemon finishes work.", "seconds", ge=0)
    short_workers: int = _setting(
        8, "Short requests performed at once; they share their syncs.", "threads", restart=True, ge=1, le=1024
    )
    long_workers: int = _setting(
        4, "Long requests (upload, reindex, ...) performed at once.", "threads", restart=True, ge=1, le=1024
    )

    max_request_bytes: int = _setting(4 * MEBIBYTE, "Largest request file.", "bytes", ge=1)
    max_queued: int = _setting(
        10_000, "Requests held in the queue; more of them stay in staging until there is room.", ge=1
    )
    max_queued_per_user: int = _setting(1_000, "The same of one user.", ge=1)
    request_settle: float = _setting(
        10, "How long an empty or unparsable request file is waited for.", "seconds", ge=0
    )
    write_settle: float = _setting(0.05, "Age at which a file closed in place is taken up.", "seconds", ge=0)
    request_expiry: float = _setting(
        DAY, "Age at which a request is not executed any more, but refused.", "seconds", gt=0
    )
    post_expiry: float = _setting(60, "The same for a request that only a POST announces.", "seconds", gt=0)

    upload_max_files: int = _setting(1_000_000, "Most files and empty directories of an upload.", ge=1)
    upload_max_bytes: int = _setting(0, "Most bytes of an upload; 0: no limit but the quota.", "bytes", ge=0)
    upload_max_depth: int = _setting(256, "Deepest directory of an upload.", "levels", ge=1, le=512)
    upload_max_path_bytes: int = _setting(
        3072,
        "Longest path within an upload; with project, asset and version it must fit 4095.",
        "bytes",
        ge=1,
    )

    purge_requests_days: float = _setting(7, "Age at which request files are removed.", "days", gt=0)
    purge_responses_days: float = _setting(
        1, "Age at which responses are removed whose request file is gone.", "days", gt=0
    )
    purge_uploads_days: float = _setting(7, "Age of abandoned uploads: directories, archives.", "days", gt=0)
    purge_logs_days: float = _setting(7, "Age of event files in ..logs.", "days", gt=0)
    purge_transactions_days: float = _setting(
        7, "Age at which another daemon's unfinished transactions count as abandoned.", "days", gt=0
    )
    purge_aside_days: float = _setting(
        90, "Age of uploads that recovery set aside because their place was taken.", "days", gt=0
    )
    probation_days: float = _setting(
        0, "Age at which versions on probation are rejected; 0: never.", "days", ge=0
    )

    export_directory: OptionalDirectory = _setting(
        "", 'Directory where export_version writes archives for everyone to read; "": no exports.'
    )
    export_max_bytes: int = _setting(
        0, "Most bytes of everything in the export directory; 0: no limit.", "bytes", ge=0
    )
    export_name_template: NameTemplate = _setting(
        DEFAULT_TEMPLATE, "What exported archives are called: text with fields, ending in {suffix}."
    )
    export_keep_last: int = _setting(
        0, "Newest versions of each asset whose archives are kept; 0: none because of that.", ge=0
    )
    export_keep_days: float = _setting(
        7, "Age up to which every archive is kept; 0: none because of that.", "days", ge=0
    )
    export_pins: Annotated[tuple[str, ...], Strict(strict=False)] = _setting(
        (), "Archives that are always kept: patterns of their names, or of project/asset/version."
    )

    schedule_refresh_usage: Schedule = _setting(
        "30 2 * * *", 'When usages are recomputed: cron expression, interval in seconds, or "off".'
    )
    schedule_refresh_latest: Schedule = _setting("0 3 * * *", "When latest versions are recomputed.")
    schedule_purge: Schedule = _setting("3600", "When what is old is removed.")
    schedule_expire_probation: Schedule = _setting(
        "0 4 * * *", "When old versions on probation are rejected."
    )
    schedule_scrub: Schedule = _setting("0 1 * * *", "When a part of the registry is read again.")
    scrub_bytes_per_run: int = _setting(
        0, "What a scrub reads; 0: so much that everything is read every scrub_every_days.", "bytes", ge=0
    )
    scrub_every_days: float = _setting(
        90, "In which time scrubs read everything, where scrub_bytes_per_run is 0.", "days", gt=0
    )
    scrub_bytes_per_second: int = _setting(
        100_000_000, "How fast a scrub reads; 0: as fast as it can.", "bytes per second", ge=0
    )
    schedule_prune_exports: Schedule = _setting("3600", "When exported archives are removed.")
    schedule_jitter: float = _setting(
        60, "Each scheduled run is put off by a random time up to this.", "seconds", ge=0
    )

    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "Least level that is logged.")

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if conflicts := list(_conflicts(self)):
            reasons = "; ".join(f"{key} {reason}" for key, _, reason in conflicts)
            raise PydanticCustomError("conflict", "{reasons}", {"reasons": reasons, "conflicts": conflicts})
        return self

    @property
    def whitelist(self) -> tuple[str, ...]:
        """All whitelisted directories, as clean absolute paths."""
        listed = self.whitelist_file.directories if self.whitelist_file else ()
        return (*self.whitelist_directories, *listed)

    @property
    def spoofing_rules(self) -> Mapping[str, SpoofingRule]:
        """All spoofing rules by spoofer; the table's count where the file has one too."""
        listed = self.spoof_file.rules if self.spoof_file else {}
        return {**listed, **self.spoofing}


def _pairs(path: str, others: Iterable[str]) -> Iterator[tuple[str, str]]:
    for other in others:
        yield path, other
        yield other, path


def _within(path: str, directory: str) -> bool:
    return os.path.commonpath([path, directory]) == directory


def _conflicts(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield (key, the other key, reason) for each combination of settings that cannot work."""
    staging, registry = config.staging, config.registry
    if _within(staging, registry) or _within(registry, staging):
        yield "staging", "registry", f"{staging} and the registry {registry} must not lie within each other"
    exports = config.export_directory
    if exports and any(_within(one, two) for one, two in _pairs(exports, (staging, registry))):
        yield (
            "export_directory",
            "registry",
            f"{exports} and staging or registry must not lie within each other",
        )
    for directory in config.whitelist:
        if _within(directory, staging) or _within(directory, registry):
            yield "whitelist_directories", "whitelist_file", f"{directory} lies in staging or registry"
    if config.max_queued_per_user > config.max_queued:
        yield "max_queued_per_user", "max_queued", f"is more than max_queued ({config.max_queued})"
    expiry = f"request_expiry ({config.request_expiry:g} s)"
    if config.post_expiry > config.request_expiry:
        yield "post_expiry", "request_expiry", f"is more than {expiry}"
    if config.request_settle >= config.request_expiry:
        yield "request_settle", "request_expiry", f"is not less than {expiry}"
    if config.purge_requests_days * DAY < config.request_expiry:
        yield "purge_requests_days", "request_expiry", f"is less than {expiry}"


def load(file: str | None, options: Mapping[str, str], environ: Mapping[str, str] | None = None) -> Config:
    """Read the configuration: `file` < environment < `options` (texts by key); ConfigError if it is wrong."""
    found = gather(Config.model_fields, file, os.environ if environ is None else environ, options)
    config = _validated(found)
    if config is None or found.problems:
        raise ConfigError(found.problems)
    return config


def _validated(found: Gathered) -> Config | None:
    """Make the Config; what is wrong goes to the problems, with the conflicts among what is right."""
    try:
        return Config(**found.values)
    except ValidationError as error:
        errors = error.errors()
    unread = any(not problem.key for problem in found.problems)  # a file, which may well have what is missing
    refused = [each for each in errors if each["loc"] and not (unread and each["type"] == "missing")]
    keys = found.refuse(_with_remedy(each) for each in refused)
    for each in errors:
        if not each["loc"]:
            for key, other, reason in each["ctx"]["conflicts"]:
                where = found.origins.get(key) or found.origin(other)
                found.problems.append(Problem(where, key, reason))
    if refused and not {"staging", "registry"} & keys:
        _validated_rest(found, keys)
    return None


def _validated_rest(found: Gathered, wrong: set[str]) -> None:
    """Look for conflicts among the settings that are right in themselves."""
    rest = Gathered({k: v for k, v in found.values.items() if k not in wrong}, found.origins)
    _validated(rest)
    found.problems += [problem for problem in rest.problems if problem.key not in wrong]


def _with_remedy(error: Any) -> Any:
    """Say of a missing setting how to give it."""
    if error["type"] != "missing":
        return error
    key = str(error["loc"][0])
    reason = f"is missing: set it in the file, as {variable_of(key)} or with {option_of(key)}"
    return {**error, "type": "value_error", "ctx": {"error": reason}}


def taken_over(old: Config, new: Config) -> tuple[Config, list[str]]:
    """Return what a running daemon goes by after a reload, and which settings wait for a restart.

    ConfigError where the rest of `new` does not go together with what waits.
    """
    waiting = [
        key
        for key, setting in Config.model_fields.items()
        if isinstance(setting.json_schema_extra, dict)
        and setting.json_schema_extra["restart"]
        and getattr(old, key) != getattr(new, key)
    ]
    merged = new.model_copy(update={key: getattr(old, key) for key in waiting})
    where = f"until a restart takes over {', '.join(waiting)}"
    if problems := [Problem(where, key, reason) for key, _, reason in _conflicts(merged)]:
        raise ConfigError(problems)
    return merged, waiting
