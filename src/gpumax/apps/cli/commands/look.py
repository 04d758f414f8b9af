"""ps, show, why."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from gpumax.apps.cli.client import Item, segment
from gpumax.apps.cli.look_again import present
from gpumax.apps.cli.options import (
    Where,
    complete_workload,
    output_option,
    project_option,
    quiet_option,
    server_options,
    watch_option,
)
from gpumax.apps.cli.output import (
    Column,
    age,
    clean,
    clock,
    emit_document,
    fields,
    listed,
    number,
    span,
    table,
)
from gpumax.apps.cli.paging import all_items
from gpumax.units import format_wait

UNFINISHED = "pending,running,suspended"
STATES = ("pending", "running", "suspended", "succeeded", "failed", "stopped")


_MAY_GO: Final = {False: ", non-preemptible", "semi": ", semi-preemptible"}
HUES: Final = {
    "running": "green",
    "succeeded": "green",
    "pending": "yellow",
    "bound": "yellow",
    "failed": "red",
}


def state_hue(item: Item) -> str:
    """The colour of a workload's or a task's state."""
    return HUES.get(str(item.get("state")), "dim")


def why_text(item: Item) -> str:
    """Why a workload is where it is, in a few words: its hold and when it starts, or the reason that was given."""
    hold = item.get("hold")
    if isinstance(hold, dict):
        return f"{hold.get('code', '')}{_starts(hold)}: {hold.get('message', '')}"
    return str(item.get("reason") or "")


def _starts(hold: Item) -> str:
    from gpumax.apps.cli.output import parse_time

    moment = parse_time(hold.get("forecast"))
    if moment is None:
        return ""
    left = moment - datetime.now(UTC)
    return f", starts {format_wait(left // timedelta(milliseconds=1))}"


def tasks_text(item: Item) -> str:
    """Running tasks of all; once it has ended, those that have done their work."""
    tasks = item.get("tasks")
    if isinstance(tasks, dict):
        which = "done" if item.get("ended") else "running"
        return f"{tasks.get(which, 0)}/{tasks.get('total', 0)}"
    return ""


def nodes_text(item: Item) -> str:
    """The nodes that a workload is on."""
    nodes = item.get("nodes", item.get("node"))
    return ",".join(map(str, nodes)) if isinstance(nodes, list) else str(nodes or "")


def _text(field: str) -> Callable[[Item], str]:
    return lambda item: number(item.get(field))


def _lasted(item: Item) -> str:
    from gpumax.apps.cli.output import parse_time

    started, ended = parse_time(item.get("started")), parse_time(item.get("ended"))
    if started is None or ended is None:
        return age(item.get("started"))
    return span((ended - started).total_seconds())


WORKLOADS = (
    Column("NAME", _text("name")),
    Column("PROJECT", _text("project")),
    Column("KIND", _text("kind"), wide=True),
    Column("PRIORITY", _text("priority"), wide=True),
    Column("STATE", _text("state"), hue=state_hue),
    Column("GPU", lambda item: number(item.get("gpu") or None)),
    Column("TASKS", tasks_text),
    Column("AGE", lambda item: age(item.get("submitted"))),
    Column("RAN", _lasted, wide=True),
    Column("RUNS", _text("runs"), wide=True),
    Column("EVICTIONS", _text("evictions"), wide=True),
    Column("FAILURES", _text("failures"), wide=True),
    Column("NODES", nodes_text, wide=True),
    Column("WHY", why_text),
)


@click.command()
@project_option("Of this project only.")
@click.option(
    "--state",
    metavar="STATE",
    type=click.Choice(STATES),
    multiple=True,
    help=f"In this state: {', '.join(STATES)}; may be repeated.",
)
@click.option("-a", "--all", "all_", is_flag=True, help="Finished ones, too.")
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many, the newest.")
@watch_option
@output_option
@quiet_option
@server_options
@click.pass_obj
def ps(
    where: Where,
    project: str | None,
    state: tuple[str, ...],
    all_: bool,
    limit: int | None,
    watch: bool,
    output: str,
    quiet: bool,
) -> None:
    """Workloads that aren't finished, newest first, and why they wait."""
    api = where.api()
    states = ",".join(state) or (None if all_ else UNFINISHED)
    empty = "no workloads" if all_ or state else "no unfinished workloads; `gpumax ps -a` shows the others"

    def fetch() -> Item:
        return all_items(api, "/workloads", {"state": states, "project": project}, most=limit or 0)

    def draw(answer: Item) -> str:
        return listed(answer, WORKLOADS, output, quiet=quiet)

    present(fetch, draw, watch=api if watch else None, empty=empty)


