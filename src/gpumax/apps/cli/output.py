"""What commands print: data to stdout as a table, JSON or YAML; prose and progress to stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final, NamedTuple

import click

Item = dict[str, Any]

WIDE: Final = 100
"""Columns of an output that is no terminal."""

BAR: Final = 10
"""Columns of a bar."""

_HUES: Final = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "blue": 34, "cyan": 36}


class Column(NamedTuple):
    """One column of a table. wide: only with -o wide. hue: its colour, where there are colours; empty for none."""

    title: str
    value: Callable[[Item], str]
    wide: bool = False
    hue: Callable[[Item], str] | None = None


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


def listed(answer: Item, columns: Sequence[Column], output: str, *, quiet: bool = False) -> str:
    """The items of an answer as text; empty where there are none. json and yaml: the answer as the API gave it."""
    items = answer.get("items", [])
    if quiet:
        return "\n".join(str(item["name"]) for item in items)
    if output in ("json", "yaml"):
        return document(answer, output)
    return table(items, columns, wide=output == "wide") if items else ""


def emit(answer: Item, columns: Sequence[Column], output: str, *, empty: str = "") -> None:
    """Print the items of an answer. empty: what to say where there are none."""
    if text := listed(answer, columns, output):
        click.echo(text)
    elif empty:
        say(empty)


def emit_document(found: object, output: str) -> None:
    """Print a document as JSON or YAML."""
    click.echo(document(found, output))


def document(found: object, output: str) -> str:
    """A document as JSON or YAML."""
    if output != "yaml":
        return json.dumps(found, indent=2, ensure_ascii=False)
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        """Quotes text that begins like a number: readers of newer YAML take 08 or 1e3 for one."""

    def represent(dumper: Any, text: str) -> Any:
        style = "'" if text[:1].isdigit() or text[:1] in ("+", "-", ".") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent)
    text = yaml.dump(found, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=WIDE)
    return str(text).removesuffix("\n")


def table(items: Sequence[Item], columns: Sequence[Column], *, wide: bool = False) -> str:
    """Aligned columns under their titles. On a terminal, unless wide, lines end at its edge: the last column first."""
    shown = [column for column in columns if wide or not column.wide]
    titles = [column.title for column in shown]
    rows = [[clean(column.value(item)) or "-" for column in shown] for item in items]
    sizes = [max(map(len, cells)) for cells in zip(titles, *rows, strict=True)]
    sizes[-1] = 0
    room = terminal_width() if on_terminal() and not wide else None
    colored = use_color()
    lines = [_line(titles, sizes, room, ["bold"] * len(titles) if colored else ())]
    for item, row in zip(items, rows, strict=True):
        hues = [column.hue(item) if column.hue else "" for column in shown] if colored else ()
        lines.append(_line(row, sizes, room, hues))
    return "\n".join(lines)


def _line(cells: Sequence[str], sizes: Sequence[int], room: int | None, hues: Sequence[str]) -> str:
    """One row, in so many columns at most; hues: a colour for each cell, or none at all."""
    shown: list[str] = []
    begin = 0
    for number, (cell, size) in enumerate(zip(cells, sizes, strict=True)):
        text = cell.ljust(size)
        if room is not None:
            if begin >= room:
                break
            text = cut(cell, room - begin).ljust(min(size, room - begin))
        shown.append(paint(text, hues[number]) if hues else text)
        begin += size + 2
    return "  ".join(shown).rstrip()


def paint(text: str, hue: str) -> str:
    """Text in a colour, or bold, or as it is where there is no hue."""
    return f"\x1b[{_HUES[hue]}m{text}\x1b[0m" if hue and text.strip() else text


def fields(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values, one pair a line; what is empty is left out."""
    given = [(name, clean(value)) for name, value in pairs if value]
    size = max((len(name) for name, _ in given), default=0)
    return "\n".join(f"{name + ':':{size + 1}}  {value}" for name, value in given)


def cut(text: str, width: int) -> str:
    """Text of at most so many columns; three dots stand for the rest, where there is room for more than these."""
    if len(text) <= width:
        return text
    return text[: width - 3] + "..." if width > 3 else text[:width]


def wrapped(text: str, width: int, indent: int) -> str:
    """Text in lines of at most so many columns, broken between words; all but the first are indented, where that leaves room."""
    import textwrap

    return textwrap.fill(
        text, max(width, 20), subsequent_indent=" " * (indent if indent < width // 2 else 2), break_long_words=False,
        break_on_hyphens=False, replace_whitespace=False, drop_whitespace=True,
    )  # fmt: skip


def clean(text: str) -> str:
    """Text in one line, with nothing in it that a terminal would act on."""
    return "".join(char if char.isprintable() else " " for char in text)


def bar(held: float, guaranteed: float, whole: float, size: int = BAR) -> str:
    """A bar as the board draws it: `#` held within what is guaranteed, `+` held beyond it, `.` guaranteed and not in use.

    whole: what the full length stands for.
    """
    if whole <= 0:
        return f"[{' ' * size}]"
    end, mark = (min(size, ceil(part * size / whole)) for part in (held, guaranteed))
    return f"[{('#' * min(end, mark) + '+' * (end - mark) + '.' * (mark - end)).ljust(size)}]"


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
