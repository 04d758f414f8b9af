"""Clusters and tenants as tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from gpumax.errors import BadFile, Fault
from gpumax.formats.lines import quote
from gpumax.formats.queues import make_queue
from gpumax.formats.scenario_shapes import NODE_COLUMNS, QUEUE_COLUMNS, Table
from gpumax.formats.shape import MOST_FAULTS, more_faults
from gpumax.model.amounts import Amounts
from gpumax.model.node import Device, Node
from gpumax.model.queue import Queue
from gpumax.traces import cells
from gpumax.traces.cells import BadCell
from gpumax.traces.names import legal
from gpumax.traces.source import opened
from gpumax.traces.table import Row, header, picked
from gpumax.units import MILLI, UNLIMITED

_MOST_DEVICES = 256
_ONE = (
    ("cpu", "cpu_milli"),
    ("memory", "memory_mib"),
    ("gpu_memory", "gpu_memory_mib"),
    ("nodes", "gpu"),
)
"""Columns that say the same: where one is named, the other is not looked for."""

T = TypeVar("T", Node, Queue)


def read_nodes(path: Path, table: Table) -> tuple[Node, ...]:
    """The nodes of a table, in its order. BadFile with every row that can't be used: a cluster with holes is none."""
    return _read(path, table.columns, NODE_COLUMNS, ("devices",), _node)


def read_queues(path: Path, table: Table) -> tuple[Queue, ...]:
    """The queues of a table, in its order. A quota is of GPUs; cores and memory bound nobody."""

    def queue(_number: int, row: Row) -> Queue:
        if text := row.get("gpu"):
            milli = cells.milli("gpu", text)
        else:
            milli = cells.count("nodes", row.get("nodes") or "0") * table.devices_per_node * MILLI
        quota = Amounts(milli * table.scale // MILLI, UNLIMITED, UNLIMITED)
        weight = {"gpu": cells.milli("weight", text)} if (text := row.get("weight")) else None
        priority = cells.whole("priority", text) if (text := row.get("priority")) else 100
        parent = legal("parent", text) if (text := row.get("parent")) else None
        return make_queue(legal("name", row["name"]), parent, priority, quota, weight=weight)

    return _read(path, table.columns, QUEUE_COLUMNS, ("name",), queue)


def _node(number: int, row: Row) -> Node:
    count = cells.count("devices", row["devices"] or "0")
    if count > _MOST_DEVICES:
        raise BadCell("devices", str(count), f"at most {_MOST_DEVICES}")
    model = cells.words("model", row.get("model") or "")
    memory = _memory(row, "gpu_memory")
    cpu = (
        cells.milli("cpu", text)
        if (text := row.get("cpu"))
        else cells.count("cpu_milli", row.get("cpu_milli") or "0")
    )
    return Node(
        cells.name("name", text) if (text := row.get("name")) is not None else f"node-{number:05}",
        cells.name("pool", text) if (text := row.get("pool")) else "",
        cpu,
        _memory(row, "memory"),
        devices=tuple(Device(index, model, memory) for index in range(count)),
    )  # fmt: skip


def _memory(row: Row, column: str) -> int:
    if text := row.get(column):
        return cells.memory(column, text)
    return cells.count(f"{column}_mib", row.get(f"{column}_mib") or "0")


def _read(
    path: Path, columns: Mapping[str, str], known: tuple[str, ...], required: tuple[str, ...], make: Callable[[int, Row], T]
) -> tuple[T, ...]:  # fmt: skip
    faults: list[Fault] = []

    def report(line: int, column: str, found: str, wanted: str) -> None:
        faults.append(Fault(column, line, found, wanted))

    with opened(path) as source:
        names = header(source)
        theirs = _mapped(columns, [name for name in known if name in names])
        wanted = f"one; the file has {', '.join(quote(name) for name in names[:20])}"
        faults += [Fault("", 1, f"no column for {name}", wanted) for name in required if name not in theirs]
        if faults:
            raise BadFile(faults, source.name)
        found = list(_made(picked(source, theirs, report), theirs, make, report))
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [Fault("", None, more_faults(len(faults) - MOST_FAULTS), "these mended first")]
    if not faults and not found:
        faults.append(Fault("", 1, "no row", "at least one"))
    if faults:
        raise BadFile(faults, str(path))
    return tuple(found)


def _mapped(columns: Mapping[str, str], own: list[str]) -> dict[str, str]:
    """Ours to theirs: those that somebody named, and of the rest those that the file calls as we do."""
    settled = {other for ours in columns for group in _ONE for other in group if ours in group}
    taken = {theirs.strip() for theirs in columns.values()}
    found = {ours: theirs for ours, theirs in columns.items() if theirs.strip()}
    rest = {name: name for name in own if name not in columns and name not in settled and name not in taken}
    return {**found, **rest}


def _made(
    rows: Iterator[tuple[int, Row]], theirs: Mapping[str, str], make: Callable[[int, Row], T],
    report: Callable[[int, str, str, str], None],
) -> Iterator[T]:  # fmt: skip
    first: dict[str, int] = {}
    for number, (line, row) in enumerate(rows, 1):
        try:
            made = make(number, row)
        except BadCell as bad:
            report(line, theirs.get(bad.column, bad.column), bad.found, bad.wanted)
            continue
        if first.setdefault(made.name, line) != line:
            report(
                line,
                theirs.get("name", ""),
                f"{quote(made.name)} again, first in line {first[made.name]}",
                "each name once",
            )
            continue
        yield made
