"""What is known of a version besides its files: who uploaded it, when, and whether it is on probation."""

from collections.abc import Iterable
from dataclasses import dataclass

from gobblerd.domain.errors import Fault
from gobblerd.domain.times import MICROSECOND, parse_time

_LAST = parse_time("9999-12-31T23:59:59.999999Z")


@dataclass(frozen=True, slots=True)
class Summary:
    """A version's `..summary`; the times are texts as written (RFC 3339)."""

    upload_user_id: str
    upload_start: str
    upload_finish: str
    on_probation: bool = False

    @property
    def finish(self) -> int:
        """The end of the upload in nanoseconds; ValueError where the text is no time."""
        return parse_time(self.upload_finish)

    def approved(self) -> "Summary":
        """Return the same version without its probation flag."""
        return Summary(self.upload_user_id, self.upload_start, self.upload_finish)


@dataclass(frozen=True, slots=True)
class Latest:
    """An asset's `..latest`: the non-probational version with the greatest `upload_finish`."""

    version: str


def latest_of(summaries: Iterable[tuple[str, Summary]]) -> Latest | None:
    """Choose the latest among (name, summary); of two equal times the greater name, so that all agree."""
    candidates = [(summary.finish, name) for name, summary in summaries if not summary.on_probation]
    return Latest(max(candidates)[1]) if candidates else None


def finish_time(now: int, latest: Summary | None) -> int:
    """Return the `upload_finish` of a new version: now, but always later than the latest version's.

    Source: design/architecture.md, "Time, identity, mounts". Raises Fault where there is no later time.
    """
    finish = now if latest is None else max(now, latest.finish + MICROSECOND)
    if latest is not None and finish > _LAST:
        raise Fault(
            "nothing can be later than the latest version, of {finish}: correct upload_finish in its summary",
            finish=latest.upload_finish,
        )
    return finish
