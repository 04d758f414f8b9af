"""events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import click

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.options import Where, complete_workload, output_option, server_options, watch_option
from gpumax.apps.cli.output import Column, clean, clock, emit, number, say


def _text(field: str) -> Callable[[Item], str]:
    return lambda item: number(item.get(field))


EVENTS = (
    Column("AT", lambda item: clock(item.get("at"))),
    Column("SEQ", _text("seq"), wide=True),
    Column("EVENT", _text("kind")),
    Column("WORKLOAD", _text("workload")),
    Column("TASK", _text("task")),
    Column("MESSAGE", _text("message")),
)


@click.command()
@click.argument("name", required=False, shell_complete=complete_workload)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="At most so many, the newest.",
)
@watch_option
@output_option
@server_options
@click.pass_obj
def events(where: Where, name: str | None, limit: int, watch: bool, output: str) -> None:
    """What happened, oldest first; of one workload, or of all."""
    api = where.api()
    answer = api.get("/events", {"workload": name, "limit": limit, "newest": 1})
    if not watch:
        emit(answer, EVENTS, output, empty="no events")
        return
    show_event = (
        _as_lines if output in ("json", "yaml") else _as_rows(answer.get("items", []), output == "wide")
    )
    for item in answer.get("items", []):
        show_event(item)
    for item in _coming(api, name, answer.get("next") or 0):
        show_event(item)


def _coming(api: Api, name: str | None, after: int) -> Iterator[Item]:
    """Events from now on; of one workload, or of all."""
    from gpumax.apps.cli.stream import follow

    for message in follow(api, "/watch", {"after": after}, notice=say):
        item = json.loads(message.data)
        if name is None or item.get("workload") == name:
            yield item


def _as_lines(item: Item) -> None:
    click.echo(json.dumps(item, ensure_ascii=False))


def _as_rows(items: Sequence[Item], wide: bool) -> Callable[[Item], None]:
    """Prints events as rows of one table, whose columns are as wide as these need them."""
    shown = [column for column in EVENTS if wide or not column.wide]
    sizes = [max([8, *(len(column.value(item)) for item in items)]) for column in shown[:-1]]

    def show_row(item: Item) -> None:
        cells = [clean(column.value(item)) or "-" for column in shown]
        padded = [cell.ljust(size) for cell, size in zip(cells, [*sizes, 0], strict=True)]
        click.echo("  ".join(padded).rstrip())

    return show_row
