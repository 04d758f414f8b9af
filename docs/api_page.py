"""The page of docs/reference about the HTTP API, from the OpenAPI document that the server gives out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, cast

from gpumax.apps.server.app import create_app
from gpumax.apps.server.site import Site

Item = dict[str, Any]

_INTRO: Final = """\
# HTTP API

The server answers on the Unix socket that `server.json` in its data directory names, and on TCP where it was started with
`--listen`. The same description, for programs, is at `/api/v1/openapi.json`.

```text
curl --unix-socket ~/.local/share/gpumax/gpumax.sock http://localhost/api/v1/status
```

Amounts are as in files: GPUs and cores as numbers, memory with its unit, or `unlimited`. Times are RFC 3339 in UTC. Every
answer with a status of 400 or more is an [Error](#error). Lists that have a `next` come in pages: ask again with `after`
set to it until it is null. Streams are server-sent events; who sends the `Last-Event-ID` that it saw last goes on from there.
"""


def api_page() -> str:
    """The page."""
    # The routes are the same of every server, so that none has to be there.
    document = create_app(cast(Site, None)).openapi()
    lines = [_INTRO, document["info"]["description"], "", "## Routes", ""]
    routes = [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    for path, method, operation in routes:
        lines += _route(path, method, operation)
    lines += ["## Answers", ""]
    for title, part in sorted(document["components"]["schemas"].items()):
        if title not in ("HTTPValidationError", "ValidationError"):
            lines += _shape(title, part)
    return "\n".join(lines).rstrip() + "\n"


def _route(path: str, method: str, operation: Item) -> Iterator[str]:
    yield from (
        f"### {method.upper()} {path}",
        "",
        f"{operation['summary']}. {operation.get('description', '')}".strip(),
        "",
    )
    parameters = operation.get("parameters", ())
    if parameters:
        yield from ("| parameter | in | type | meaning |", "|---|---|---|---|")
        for one in parameters:
            about = one.get("description") or one["schema"].get("description", "")
            default = one["schema"].get("default")
            told = (
                f"{about} Unset: `{json.dumps(default) if isinstance(default, bool) else default}`."
                if default not in (None, "")
                else about
            )
            yield f"| `{one['name']}` | {one['in']} | {_type(one['schema'])} | {_cell(told)} |"
        yield ""
    if body := operation.get("requestBody"):
        yield from (f"**Body** ({', '.join(body['content'])}): {_cell(body.get('description', ''))}", "")
    yield from ("| status | answer | when |", "|---|---|---|")
    for status, answer in sorted(operation["responses"].items()):
        kinds = answer.get("content", {})
        told = " or ".join(
            dict.fromkeys(
                _type(kind["schema"]) if name == "application/json" else f"`{name}`"
                for name, kind in kinds.items()
            )
        )
        yield f"| {status} | {told} | {_cell(_when(answer))} |"
    yield ""


def _when(answer: Item) -> str:
    about = str(answer.get("description", ""))
    return "It is done." if about == "Successful Response" else about


def _shape(title: str, part: Item) -> Iterator[str]:
    yield from (f"### {title}", "")
    if about := part.get("description"):
        yield from (about, "")
    yield from ("| field | type | meaning |", "|---|---|---|")
    for field, shape in part.get("properties", {}).items():
        yield f"| `{field}` | {_type(shape)} | {_cell(shape.get('description', ''))} |"
    yield ""


def _type(shape: Item) -> str:
    return " or ".join(dict.fromkeys(_words(shape))) or "anything"


def _words(shape: Item) -> Iterator[str]:
    if "anyOf" in shape:
        for part in shape["anyOf"]:
            yield from _words(part)
    elif "$ref" in shape:
        title = shape["$ref"].rpartition("/")[2]
        yield f"[{title}](#{title.lower()})"
    elif "enum" in shape:
        yield ", ".join(f"`{word}`" for word in shape["enum"])
    elif "const" in shape:
        yield f"`{shape['const']}`"
    elif shape.get("type") == "array":
        yield f"list of {_type(shape.get('items', {}))}"
    elif shape.get("type") == "object" and isinstance(shape.get("additionalProperties"), dict):
        yield f"map of names to {_type(shape['additionalProperties'])}"
    elif "type" in shape:
        yield {"string": "text", "integer": "whole number", "boolean": "`true`, `false`"}.get(
            str(shape["type"]), str(shape["type"])
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
