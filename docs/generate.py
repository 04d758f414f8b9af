"""Write the pages of docs/reference that follow from the code: `make docs`.

python docs/generate.py          write them
python docs/generate.py --check  say which ones are out of date, and write nothing
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import click
from api_page import api_page

from gpumax.apps.cli.main import cli
from gpumax.apps.scheduler.exported import EXPORTED
from gpumax.formats.not_yet import NOT_YET
from gpumax.formats.schema import NAMES, schema
from gpumax.model.decision import HOLD_CODES, NODE_REASONS
from gpumax.model.explanation import CHANGES, SHARE_RULES, TRIED_REASONS

REFERENCE: Final = Path(__file__).parent / "reference"
_NOTE: Final = "<!-- Written by docs/generate.py from the code; `make docs` writes it anew. -->\n"
_INTRO: Final = {
    "snapshot": "The state of a cluster at one moment: all that one decision needs. `gpumax decide FILE` reads it, journals "
    "and bug reports carry it.",
    "decision": "What follows from a snapshot. `gpumax decide FILE` prints it.",
    "workload": "What a person submits with `gpumax apply -f FILE`. Several documents may stand in one file, separated by "
    "`---`, queues among them.",
    "result": "What came of a study, run by run. `gpumax simulate FILE --out DIR` writes it as `result.json`; `gpumax report` draws it.",
    "scenario": "A study over time: a cluster, its tenants, the work that comes, and what is compared. Tables are CSV, packed or not. "
    "Beside `submitted`, arrivals need `duration` or `ended`, and `gpu`, `devices` or `gpu_milli`.",
    "queue": "A node of the quota tree, beside workloads in a file for `gpumax apply`. `gpumax queue set` changes one.",
}
_ABOUT_METRICS: Final = """\
What `gpumax up --kubernetes --listen HOST:PORT` exports at `/metrics`, in Prometheus' text format. Off loopback a caller needs a token of
somebody whom the cluster lets `get` the path: a ClusterRole with `nonResourceURLs: [/metrics]` and the verb `get`.

Labels have few values: a queue that is gone leaves, and no name of a workload, pod or node is a label. Beside these there are the `process_` metrics
that every program has. Amounts are in base units: GPUs, cores and bytes by the label `resource`.

Agents (`gpumax agent --listen HOST:PORT`) export those of their node's broker, as `gpumax up` does at `/api/v1/metrics`: `gpumax_broker_up`, and while there is one what it says of each
group and device (`gpumax_broker_...`, `gpumax_gpu_unfenced_processes`, `gpumax_gpu_unfenced_bytes`). On a cluster a group is called after a claim or a ticket; `gpumax_agent_part_info{group,namespace,pod}`
is 1 for each, and says whose it is.
"""
_SPELLINGS: Final = """\
Files are YAML or JSON. `null` means the same as leaving a field out. A field that does not exist is a fault, and so is
one that this version knows but does not honour yet; every fault is told at once, with its line.

