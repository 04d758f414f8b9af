"""queue list, show, set, delete."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import click

from gpumax.apps.cli.client import Item, segment
from gpumax.apps.cli.each import each
from gpumax.apps.cli.lazy import Guessing
from gpumax.apps.cli.look_again import present
from gpumax.apps.cli.options import (
    Where,
    complete_queue,
    output_option,
    quiet_option,
    server_options,
    watch_option,
)
from gpumax.apps.cli.output import Column, bar, emit_document, fields, listed, number, say, table
from gpumax.apps.cli.wish import plain_number
from gpumax.errors import BadFile, Fault, NotFound, Refused


@click.group(cls=Guessing, invoke_without_command=True)
@click.pass_context
def queue(context: click.Context) -> None:
    """Queues: what each is guaranteed, may hold now, and holds. Without a command: list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


def gpus(item: Item, field: str) -> float:
    """A queue's amount of GPUs: quota, share, allocated or demand. Infinite where it is unlimited."""
    for row in item.get("shares") or ():
        if row.get("resource") == "gpu":
            value = row.get(field)
            return float(value) if isinstance(value, int | float) else float("inf") if value else 0.0
    return 0.0


def told(amount: float) -> str:
    """An amount of GPUs for people."""
    return "unlimited" if amount == float("inf") else f"{amount:.3f}".rstrip("0").rstrip(".")


def tree(items: list[Item]) -> Iterator[tuple[int, Item]]:
    """Queues with their depth, children below their parents, each level in the order given."""
    known = {item["name"] for item in items}
    children: dict[object, list[Item]] = {}
    for item in items:
        children.setdefault(item.get("parent") if item.get("parent") in known else None, []).append(item)
    left = [(0, item) for item in reversed(children.get(None, []))]
    while left:
        depth, item = left.pop()
        yield depth, item
        left += [(depth + 1, child) for child in reversed(children.get(item["name"], []))]


def _picture(item: Item, whole: float) -> str:
    held, quota = gpus(item, "allocated"), gpus(item, "quota")
    return bar(held, held if quota == float("inf") else quota, whole, 12)


def _scale(items: list[Item]) -> float:
    """What a full bar stands for: the most that one queue holds, may hold or is guaranteed."""
    amounts = [gpus(item, field) for item in items for field in ("allocated", "share", "quota")]
    return max((amount for amount in amounts if amount != float("inf")), default=0.0)


def _columns(items: list[Item]) -> tuple[Column, ...]:
    depths = {id(item): depth for depth, item in tree(items)}
    whole = _scale(items)

    def gpu(field: str) -> Callable[[Item], str]:
        return lambda item: told(gpus(item, field))

    return (
        Column("QUEUE", lambda item: "  " * depths[id(item)] + str(item["name"])),
        Column("GPUS", lambda item: _picture(item, whole)),
        Column("HOLDS", gpu("allocated")),
        Column("SHARE", gpu("share")),
        Column("QUOTA", gpu("quota")),
        Column("LIMIT", _limit),
        Column("WANTS", gpu("demand")),
        Column("WEIGHT", lambda item: number((item.get("weight") or {}).get("gpu")), wide=True),
        Column("PRIORITY", lambda item: number(item.get("priority")), wide=True),
        Column("RUNNING", lambda item: number(item.get("running"))),
        Column("WAITING", lambda item: number(item.get("waiting"))),
    )


def _limit(item: Item) -> str:
    limit = (item.get("limit") or {}).get("gpu")
    return "" if limit == "unlimited" else number(limit)


@queue.command("list")
@watch_option
@output_option
@quiet_option
@server_options
@click.pass_obj
def list_(where: Where, watch: bool, output: str, quiet: bool) -> None:
    """All queues, children below their parents. The bar: # held within quota, + beyond it, . quota that is free."""
    api = where.api()

    def draw(answer: Item) -> str:
        if quiet or output in ("json", "yaml"):
            return listed(answer, (), output, quiet=quiet)
        items = [item for _, item in tree(answer.get("items", []))]
        return table(items, _columns(items), wide=output == "wide") if items else ""

    present(lambda: api.get("/queues"), draw, watch=api if watch else None, empty="no queues")


SHARES = (
    Column("RESOURCE", lambda row: str(row.get("resource"))),
    Column("HOLDS", lambda row: number(row.get("allocated"))),
    Column("SHARE", lambda row: number(row.get("share"))),
    Column("QUOTA", lambda row: number(row.get("quota"))),
    Column("WANTS", lambda row: number(row.get("demand"))),
)


@queue.command()
@click.argument("name", shell_complete=complete_queue)
@output_option
@server_options
@click.pass_obj
def show(where: Where, name: str, output: str) -> None:
    """All about one queue."""
    item = where.api().get(f"/queues/{segment(name)}")
    if output in ("json", "yaml"):
        emit_document(item, output)
        return
    click.echo(
        fields(
            [
                ("queue", str(item.get("name"))),
                ("parent", number(item.get("parent"))),
                ("priority", number(item.get("priority"))),
                ("quota", _amounts(item.get("quota"), 0) or "none"),
                ("limit", _amounts(item.get("limit"), "unlimited") or "none"),
                ("weight", _amounts(item.get("weight"), None)),
                ("preempt", _runtime(item.get("preempt_min_runtime"))),
                ("reclaim", _runtime(item.get("reclaim_min_runtime"))),
                ("demote", ", ".join(f"{number(step)} GPU hours" for step in item.get("demote") or ())),
                ("fresh", number(item.get("fresh"))),
                *(("note", str(doubt)) for doubt in item.get("doubts") or ()),
                ("workloads", f"{item.get('running', 0)} running, {item.get('waiting', 0)} waiting"),
            ]
        )
    )
    if item.get("shares"):
        click.echo("\n" + table(item["shares"], SHARES))


