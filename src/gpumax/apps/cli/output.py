"""What commands print: data to stdout as a table, JSON or YAML; prose and progress to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import click

Item = dict[str, Any]

WIDE: Final = 100
"""Columns of an output that is no terminal."""


class Column(NamedTuple):
    """One column of a table. wide: only with -o wide."""

    title: str
    value: Callable[[Item], str]
    wide: bool = False


def say(text: str) -> None:
    """A line of prose."""
    click.echo(text, err=True)


def on_terminal() -> bool:
    """Whether a person sees stdout as it is written."""
    return sys.stdout.isatty()


def use_color() -> bool:
    """Whether stdout takes colours."""
    return on_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def terminal_width() -> int:
    """Columns of the terminal."""
    if os.environ.get("COLUMNS", "").isdecimal():
        return max(40, int(os.environ["COLUMNS"]))
    try:
        return max(40, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return WIDE


def clear_screen() -> None:
    """Begin a watched picture anew; on anything but a terminal an empty line divides the pictures."""
    click.echo("\x1b[H\x1b[2J\x1b[3J" if on_terminal() else "\n", nl=False)


def emit(
    answer: Item, columns: Sequence[Column], output: str, *, quiet: bool = False, empty: str = ""
) -> None:
    """Print the items of an answer. json and yaml: the answer as the API gave it. empty: what to say where there are none."""
    items = answer.get("items", [])
    if quiet:
        emit_names(str(item["name"]) for item in items)
    elif output in ("json", "yaml"):
        emit_document(answer, output)
    elif items:
        click.echo(table(items, columns, wide=output == "wide"))
    elif empty:
        say(empty)


def emit_names(names: Any) -> None:
    """A name a line."""
    for name in names:
        click.echo(name)


def emit_document(document: object, output: str) -> None:
    """A document as JSON or YAML."""
    if output == "yaml":
        import yaml

        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        click.echo(
            yaml.dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, width=WIDE), nl=False
        )
    else:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def table(items: Sequence[Item], columns: Sequence[Column], *, wide: bool = False) -> str:
    """Aligned columns under their titles. On a terminal, unless wide, the last column is cut at its edge."""
    shown = [column for column in columns if wide or not column.wide]
    rows = [[column.title for column in shown]]
    rows += [[clean(column.value(item)) or "-" for column in shown] for item in items]
    sizes = [max(len(row[at]) for row in rows) for at in range(len(shown) - 1)]
    last = terminal_width() - sum(sizes) - 2 * len(sizes) if on_terminal() and not wide else None
    return "\n".join(
        "  ".join(
            [*(cell.ljust(size) for cell, size in zip(row, sizes, strict=False)), cut(row[-1], last)]
        ).rstrip()
        for row in rows
    )


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line; what is empty is left out."""
    given = [(name, clean(value)) for name, value in pairs if value]
    size = max((len(name) for name, _ in given), default=0)
    return "\n".join(f"{name + ':':{size + 1}}  {value}" for name, value in given)


def cut(text: str, width: int | None) -> str:
    """Text of at most so many columns, at least ten; three dots stand for the rest."""
    if width is None or len(text) <= max(width, 10):
        return text
    return text[: max(width, 10) - 3] + "..."


def clean(text: str) -> str:
    """Text in one line, with nothing in it that a terminal would act on."""
    return "".join(char if char.isprintable() else " " for char in text)


def age(time: object, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 time was, in one unit: 45s, 3m, 2h, 9d. Empty for none."""
    then = parse_time(time)
    if then is None:
        return ""
    return span(((now or datetime.now(UTC)) - then).total_seconds())


def span(seconds: float) -> str:
    """A duration in one unit."""
    left = max(0, int(seconds))
    if left < 120:
        return f"{left}s"
    if left < 2 * 3600:
        return f"{left // 60}m"
    return f"{left // 3600}h" if left < 48 * 3600 else f"{left // 86400}d"


def parse_time(time: object) -> datetime | None:
    """An RFC 3339 time; None for anything else."""
    if not isinstance(time, str):
        return None
    try:
        found = datetime.fromisoformat(time)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def clock(time: object) -> str:
    """An RFC 3339 time on the clock of this machine; with the date where it isn't today's."""
    then = parse_time(time)
    if then is None:
        return ""
    local = then.astimezone()
    today = datetime.now(UTC).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def number(value: object) -> str:
    """A number without needless zeros; empty for nothing."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    return str(value)
