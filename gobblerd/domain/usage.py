"""How much a project stores, and how much it may store (spec/registry.md, "..usage and ..quota")."""

from dataclasses import dataclass

from gobblerd.domain.errors import Exceeded


@dataclass(frozen=True, slots=True)
class Usage:
    """A project's `..usage`: total bytes of all manifest entries without a link."""

    total: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A project's `..quota`: bytes, bytes per year, and the year in which the baseline holds."""

    baseline: int
    growth_rate: int
    year: int

    def limit(self, year: int) -> int:
        """Return the quota in calendar year `year`, in bytes."""
        return self.baseline + self.growth_rate * max(0, year - self.year)


def check_quota(project: str, used: int, adding: int, limit: int) -> None:
    """Raise Exceeded if `adding` bytes would take the project's usage over its limit."""
    if used + adding > limit:
        raise Exceeded(
            "project {project} would hold {total} bytes with this upload ({used} now, {adding} new), "
            "more than its quota of {limit} bytes; ask an administrator for more (set_quota)",
            project=project,
            total=used + adding,
            used=used,
            adding=adding,
            limit=limit,
        )
