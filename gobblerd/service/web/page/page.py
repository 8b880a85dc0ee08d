"""The page itself: a view rendered by its template, with a policy that lets nothing else run or load.

Style and script are part of the page and are named in the policy by their hashes. Names are users' texts:
the templates escape them and set them apart (`<bdi>`), so that no name can pose as something else.
"""

import base64
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aiohttp import web

from gobblerd.domain.errors import GobblerdError, Kind, escaped
from gobblerd.domain.times import year_of
from gobblerd.registry.browse import Browser
from gobblerd.registry.metadata import Metadata
from gobblerd.registry.survey import survey
from gobblerd.service.codes import STATUS
from gobblerd.service.web.page import figures
from gobblerd.service.web.page.surveyor import Surveyor
from gobblerd.service.web.page.views import View, Views

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
NAVIGATION = (
    ("projects", "Projects"),
    ("usage", "Usage"),
    ("review", "Review"),
    ("activity", "Activity"),
    ("schedules", "Schedules"),
)


def prefers_page(accept: str) -> bool:
    """Tell whether an `Accept` header asks for HTML rather than JSON; who takes anything gets JSON."""
    wishes = {}
    for each in accept.split(","):
        kind, _, parameters = each.strip().partition(";")
        wishes[kind.strip().lower()] = _quality(parameters)
    html = max(wishes.get("text/html", 0.0), wishes.get("application/xhtml+xml", 0.0))
    return html > 0 and html >= wishes.get("application/json", 0.0)


def _quality(parameters: str) -> float:
    for each in parameters.split(";"):
        name, _, value = each.partition("=")
        if name.strip().lower() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class Page:
    """Renders views; its templates are loaded with the first page."""

    def __init__(self, views: Views, prefix: str) -> None:
        self._views = views
        self._prefix = prefix

    def answer(self, query: Mapping[str, str]) -> web.Response:
        """Return the page that a query asks for; blocks, for a thread of the pool."""
        code = 200
        try:
            view = self._views.choose(query)
        except GobblerdError as error:
            code = STATUS[error.kind]
            title = "Not found" if error.kind is Kind.ABSENT else "Cannot be shown"
            view = View("error.html", title, {"reason": error.reason})
        return web.Response(
            body=self._render(view, query).encode("utf-8", "replace"),
            status=code,
            content_type="text/html",
            charset="utf-8",
            headers={
                "Content-Security-Policy": self._policy,
                "Cache-Control": "no-cache",
                "Vary": "Accept",
                "Referrer-Policy": "no-referrer",
                "X-Content-Type-Options": "nosniff",
            },
        )

    def _render(self, view: View, query: Mapping[str, str]) -> str:
        status = self._views.status()
        return self._templates.get_template(view.template).render(
            {
                "title": view.title,
                "live": view.live,
                "here": query.get("view", "") or "projects",
                "path": query.get("path", ""),
                "service": status,
                "problems": status.get("problems", ()),
                **view.values,
            }
        )

    @cached_property
    def _templates(self) -> "Environment":
        from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - 40 ms that the start does without

        environment = Environment(
            loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, finalize=_visible
        )
        environment.filters.update(
            size=figures.size,
            count=figures.count,
            span=figures.span,
            moment=figures.moment,
            schedule=figures.schedule,
        )
        environment.globals.update(
            link=figures.here,
            prefix=self._prefix,
            navigation=NAVIGATION,
            style=self._style,
            script=self._script,
        )
        return environment

    @cached_property
    def _style(self) -> str:
        return _text("page.css")

    @cached_property
    def _script(self) -> str:
        return _text("page.js")

    @cached_property
    def _policy(self) -> str:
        return (
            f"default-src 'none'; style-src {_hash(self._style)}; script-src {_hash(self._script)}; "
            "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; img-src data:"
        )


def make_page(browser: Browser, root: str, status: Callable[[], Mapping[str, Any]], prefix: str) -> Page:
    """Compose the page of the registry at `root`; `status` gives the daemon's status document."""
    metadata = Metadata(root)
    surveyor = Surveyor(lambda: survey(metadata, year_of(time.time_ns())))
    return Page(Views(browser, metadata, surveyor, status), prefix)


def _visible(value: Any) -> Any:
    """Show control characters as escapes; markup is left as it is."""
    return escaped(value) if type(value) is str and not value.isprintable() else value


def _text(name: str) -> str:
    with open(os.path.join(_HERE, name), encoding="utf-8") as file:
        return file.read()


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
