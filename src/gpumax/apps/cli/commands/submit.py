"""run, apply, plan."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from gpumax.apps.cli.client import Api, Item
from gpumax.apps.cli.options import Where, output_option, project_option, quiet_option, server_options
from gpumax.apps.cli.output import emit, say
from gpumax.apps.cli.wish import Wish, document
from gpumax.errors import BadFile, Fault, Refused

MOST_BYTES: Final = 16 << 20
"""The largest file that is sent."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--gpu", metavar="N", help="Of each task: 2, 0.5, H100, H100:2.")
@click.option(
    "--gpu-memory", metavar="AMOUNT", help="Memory of a GPU instead, as 20Gi; the matching part of one."
)
@click.option(
    "--devices", type=click.IntRange(min=1), help="With a part of a GPU: of so many different GPUs."
)
@click.option("--cpu", metavar="N", help="Cores of each task: 8, 0.5, 500m.")
@click.option("--memory", metavar="AMOUNT", help="Host memory of each task, as 64Gi.")
@click.option("--tasks", metavar="N|MIN-MAX", help="How many tasks start together; 2-8: at least 2, up to 8.")
@project_option("Project whose queue it counts against.")
@click.option("-n", "--name", help="Its name; unset: made from the command.")
@click.option(
    "--priority", metavar="CLASS|N", help="low, normal, interactive, build, inference, or a number."
)
@click.option(
    "--env", metavar="KEY=VALUE", multiple=True, help="Environment of the command; may be repeated."
)
@click.option(
    "--secret", metavar="NAME", multiple=True, help="A secret, as a variable of this name; may be repeated."
)
@click.option("--workdir", metavar="DIR", help="Where it runs; unset: here.")
@click.option("--max-duration", metavar="TIME", help="Ends it, as 12h; lets others plan around it.")
@click.option("--grace", metavar="TIME", help="From SIGTERM to SIGKILL when it has to go, as 30s.")
@click.option(
    "--retries", type=click.IntRange(min=0), help="Starts after failures of its own; evictions never count."
)
@click.option("--checkpoint", metavar="PATH", help="What it saves and starts from again; survives evictions.")
@click.option("-f", "--follow", is_flag=True, help="Print its logs until it ends; exit code 1 if it failed.")
@click.option("--dry-run", is_flag=True, help="Only tell what would happen.")
@output_option
@quiet_option
@server_options
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def run(where: Where, /, follow: bool, dry_run: bool, output: str, quiet: bool, **wishes: object) -> None:
    """Submit a command as a workload: gpumax run --gpu 2 -- python train.py

    COMMAND runs as it is, without a shell; a single argument with spaces in it is a line for the shell.
    """
    body = document(Wish(**wishes))  # type: ignore[arg-type]
    try:
        answer = _submit(where.api(), body, {"dry_run": int(dry_run), "base": str(Path.cwd())})
    except BadFile as error:
        raise BadFile([_as_option(fault) for fault in error.faults]) from None
    _tell(answer, output, quiet, dry_run)
    if follow and not dry_run:
        from gpumax.apps.cli.attend import attend

        attend(where.api(), answer["items"][0]["name"])


_OPTIONS: Final = {
    "resources.gpu": "--gpu", "resources.cpu": "--cpu", "resources.memory": "--memory", "max_duration": "--max-duration",
    "tasks": "--tasks", "priority": "--priority", "project": "--project", "name": "--name", "grace": "--grace",
    "retries": "--retries", "checkpoint": "--checkpoint", "env": "--env", "secrets": "--secret", "workdir": "--workdir",
    "resources.devices": "--devices", "run": "COMMAND",
}  # fmt: skip


def _as_option(fault: Fault) -> Fault:
    """The fault, with the option that wrote the field."""
    for path in (
        fault.path,
        *(fault.path.rsplit(".", cut)[0] for cut in (1, 2)),
        fault.path.partition("[")[0],
    ):
        if path in _OPTIONS:
            return fault._replace(path=_OPTIONS[path], line=None)
    return fault._replace(line=None)


@click.command()
@click.option("-f", "--file", metavar="FILE", required=True, help="The file; - is standard input.")
@click.option("--dry-run", is_flag=True, help="Only tell what would happen.")
@project_option("Project of workloads that name none.")
@output_option
@quiet_option
@server_options
@click.pass_obj
def apply(where: Where, file: str, dry_run: bool, project: str | None, output: str, quiet: bool) -> None:
    """Submit the workloads and set the queues of a file: all of them, or none where one has a fault."""
    _apply(where, file, project, dry_run=dry_run, output=output, quiet=quiet)


