"""logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from gpumax.apps.cli.client import Api, Item, answering, segment
from gpumax.apps.cli.harmless import Harmless
from gpumax.apps.cli.options import Where, complete_workload, server_options
from gpumax.apps.cli.output import on_terminal
from gpumax.apps.cli.tail import follow_logs
from gpumax.errors import Refused

CHUNK = 64 << 10


@click.command()
@click.argument("name", shell_complete=complete_workload)
@click.option("-f", "--follow", is_flag=True, help="Go on until the workload is finished.")
@click.option("--task", metavar="I", type=click.IntRange(min=0), help="Of this task only; unset: of all.")
@click.option("-n", "--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines.")
@server_options
@click.pass_obj
def logs(where: Where, name: str, follow: bool, task: int | None, tail: int | None) -> None:
    """What a workload's tasks print; lines of several tasks begin with the task's name."""
    api = where.api()
    rows = tasks_of(api.get(f"/workloads/{segment(name)}"), task)
    if follow:
        follow_logs(api, name, rows, tail=tail)
        return
    for row in rows:
        _copy(api, name, row, tail, f"[{row['name']}] " if len(rows) > 1 else "")


def tasks_of(workload: Item, index: int | None) -> list[Item]:
    """The tasks of a workload, or the one that is asked for. Refused where there is no such task."""
    rows = [row for row in workload.get("tasks") or () if index is None or row.get("index") == index]
    if index is not None and not rows:
        count = len(workload.get("tasks") or ())
        raise Refused(f"{workload.get('name')} has no task {index}; wanted one of 0 to {count - 1}")
    return rows


def _copy(api: Api, name: str, row: Item, tail: int | None, prefix: str) -> None:
    """A task's log to stdout, byte by byte but for the prefix; to a terminal only what does it no harm."""
    out = sys.stdout.buffer
    harmless = Harmless() if on_terminal() else None
    for piece in _pieces(
        api, f"/workloads/{segment(name)}/tasks/{row['index']}/log", tail, whole=bool(prefix)
    ):
        told = prefix.encode() + piece + (b"\n" if prefix and not piece.endswith(b"\n") else b"")
        out.write(harmless.bytes(told).encode() if harmless is not None else told)
    if harmless is not None:
        out.write(harmless.end().encode())
    out.flush()


def _pieces(api: Api, path: str, tail: int | None, *, whole: bool) -> Iterator[bytes]:
    """A log in pieces, or in whole lines. What its reader runs into is no fault of the server's."""
    with answering(api.about), api.open("GET", path, query={"tail": tail}) as response:
        if whole:
            yield from response
        else:
            while chunk := response.read(CHUNK):
                yield chunk
