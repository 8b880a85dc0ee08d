"""The REST API as a table, and its description as OpenAPI 3.1 and as a page, both made of the table.

`rest.py` takes its routes from here too, so nothing is served that is not described.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from gobblerd.registry.content_types import JSON, UNKNOWN

_TEXT: Mapping[str, Any] = {"type": "string"}
_NAMES: Mapping[str, Any] = {"type": "array", "items": _TEXT}
_OBJECT: Mapping[str, Any] = {"type": "object"}
_ERROR: Mapping[str, Any] = {"$ref": "#/components/schemas/Error"}


def _object(**properties: str) -> Mapping[str, Any]:
    """Return the schema of an object that has all these keys; the values are JSON types."""
    return {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a client puts into the path or the query."""

    name: str
    where: Literal["path", "query"]
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One code that an operation answers with, and what its body is (no schema: no body)."""

    code: int
    text: str
    schema: Mapping[str, Any] | None = None
    media: str = JSON


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing that clients can ask for; `name` is its handler's. GET includes HEAD."""

    name: str
    method: Literal["GET", "POST"]
    path: str
    summary: str
    text: str
    parameters: tuple[Parameter, ...] = ()
    answers: tuple[Answer, ...] = ()


_REQUEST = Parameter("name", "path", "Name of the request file in the staging directory, `request-...`.")
_BYTES: Mapping[str, Any] = {"type": "string", "format": "binary"}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "post_request",
        "POST",
        "/new/{name}",
        "Execute a request",
        "Executes the request file that was dropped into the staging directory, or joins its execution, or "
        "repeats its recorded response. The answer has the response's code. No body is needed or read; the "
        "file's owner is who asks.",
        (_REQUEST,),
        (
            Answer(200, "The request was done; the action's own keys.", _OBJECT),
            Answer(400, "The request is wrong, or there is no such file.", _ERROR),
            Answer(403, "The requester may not do this.", _ERROR),
            Answer(404, "The project, asset or version is not there.", _ERROR),
            Answer(413, "A quota or a configured limit is exceeded.", _ERROR),
            Answer(422, "What is on disk has problems.", _ERROR),
            Answer(500, "The service or its storage failed.", _ERROR),
            Answer(503, "Nothing was executed; a new request may succeed.", _ERROR),
        ),
    ),
    Operation(
        "get_response",
        "GET",
        "/response/{name}",
        "Look up a request's response",
        "The recorded response, as in the response file.",
        (_REQUEST,),
        (
            Answer(200, "The response.", _OBJECT),
            Answer(
                202,
                "The request is queued or running.",
                _object(state="string", ahead="integer", bytes_done="integer", bytes_total="integer"),
            ),
            Answer(400, "This is no name of a request file.", _ERROR),
            Answer(404, "There is no response.", _ERROR),
        ),
    ),
    Operation(
        "list_names",
        "GET",
        "/list",
        "List a directory of the registry",
        "Names relative to `path`; those of directories end with `/`. With `recursive=true` files at any "
        "depth, and only empty directories.",
        (
            Parameter("path", "query", "Directory, relative to the registry; the registry itself if absent."),
            Parameter("recursive", "query", "`true` for files at any depth; anything else is false."),
        ),
        (
            Answer(200, "The names.", _NAMES),
            Answer(400, "The path leaves the registry, or is no directory.", _ERROR),
            Answer(404, "There is nothing at the path.", _ERROR),
        ),
    ),
    Operation(
        "fetch_file",
        "GET",
        "/fetch/{path}",
        "Fetch a file of the registry",
        "The bytes of a file, the registry's own documents (`..manifest` and its like) included. Supports "
        "conditional requests and single ranges. A slash may be written as `%2F`.",
        (Parameter("path", "path", "File, relative to the registry."),),
        (
            Answer(200, "The file.", _BYTES, UNKNOWN),
            Answer(206, "The range of it that was asked for.", _BYTES, UNKNOWN),
            Answer(304, "The client's copy is the file."),
            Answer(400, "The path leaves the registry.", _ERROR),
            Answer(404, "There is no file at the path.", _ERROR),
            Answer(412, "The file is not the one that If-Match names.", _ERROR),
            Answer(416, "The file has no bytes in that range.", _ERROR),
        ),
    ),
    Operation(
        "send_archive",
        "GET",
        "/archive/{path}",
        "Read a version as one archive",
        "Its files, its `..manifest` and its `..summary` under one top directory; every link is the file "
        "itself. The same version always gives the same bytes, those of `gobbler archive create`. Made while "
        "it is sent: there are no ranges and there is no length; whoever gets no regular end has got a part.",
        (Parameter("path", "path", "PROJECT/ASSET/VERSION.tar.zst, or .tar"),),
        (
            Answer(200, "The archive.", _BYTES, "application/zstd"),
            Answer(304, "The client's copy is the archive."),
            Answer(400, "A name is wrong, or a file cannot be in an archive.", _ERROR),
            Answer(404, "There is no such version.", _ERROR),
            Answer(412, "The archive is not the one that If-Match names.", _ERROR),
            Answer(422, "A file is not what the manifest says.", _ERROR),
            Answer(503, "Too many archives are being sent already.", _ERROR),
        ),
    ),
    Operation(
        "resolve_versions",
        "GET",
        "/resolve",
        "Find the versions that an expression means",
        "Versions of an asset, from the oldest to the newest by the precedence of Semantic Versioning; none "
        "on probation. An expression is a name, `latest`, or conditions with commas between them that must "
        "all hold: `==`, `!=`, `<`, `<=`, `>`, `>=`, `~=`, `^` and a version. Pre-releases only where a "
        "condition has one. No match is an empty list.",
        (
            Parameter("project", "query", "The project's name."),
            Parameter("asset", "query", "The asset's name."),
            Parameter("spec", "query", "The expression; every version if absent."),
        ),
        (
            Answer(
                200,
                "What was asked for, and the names.",
                _object(project="string", asset="string", spec="string", versions="array"),
            ),
            Answer(400, "The expression or a name is wrong, or missing.", _ERROR),
            Answer(404, "There is no such asset.", _ERROR),
        ),
    ),
    Operation(
        "get_info",
        "GET",
        "/info",
        "Where staging and registry are",
        "Absolute paths on the shared filesystem.",
        (),
        (Answer(200, "The paths.", _object(staging="string", registry="string")),),
    ),
    Operation(
        "get_root",
        "GET",
        "/",
        "What this is",
        "Name, home page and version of the service. Where `Accept` prefers `text/html`, as browsers do, the "
        "page: the registry, usage, what waits for review, requests and schedules (docs/page.md).",
        (),
        (Answer(200, "The service.", _object(name="string", url="string", version="string")),),
    ),
    Operation(
        "get_health",
        "GET",
        "/healthz",
        "Whether the service can serve",
        "For load balancers and monitoring.",
        (),
        (
            Answer(200, "It can.", _object(status="string", name="string", version="string")),
            Answer(503, "It cannot; the reason says why.", _ERROR),
        ),
    ),
    Operation(
        "get_metrics",
        "GET",
        "/metrics",
        "What the service does, in numbers",
        "For Prometheus: its text format, or OpenMetrics where the Accept header prefers that.",
        (),
        (Answer(200, "The metrics.", _TEXT, "text/plain"),),
    ),
    Operation(
        "get_description",
        "GET",
        "/openapi.json",
        "This description",
        "The API as an OpenAPI 3.1 document.",
        (),
        (Answer(200, "The document.", _OBJECT),),
    ),
    Operation(
        "get_page",
        "GET",
        "/docs",
        "This description as a page",
        "The API for people.",
        (),
        (Answer(200, "The page.", _TEXT, "text/html"),),
    ),
)