| written | means |
|---|---|
| amount of GPUs or cores | a number: `4`, `0.5`, or thousandths: `500m` |
| amount of memory | bytes, or with a unit: `16Gi`, `512Mi`, `1000000000` |
| duration | `90s`, `10m`, `2h30m`, `7d`, or a number of seconds |
| time | `2026-11-23T12:00:00Z`, or seconds since 1970 |
"""


def pages() -> dict[str, str]:
    """Every page, by the name of its file."""
    found = {f"{name}.md": _format(name) for name in NAMES}
    found["reasons.md"] = _reasons()
    found["commands.md"] = _commands()
    found["api.md"] = api_page()
    found["metrics.md"] = _metrics()
    return {name: _NOTE + text for name, text in sorted(found.items())}


def _metrics() -> str:
    lines = ["# Metrics", "", _ABOUT_METRICS, "| metric | type | labels | meaning |", "|---|---|---|---|"]
    for name, row in EXPORTED.items():
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{name}` | {row.type} | {labels} | {_cell(row.words)} |")
    return "\n".join(lines) + "\n"


def _format(name: str) -> str:
    root = schema(name)
    lines = [f"# {name.capitalize()}", "", _INTRO[name], "", _SPELLINGS]
    for title in _reachable(root):
        part = root["$defs"][title]
        lines += [f"## {title}", ""]
        if about := part.get("description"):
            lines += [about, ""]
        lines += ["| field | type | meaning |", "|---|---|---|"]
        required = part.get("required", ())
        for field, shape in part["properties"].items():
            words = "; ".join(dict.fromkeys(_words(shape)))
            needed = "**Required.** " if field in required else ""
            lines.append(f"| `{field}` | {words} | {needed}{_cell(shape['description'])} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _reachable(root: dict[str, Any]) -> list[str]:
    """Definitions in the order in which a reader meets them."""
    order: list[str] = []
    left = list(_references(root, deep=False))
    while left:
        title = left.pop(0)
        if title not in order:
            order.append(title)
            left = [*_references(root["$defs"][title], deep=True), *left]
    return order


def _references(part: object, *, deep: bool) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for key, inner in part.items():
            if deep or key != "$defs":
                yield from _references(inner, deep=deep)
    elif isinstance(part, list):
        for inner in part:
            yield from _references(inner, deep=deep)


def _words(shape: dict[str, Any]) -> Iterator[str]:
    """A shape in words, alternatives one by one; null is never mentioned, because it always means unset."""
    if "anyOf" in shape:
        for part in shape["anyOf"]:
            yield from _words(part)
    elif "$ref" in shape:
        title = shape["$ref"].rpartition("/")[2]
        yield f"[{title}](#{title.lower()})"
    elif "enum" in shape:
        yield ", ".join(f"`{word}`" if word else "empty" for word in shape["enum"])
    elif "const" in shape:
        yield f"`{shape['const']}`"
    elif shape.get("type") == "array":
        yield f"list of {_together(shape['items'])}"
    elif shape.get("type") == "object":
        yield f"map of names to {_together(shape['additionalProperties'])}"
    elif shape.get("type") != "null":
        yield _scalar(shape)


def _together(shape: dict[str, Any]) -> str:
    return " or ".join(dict.fromkeys(_words(shape)))


def _scalar(shape: dict[str, Any]) -> str:
    if shape["type"] == "integer":
        return _range(shape)
    if shape["type"] != "string":
        return "`true`, `false`" if shape["type"] == "boolean" else str(shape["type"])
    if shape.get("format") == "date-time":
        return "time"
    pattern = shape.get("pattern", "")
    marks = {"|Ki|": "amount of memory", "m|k|K": "amount", "ms|s|m": "duration"}
    return next((word for mark, word in marks.items() if mark in pattern), "text")


def _range(shape: dict[str, Any]) -> str:
    least, most = shape["minimum"], shape["maximum"]
    if most >= 1 << 50:
        return f"whole number from {least}" if least > -(1 << 50) else "whole number"
    return f"whole number, {least} to {most}" if most < 1 << 31 and least > -(1 << 31) else "whole number"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _reasons() -> str:
    lines = [
        "# Why work waits",
        "",
        "A workload that waits has one hold: a code, a sentence, how many nodes fail for which reason, and what is short.",
        "`gpumax why NAME` says it in full.",
        "",
        *_table("code", HOLD_CODES.items()),
        "",
        "## Why a node can't take a task",
        "",
        "The first that applies, in this order.",
        "",
        *_table("reason", NODE_REASONS.items()),
        "",
        "## How a queue came by its share",
        "",
        "`rule` of `derived`: what kept the share from being larger; the first that applies.",
        "",
        *_table("rule", SHARE_RULES.items()),
        "",
        "## Why nobody made way",
        "",
        "`reason` of `tried`, one row a pass and queue.",
        "",
        *_table("reason", TRIED_REASONS.items()),
        "",
        "## What would let it start",
        "",
        "`change` of `needs`. Each was tried by deciding again, and is enough by itself.",
        "",
        *_table("change", CHANGES.items()),
        "",
        "## What this version refuses",
        "",
        "Fields that are read but not honoured yet. A file that sets one is refused in words; `null` and the defaults pass.",
        "",
        *_table("field", NOT_YET.items()),
    ]
    return "\n".join(lines) + "\n"


def _table(head: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [f"| {head} | meaning |", "|---|---|", *(f"| `{name}` | {_cell(about)} |" for name, about in rows)]


def _commands() -> str:
    lines = [
        "# Commands",
        "",
        "Exit codes: 0 done, 1 the work failed, 2 wrong usage or a bad file, 3 refused, 4 the server can't be reached.",
        "",
    ]
    for words, command in _walk(("gpumax",), cli):
        context = click.Context(command, info_name=" ".join(words), terminal_width=90, max_content_width=90)
        lines += [
            f"{'#' * min(len(words) + 1, 3)} {' '.join(words)}",
            "",
            "```text",
            command.get_help(context).rstrip(),
            "```",
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def _walk(words: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=words[-1])
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None and not inner.hidden:
                yield from _walk((*words, name), inner)


def main() -> int:
    """Write the pages, or compare them."""
    stale = [
        name
        for name, text in pages().items()
        if not (REFERENCE / name).exists() or (REFERENCE / name).read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        print("\n".join(f"docs/reference/{name} is out of date; run `make docs`" for name in stale))
        return bool(stale)
    REFERENCE.mkdir(exist_ok=True)
    for name in stale:
        (REFERENCE / name).write_text(pages()[name], encoding="utf-8")
        print(f"docs/reference/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
