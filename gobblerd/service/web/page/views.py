"""What each page shows: from the query to a template's name and its values. Reads, and changes nothing."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gobblerd.domain.errors import Absent, Fault
from gobblerd.domain.manifest import stored_bytes
from gobblerd.domain.names import Address, is_readable_name
from gobblerd.domain.permissions import Permissions
from gobblerd.domain.times import year_of
from gobblerd.domain.version import Summary
from gobblerd.registry import layout
from gobblerd.registry.browse import Browser
from gobblerd.registry.contents import contents
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.survey import ProjectFacts, read_limit, read_usage
from gobblerd.service.web.page.figures import Pager, page_number
from gobblerd.service.web.page.surveyor import Surveyor

PER_PAGE = 100
MANIFEST_MOST = 4 << 20  # bytes: some 40,000 files, read within a tenth of a second
CHARTED = 20  # projects in the chart
_VERSION_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Totals:
    """A version's files that are stored, its links, and the bytes stored."""

    files: int
    links: int
    stored: int


@dataclass(frozen=True, slots=True)
class View:
    """A template and its values; `live`: how often, in seconds, it is worth looking again (0: never)."""

    template: str
    title: str
    values: Mapping[str, Any]
    live: int = 0


@dataclass(frozen=True, slots=True)
class Views:
    """Everything that the page reads from."""

    browser: Browser
    metadata: Metadata
    surveyor: Surveyor
    status: Callable[[], Mapping[str, Any]]

    def choose(self, query: Mapping[str, str]) -> View:
        """Return what a query asks for; Absent where there is nothing such."""
        named = {
            "": self.place,
            "projects": self.place,
            "usage": self.usage,
            "review": self.review,
            "activity": self.activity,
            "schedules": self.schedules,
        }
        view = named.get(query.get("view", ""))
        if view is None:
            raise Absent("there is no view {view}", view=query["view"])
        return view(query)

    # -- the registry ----------------------------------------------------------------------------------

    def place(self, query: Mapping[str, str]) -> View:
        """Show what is at a path of the registry."""
        parts = tuple(part for part in query.get("path", "").split("/") if part)
        names, below = parts[:_VERSION_DEPTH], parts[_VERSION_DEPTH:]
        place = Address(*names)
        if not all(map(is_readable_name, parts)) or (place.project and not self.metadata.has(place)):
            raise Absent("there is nothing at {path} in the registry", path="/".join(parts))
        if place.version:
            return self._version(place, "/".join(below), query)
        if place.asset:
            return self._asset(place, query)
        return self._project(place, query) if place.project else self._projects(query)

    def _projects(self, query: Mapping[str, str]) -> View:
        wanted = query.get("q", "").casefold()
        names = [p.project for p in self.metadata.projects() if wanted in p.project.casefold()]
        pager = Pager(len(names), page_number(query.get("page", "")), PER_PAGE)
        surveyed = self.surveyor.latest()
        known = {facts.name: facts for facts in surveyed.survey.projects} if surveyed else {}
        rows = [(name, known.get(name)) for name in pager.part(names)]
        return View("projects.html", "Projects", {"rows": rows, "pager": pager, "q": query.get("q", "")})

    def _project(self, place: Address, query: Mapping[str, str]) -> View:
        names = [child.asset for child in self.metadata.children(place)]
        pager = Pager(len(names), page_number(query.get("page", "")), PER_PAGE)
        assets = [place.child(name) for name in pager.part(names)]
        facts = ProjectFacts(
            place.project,
            read_usage(self.metadata, place.project),
            read_limit(self.metadata, place.project, year_of(time.time_ns())),
            len(names),
            0,
        )
        values = {
            "place": place,
            "facts": facts,
            "permissions": self._permissions(place),
            "rows": [(asset, self._latest(asset), len(self.metadata.children(asset))) for asset in assets],
            "pager": pager,
        }
        return View("project.html", str(place), values)

    def _asset(self, place: Address, query: Mapping[str, str]) -> View:
        found = [(version, self._summary(version)) for version in self.metadata.children(place)]
        found.sort(key=lambda each: each[1].finish if each[1] else -math.inf, reverse=True)
        pager = Pager(len(found), page_number(query.get("page", "")), PER_PAGE)
        values = {
            "place": place,
            "latest": self._latest(place),
            "permissions": self._permissions(place),
            "rows": pager.part(found),
            "pager": pager,
        }
        return View("asset.html", str(place), values)

    def _version(self, place: Address, below: str, query: Mapping[str, str]) -> View:
        path = f"{place}/{below}" if below else str(place)
        page = page_number(query.get("page", ""))
        listed = contents(self.browser, path, (page - 1) * PER_PAGE, PER_PAGE)
        values = {
            "place": place,
            "path": path,
            "below": below,
            "summary": self._summary(place),
            "totals": self._totals(place),
            "latest": self._latest(place.of_asset()),
            "items": listed.items,
            "pager": Pager(listed.total, page, PER_PAGE),
        }
        return View("version.html", path, values)

    def _summary(self, version: Address) -> Summary | None:
        return self.metadata.readable_summary(version)

    def _totals(self, version: Address) -> "Totals | None":
        """Count a version's files and bytes, unless its manifest is too large to be read for a look."""
        try:
            if os.stat(self.metadata.path(layout.in_place(version, layout.MANIFEST))).st_size > MANIFEST_MOST:
                return None
            entries = self.metadata.manifest(version)
        except (Fault, OSError):
            return None
        files = sum(1 for entry in entries.values() if entry.link is None and not entry.is_directory)
        links = sum(1 for entry in entries.values() if entry.link is not None)
        return Totals(files, links, stored_bytes(entries))

    def _latest(self, asset: Address) -> str:
        try:
            found = self.metadata.latest(asset)
        except Fault:
            return ""
        return found.version if found else ""

    def _permissions(self, place: Address) -> Permissions | None:
        try:
            return self.metadata.permissions(place)
        except Fault:
            return None

    # -- all projects ----------------------------------------------------------------------------------

    def usage(self, query: Mapping[str, str]) -> View:
        """Show who uses how much."""
        surveyed = self.surveyor.latest()
        found = surveyed.survey.projects if surveyed else ()
        ordered = sorted(found, key=lambda each: (-(each.used or 0), each.name))
        pager = Pager(len(ordered), page_number(query.get("page", "")), PER_PAGE)
        total = sum(each.used or 0 for each in ordered)
        charted = ordered[:CHARTED]
        values = {
            "surveyed": surveyed,
            "rows": pager.part(ordered),
            "pager": pager,
            "charted": charted,
            "rest": total - sum(each.used or 0 for each in charted),
            "rest_count": len(ordered) - len(charted),
            "total": total,
            "most": max((each.used or 0 for each in charted), default=0),
        }
        return View("usage.html", "Usage", values, live=0 if surveyed else 2)

    def review(self, query: Mapping[str, str]) -> View:
        """Show what is on probation and waits for somebody's decision."""
        surveyed = self.surveyor.latest()
        found = surveyed.survey.probational if surveyed else ()
        pager = Pager(len(found), page_number(query.get("page", "")), PER_PAGE)
        values = {"surveyed": surveyed, "rows": pager.part(found), "pager": pager}
        return View("review.html", "Review", values, live=0 if surveyed else 2)

    # -- the daemon ------------------------------------------------------------------------------------

    def activity(self, _query: Mapping[str, str]) -> View:
        """Show what is queued, what runs, and how recent requests ended."""
        return View("activity.html", "Activity", {"status": self.status()}, live=2)

    def schedules(self, _query: Mapping[str, str]) -> View:
        """Show when jobs run by themselves, and what they found."""
        return View("schedules.html", "Schedules", {"status": self.status()}, live=10)