def description(name: str, version: str, prefix: str, operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the operations as an OpenAPI document; `prefix` comes before every path."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": name,
            "version": version,
            "description": "Every error is a JSON object with `status` (ERROR) and `reason`. Every answer "
            "may be read by pages of any origin. HEAD is answered wherever GET is, OPTIONS everywhere.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": {"Error": _object(status="string", reason="string")}},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    answers = {str(answer.code): _answer(answer) for answer in operation.answers}
    answers["default"] = _answer(Answer(0, "Any other failure.", _ERROR))
    return {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.text,
        "parameters": [
            {
                "name": parameter.name,
                "in": parameter.where,
                "description": parameter.text,
                "required": parameter.where == "path",
                "schema": _TEXT,
            }
            for parameter in operation.parameters
        ],
        "responses": answers,
    }


def _answer(answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {"description": answer.text}
    if answer.schema is not None:
        found["content"] = {answer.media: {"schema": answer.schema}}
    return found


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{name}: REST API</title>
<meta name="viewport" content="width=device-width">
<style>:root{{color-scheme:light dark}}
body{{font-family:sans-serif;max-width:50em;margin:2em auto;padding:0 1em;line-height:1.4}}
code{{background:#8883;padding:0 .2em;overflow-wrap:anywhere}}dt{{font-weight:bold}}</style></head>
<body><h1>{name} {version}: REST API</h1>
<p>{text} The same for programs: <a href="{prefix}/openapi.json">openapi.json</a>.</p>
{sections}</body></html>
"""


def page(document: Mapping[str, Any], prefix: str) -> str:
    """Return an OpenAPI document of `description` as HTML, without scripts or outside resources."""
    sections = "".join(
        _section(method, prefix + path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    info = document["info"]
    return _PAGE.format(
        name=escape(info["title"]),
        version=escape(info["version"]),
        text=_shown(info["description"]),
        prefix=escape(prefix),
        sections=sections,
    )


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = _terms((p["name"], p["description"]) for p in operation["parameters"])
    answers = _terms((code, answer["description"]) for code, answer in operation["responses"].items())
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2>\n"
        f"<p><strong>{escape(operation['summary'])}.</strong> {_shown(operation['description'])}</p>\n"
        + (f"<h3>Parameters</h3>{parameters}\n" if parameters else "")
        + f"<h3>Answers</h3>{answers}\n"
    )


def _terms(pairs: Iterable[tuple[str, str]]) -> str:
    terms = "".join(f"<dt>{escape(term)}</dt><dd>{_shown(text)}</dd>" for term, text in pairs)
    return f"<dl>{terms}</dl>" if terms else ""


def _shown(text: str) -> str:
    """Return a sentence of the description as HTML: what is between backticks is code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