def _amounts(amounts: object, unset: object) -> str:
    """Amounts as `queue set` takes them, but for those that are as if nobody had set them."""
    if not isinstance(amounts, dict):
        return number(amounts)
    return ",".join(
        f"{resource}={number(amount)}"
        for resource, amount in amounts.items()
        if amount != unset and (unset != 0 or amount != "0Mi")
    )


def _runtime(time: object) -> str:
    return f"not before work has run for {time}" if time is not None else ""


@queue.command("set")
@click.argument("name", shell_complete=complete_queue)
@click.option("--quota", metavar="AMOUNTS", multiple=True, help="Guaranteed: gpu=8,cpu=unlimited,memory=1Ti.")
@click.option("--limit", metavar="AMOUNTS", multiple=True, help="Never exceeded: gpu=16.")
@click.option(
    "--weight",
    metavar="AMOUNTS",
    multiple=True,
    help="Its part of what is left over: gpu=2; gpu=0: nothing beyond its quota.",
)
@click.option("--parent", metavar="QUEUE", help="The queue above; '' puts it at the root.")
@click.option("--priority", metavar="N", type=int, help="Higher is served first.")
@click.option(
    "--reclaim-min-runtime", metavar="TIME", help="Younger work is not taken back, as 10m; '': the parent's."
)
@click.option(
    "--preempt-min-runtime", metavar="TIME", help="Younger work is not preempted, as 10m; '': the parent's."
)
@click.option(
    "--demote",
    metavar="HOURS",
    help="GPU hours, as 10,100: with each that work has held its priority falls by one; '': as the parent has it.",
)
@click.option("--fresh", metavar="QUEUE", help="Where work counts before that; '': as the parent has it.")
@output_option
@quiet_option
@server_options
@click.pass_obj
def set_(where: Where, /, name: str, output: str, quiet: bool, **given: object) -> None:
    """Make a queue, or change of it what is given; the rest stays.

    An amount without a value (`--limit gpu=`) is unset again.

    \b
      gpumax queue set team-a --quota gpu=4
      gpumax queue set team-a --limit gpu=8 --weight gpu=2
    """
    changes = {field: value for field, value in given.items() if value not in (None, ())}
    api = where.api()
    path = f"/queues/{segment(name)}"
    try:
        before: Item | None = api.get(path)
    except NotFound:
        before = None
    try:
        after = api.send("PUT", path, changed(before or {}, changes))
    except BadFile as error:
        raise BadFile([_as_option(fault) for fault in error.faults]) from None
    if output in ("json", "yaml"):
        emit_document(after, output)
    elif quiet:
        click.echo(name)
    else:
        say(f"queue {name}: {'made' if before is None else 'set' if changes else 'nothing to change'}")
        for doubt in after.get("doubts") or ():
            say(f"  note: {doubt}")


SETTINGS = (
    "parent",
    "priority",
    "quota",
    "limit",
    "weight",
    "preempt_min_runtime",
    "reclaim_min_runtime",
    "usage",
    "created",
    "demote",
    "fresh",
)


def _as_option(fault: Fault) -> Fault:
    """The fault, with the option that wrote the field."""
    field, _, resource = fault.path.partition(".")
    option = f"--{field.replace('_', '-')}" + (f" {resource}" if resource else "")
    return fault._replace(path=option if field in SETTINGS else fault.path, line=None)


def changed(before: Item, changes: Item) -> Item:
    """The body that sets a queue: as it was, but for the changes."""
    body = {field: before[field] for field in SETTINGS if before.get(field) is not None}
    if isinstance(body.get("weight"), dict):
        body["weight"] = _written(body["weight"], before.get("quota") or {})
    for field, value in changes.items():
        if field in ("quota", "limit", "weight"):
            body[field] = _merged(body.get(field), field, value)
        elif value == "":
            body.pop(field, None)
        elif field == "demote":
            body[field] = str(value).split(",")
        else:
            body[field] = value
    return {field: value for field, value in body.items() if value != {}}


def _written(weight: Item, quota: Item) -> Item:
    """The weights that somebody chose. One that is what an unset weight would be goes on following the quota."""
    from gpumax.units import MIB, parse_quantity

    def unset(resource: str) -> object:
        amount = quota.get(resource)
        if amount in (None, 0, "unlimited"):
            return 1
        exact = parse_quantity(amount)
        return float(exact / MIB / 1024 if resource == "memory" else exact) or 1

    return {resource: value for resource, value in weight.items() if value != unset(resource)}


def _merged(before: object, field: str, texts: object) -> Item:
    """Amounts with `gpu=8,cpu=unlimited` laid over them."""
    merged = dict(before) if isinstance(before, dict) else {}
    for text in texts if isinstance(texts, tuple) else ():
        for part in text.split(","):
            resource, equals, amount = (piece.strip() for piece in part.partition("="))
            if not equals or resource not in ("gpu", "cpu", "memory"):
                raise Refused(f"--{field} {text}: found {part!r}; wanted gpu=N, cpu=N or memory=AMOUNT")
            if amount:
                merged[resource] = plain_number(amount)
            else:
                merged.pop(resource, None)
    return merged


@queue.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True, shell_complete=complete_queue)
@quiet_option
@server_options
@click.pass_obj
def delete(where: Where, names: tuple[str, ...], quiet: bool) -> None:
    """Delete queues that have no work and no queues below them."""
    each(where.api(), names, "DELETE", "/queues/{}", "deleted", quiet)
