"""The parts of a configuration that the rooms go by, each in its own words."""

from gobblerd.actions.action import Policy
from gobblerd.archive.exports import ExportPolicy
from gobblerd.registry.source import Limits
from gobblerd.service.config import Config
from gobblerd.service.dispatch import Rules
from gobblerd.staging.settings import SpoolLimits, WatchSettings


def rules_of(config: Config) -> Rules:
    """Return the part of the configuration that decides who may do what."""
    limits = Limits(
        files=config.upload_max_files,
        size=config.upload_max_bytes,
        depth=config.upload_max_depth,
        path=config.upload_max_path_bytes,
    )
    policy = Policy(
        whitelist=config.whitelist,
        limits=limits,
        enforce_quota=config.quota_enforced,
        quota_baseline=config.quota_baseline,
        quota_growth_rate=config.quota_growth_rate,
        exports=ExportPolicy(config.export_directory, config.export_max_bytes, config.export_name_template),
    )
    return Rules(frozenset(config.administrators), config.spoofing_rules, policy)


def spool_limits_of(config: Config) -> SpoolLimits:
    """Return the part of the configuration that the spool goes by."""
    return SpoolLimits(
        max_request_bytes=config.max_request_bytes,
        request_settle=config.request_settle,
        write_settle=config.write_settle,
        request_expiry=config.request_expiry,
        post_expiry=config.post_expiry,
        max_queued=config.max_queued,
        max_queued_per_user=config.max_queued_per_user,
        short_slots=config.short_workers,
        long_slots=config.long_workers,
    )


def watch_settings_of(config: Config) -> WatchSettings:
    """Return the part of the configuration that the watcher goes by."""
    return WatchSettings(config.watch, config.sweep_interval_local, config.sweep_interval_remote)
