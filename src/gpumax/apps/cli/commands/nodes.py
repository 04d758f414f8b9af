"""nodes, gpu list; gpu run is beside it."""

from __future__ import annotations

from collections.abc import Callable

import click

from gpumax.apps.cli.client import Item
from gpumax.apps.cli.commands.gpu_check import check, conformance
from gpumax.apps.cli.commands.gpu_list import list_
from gpumax.apps.cli.commands.gpu_run import run
from gpumax.apps.cli.lazy import Guessing
from gpumax.apps.cli.look_again import present
from gpumax.apps.cli.options import Where, output_option, quiet_option, server_options, watch_option
from gpumax.apps.cli.output import Column, bar, listed, number
from gpumax.units import MIB, format_memory, parse_quantity


def _room(resource: str) -> Callable[[Item], str]:
    """What is free of what there is."""

    def text(item: Item) -> str:
        row = item.get(resource) or {}
        show = _memory if resource == "memory" else number
        return f"{show(row.get('free'))} of {show(row['total'])}" if row.get("total") else ""

    return text


def _memory(amount: object) -> str:
    """Host memory to three digits or so: nobody plans by the MiB."""
    mib = int(parse_quantity(amount) / MIB)
    return format_memory(mib >> 10 << 10) if mib >= 10 << 10 else format_memory(mib)


def _pairs(labels: object) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items()) if isinstance(labels, dict) else ""


def _taints(item: Item) -> str:
    return ",".join(_taint(taint) for taint in item.get("taints") or ())


def _taint(taint: Item) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key')}{value}:{taint.get('effect')}"


def _condition(item: Item) -> str:
    broken = item.get("unhealthy")
    return f"{item.get('state', '')}{f', {broken} unhealthy' if broken else ''}"


def _held(item: Item) -> str:
    row = item.get("gpu") or {}
    total, free = row.get("total") or 0, row.get("free") or 0
    return bar(total - free, total - free, total) if total else ""


NODES = (
    Column("NODE", lambda item: str(item["name"])),
    Column(
        "STATE",
        _condition,
        hue=lambda item: "" if _condition(item) == "ready" else "yellow",
    ),
    Column("POOL", lambda item: number(item.get("pool")), wide=True),
    Column("GPUS", _held),
    Column("FREE GPUS", _room("gpu")),
    Column("FREE CORES", _room("cpu")),
    Column("FREE MEMORY", _room("memory")),
    Column("TASKS", lambda item: number(item.get("tasks"))),
    Column("LABELS", lambda item: _pairs(item.get("labels")), wide=True),
    Column("TAINTS", _taints, wide=True),
)


@click.command()
@watch_option
@output_option
@quiet_option
@server_options
@click.pass_obj
def nodes(where: Where, watch: bool, output: str, quiet: bool) -> None:
    """Nodes, and what is free on them."""
    api = where.api()
    present(
        lambda: api.get("/nodes"),
        lambda answer: listed(answer, NODES, output, quiet=quiet),
        watch=api if watch else None,
        empty="no nodes",
    )


@click.group(cls=Guessing, invoke_without_command=True)
@click.pass_context
def gpu(context: click.Context) -> None:
    """GPUs, and who holds them; a program with a part of one. Without a command: list them."""
    if context.invoked_subcommand is None:
        context.invoke(list_)


for command in (list_, run, check, conformance):
    gpu.add_command(command)