@click.command()
@click.argument("name", shell_complete=complete_workload)
@output_option
@server_options
@click.pass_obj
def show(where: Where, name: str, output: str) -> None:
    """All about one workload: state, tasks, what was asked for."""
    item = where.api().get(f"/workloads/{segment(name)}")
    if output in ("json", "yaml"):
        emit_document(item, output)
        return
    tasks = [task for task in item.get("tasks") or () if isinstance(task, dict)]
    click.echo(fields(_about(item)))
    if tasks:
        click.echo("\n" + table(tasks, TASKS, wide=output == "wide"))


def _about(item: Item) -> list[tuple[str, str]]:
    seconds = item.get("device_seconds")
    return [
        ("name", number(item.get("name"))),
        ("kind", number(item.get("kind"))),
        ("project", number(item.get("project"))),
        (
            "priority",
            f"{number(item.get('priority'))}{_MAY_GO.get(item.get('preemptible', True), '')}",
        ),
        ("state", _state(item)),
        ("why", why_text(item)),
        ("submitted", _moment(item.get("submitted"))),
        ("started", _moment(item.get("started"))),
        ("ended", _moment(item.get("ended"))),
        ("gpus", _gpus(item)),
        ("used", f"{span(seconds)} of GPU time" if isinstance(seconds, int | float) and seconds >= 1 else ""),
        ("runs", _runs(item)),
        ("setup", str((item.get("spec") or {}).get("setup") or "")),
        ("command", _command(item.get("spec") or {})),
        ("checkpoints", number(item.get("checkpoint_dir"))),
    ]


def _gpus(item: Item) -> str:
    amount = number(item.get("gpu") or None)
    return f"{amount} {'held' if item.get('state') == 'running' else 'asked for'}" if amount else ""


def _state(item: Item) -> str:
    wish = item.get("wish", "run")
    return f"{item.get('state', '')}{f' (to {wish})' if wish != 'run' and item.get('state') == 'running' else ''}"


def _runs(item: Item) -> str:
    counts = [f"{item.get('runs', 0)}"]
    counts += [
        f"{item[name]} {name if item[name] != 1 else name[:-1]}"
        for name in ("evictions", "failures")
        if item.get(name)
    ]
    return ", ".join(counts)


def _moment(time: object) -> str:
    return f"{clock(time)} ({age(time)} ago)" if time else ""


def _command(spec: Item) -> str:
    run = spec.get("run")
    if isinstance(run, list):
        import shlex

        return shlex.join(map(str, run))
    return str(run or "")


def _task_why(task: Item) -> str:
    if task.get("reason") or not task.get("cause"):
        return str(task.get("reason") or "")
    return f"evicted for {task.get('for') or 'another'} ({task['cause']})"


def _task_devices(task: Item) -> str:
    rows = task.get("devices") or ()
    return ",".join(
        f"{row.get('index')}" + (f":{number(row['milli'] / 1000)}" if row.get("milli", 1000) != 1000 else "")
        for row in rows
    )


TASKS = (
    Column("TASK", _text("index")),
    Column("NAME", _text("name"), wide=True),
    Column("GROUP", _text("group"), wide=True),
    Column("STATE", _text("state"), hue=state_hue),
    Column("NODE", _text("node")),
    Column("GPUS", _task_devices),
    Column("RAN", _lasted),
    Column("EXIT", _text("exit_code")),
    Column("WHY", _task_why),
)


@click.command()
@click.argument("name", shell_complete=complete_workload)
@output_option
@server_options
@click.pass_obj
def why(where: Where, name: str, output: str) -> None:
    """Why a workload waits, runs or was evicted, in sentences."""
    found = where.api().get(f"/workloads/{segment(name)}/why")
    if output in ("json", "yaml"):
        emit_document(found, output)
        return
    click.echo(clean(f"{found.get('workload', name)}: {found.get('state', '')}"))
    for sentence in found.get("sentences") or ():
        click.echo(clean(str(sentence)))
