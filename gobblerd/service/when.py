"""When a scheduled job runs: never, every so many seconds, or by a cron expression in local time.

APScheduler does the reckoning and is imported only where a moment is asked for, so that reading the
configuration stays cheap. Known limits: day of the month and day of the week, where both are given, must
both hold (cron itself takes either); there are no names such as `@daily`.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

OFF = "off"
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CRON_FIELDS = 5
LONGEST = 10_000 * 86400  # seconds; no thread, calendar or lock can be waited for much longer
_NUMBERED = re.compile(r"(\d|\*)(?:-(\d))?(?:/(\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class When:
    """A schedule: every `every` seconds, or by the `cron` expression; neither means off."""

    every: float | None = None
    cron: str | None = None

    @property
    def is_off(self) -> bool:
        """Tell whether the job never runs."""
        return self.every is None and self.cron is None

    def next_after(self, moment: datetime) -> datetime | None:
        """Return when the job is next due after `moment` (aware), or None if never."""
        if self.every is not None:
            return moment + timedelta(seconds=self.every)
        if self.cron is None:
            return None
        # A microsecond later, since APScheduler's answer may be the moment that it is given.
        found: datetime | None = self.trigger().get_next_fire_time(None, moment + timedelta(microseconds=1))
        return found

    def trigger(self, jitter: float = 0) -> Any:
        """Return the APScheduler trigger, which delays each run by up to `jitter` seconds."""
        if self.every is not None:
            from apscheduler.triggers.interval import IntervalTrigger  # noqa: PLC0415 - see the file's docstring

            return IntervalTrigger(seconds=self.every, jitter=jitter)
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415 - see the file's docstring

        minute, hour, day, month, weekday = (self.cron or "").split()
        return CronTrigger(
            minute=minute, hour=hour, day=day, month=month, day_of_week=_days(weekday), jitter=jitter
        )


def parse_when(text: str) -> When:
    """Read `off`, a number of seconds or a cron expression of five fields; ValueError with what is wrong."""
    if text == OFF:
        return When()
    seconds = _number(text)
    if seconds is not None:
        if not 1 <= seconds <= LONGEST:
            raise ValueError(f"an interval is at least 1 second and at most {LONGEST}, not {text}")
        return When(every=seconds)
    if len(text.split()) != _CRON_FIELDS:
        raise ValueError(
            'neither "off", nor a number of seconds, nor a cron expression of five fields '
            "(minute, hour, day of month, month, day of week)"
        )
    found = When(cron=text)
    try:
        found.trigger()
    except ValueError as error:
        raise ValueError(f"not a cron expression: {error}") from None
    return found


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _days(field: str) -> str:
    """Return a day-of-week field with names for numbers: cron's Sunday is 0, APScheduler's Monday is."""
    return field if field == "*" else ",".join(_named(item) for item in field.split(","))


def _named(item: str) -> str:
    found = _NUMBERED.fullmatch(item)
    if found is None:  # names, or nonsense that APScheduler refuses
        return item
    first, last, step = found.groups()
    if first == "*":
        low, high = 0, 6
    else:
        low = int(first)
        high = int(last) if last else (6 if step else low)
    if max(low, high) >= len(DAYS) or low > high or step == "0":
        raise ValueError(f"{item} is not a day of the week")
    return ",".join(DAYS[day] for day in range(low, high + 1, int(step or 1)))