@click.command()
@click.option("-f", "--file", metavar="FILE", required=True, help="The file; - is standard input.")
@project_option("Project of workloads that name none.")
@output_option
@server_options
@click.pass_obj
def plan(where: Where, file: str, project: str | None, output: str) -> None:
    """What would happen if a file were applied: who is placed where, who waits and why, who is evicted. Changes nothing."""
    _apply(where, file, project, dry_run=True, output=output, quiet=False)


def _apply(where: Where, file: str, project: str | None, *, dry_run: bool, output: str, quiet: bool) -> None:
    data, source, base = _read(file)
    api = where.api()
    query = {"dry_run": int(dry_run), "base": str(base), "project": project, "source": source}
    try:
        answer = _submit(api, data, query)
    except BadFile as error:
        raise BadFile(error.faults, source) from None
    _tell(answer, output, quiet, dry_run)


def _read(file: str) -> tuple[bytes, str, Path]:
    """A file's bytes, what to call it, and the directory that its relative paths start from."""
    import sys

    if file == "-":
        data, source, base = sys.stdin.buffer.read(MOST_BYTES + 1), "standard input", Path.cwd()
    else:
        path = Path(file)
        source, base = file, path.absolute().parent
        try:
            with path.open("rb") as opened:
                data = opened.read(MOST_BYTES + 1)
        except IsADirectoryError:
            raise _fault(source, "a directory", "a file") from None
        except FileNotFoundError:
            raise _fault(source, "no such file", "a file that is there") from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise _fault(source, f"a file that can't be read ({why})", "a readable file") from None
    if len(data) > MOST_BYTES:
        raise _fault(source, f"more than {MOST_BYTES >> 20} MiB", f"at most {MOST_BYTES >> 20} MiB")
    return data, source, base


def _fault(source: str, found: str, wanted: str) -> BadFile:
    return BadFile([Fault("", None, found, wanted)], source)


def _submit(api: Api, body: bytes | Item, query: dict[str, object]) -> Item:
    from uuid import uuid4

    return api.send("POST", "/workloads", body, query=query, headers={"Idempotency-Key": str(uuid4())})


def _tell(answer: Item, output: str, quiet: bool, dry_run: bool) -> None:
    """What became of each item, as prose; with -o json or yaml the answer itself, with -q the names."""
    items = answer.get("items", [])
    if output in ("json", "yaml") or quiet:
        emit(answer, (), output, quiet=quiet)
        return
    if not items:
        raise Refused("nothing in it to submit; wanted a workload or a queue")
    for item in items:
        for line in told(item, dry_run):
            say(line)


def told(item: Item, dry_run: bool) -> list[str]:
    """One item's fate in a line, and a line more for whom it would evict."""
    name, hold, places = item.get("name"), item.get("hold"), item.get("places") or []
    if item.get("kind") == "queue":
        return [
            f"queue {name} {'would be set' if dry_run else 'set' if item.get('created', True) else 'unchanged'}"
        ]
    head = (
        str(name)
        if dry_run
        else f"{name} {'submitted' if item.get('created', True) else 'was submitted before'}"
    )
    if hold:
        tail = f"{'would be held' if dry_run else 'held'}: {hold.get('code')}: {hold.get('message')}"
    elif places:
        tail = f"{'would go' if dry_run else 'placed'} {'to' if dry_run else 'on'} {_where(places)}"
    else:
        tail = str(item.get("state") or "pending")
    lines = [f"{head}; {tail}" if not dry_run else f"{head}: {tail}"]
    evictions = item.get("evictions") or []
    if evictions:
        losers = [str(row.get("task") if isinstance(row, dict) else row) for row in evictions]
        more = f" and {len(losers) - 5} more" if len(losers) > 5 else ""
        lines.append(f"  {'would evict' if dry_run else 'evicts'} {', '.join(losers[:5])}{more}")
    return lines


def _where(places: list[Item]) -> str:
    """Nodes and the GPUs on them: `n1 (GPU 0, 1), n2`; what it waits for, too."""
    nodes: dict[str, list[str]] = {}
    after: list[str] = []
    for place in places:
        devices = nodes.setdefault(str(place.get("node")), [])
        devices += [str(device.get("index")) for device in place.get("devices") or ()]
        after += [name for name in place.get("after") or () if name not in after]
    parts = [
        f"{node} (GPU {', '.join(dict.fromkeys(devices))})" if devices else node
        for node, devices in nodes.items()
    ]
    shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more nodes" if len(parts) > 4 else "")
    if after:
        shown += f" once {', '.join(after[:3])}{f' and {len(after) - 3} more' if len(after) > 3 else ''} left"
    return shown
