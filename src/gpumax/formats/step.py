"""What a snapshot has that the one before had not, as a document: journals of large clusters would be mostly repetition otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from gpumax.errors import BadFile, Fault
from gpumax.formats.nodes import dump_node
from gpumax.formats.options import dump_policy
from gpumax.formats.queues import dump_queue
from gpumax.formats.scalars import write_time
from gpumax.formats.snapshot import VERSION, load_snapshot
from gpumax.formats.snapshot_workloads import dump_workload
from gpumax.formats.topology import dump_topology
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.rows import difference
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Document, Workload

N = TypeVar("N", Node, Queue, Workload)

_DUMPS: Final[Mapping[str, Callable[[Any], Document]]] = {
    "nodes": dump_node, "queues": dump_queue, "workloads": dump_workload,
}  # fmt: skip


class Gone(msgspec.Struct):
    """Names of rows that are there no more."""

    nodes: list[str] = []
    queues: list[str] = []
    workloads: list[str] = []


class Step(msgspec.Struct):
    """The document. Rows are new, or stand for those of their names; policy and topologies are there where they changed."""

    now: str
    nodes: list[Document] = []
    queues: list[Document] = []
    workloads: list[Document] = []
    gone: Gone = msgspec.field(default_factory=Gone)
    policy: Document | None = None
    topologies: list[Document] | None = None


def dump_step(before: Snapshot, after: Snapshot) -> Document | None:
    """The document of what changed, rows known by identity; None where so much did that the whole snapshot says it better."""
    document: Document = {"now": write_time(after.now_ms)}
    gone: Document = {}
    all_, changed = 0, 0
    for key, dump in _DUMPS.items():
        rows = getattr(after, key)
        left, came = difference(getattr(before, key), rows)
        all_, changed = all_ + len(rows), changed + len(left) + len(came)
        if 2 * changed > all_:
            return None
        if came:
            document[key] = [dump(row) for row in came]
        if names := sorted({row.name for row in left} - {row.name for row in came}):
            gone[key] = names
    if gone:
        document["gone"] = gone
    if after.policy != before.policy:
        document["policy"] = dump_policy(after.policy)
    if after.topologies != before.topologies:
        document["topologies"] = [dump_topology(topology) for topology in after.topologies]
    return document


def load_step(before: Snapshot, written: bytes) -> Snapshot:
    """The snapshot that the one before became. Only what changed is read. BadFile with its faults."""
    try:
        step = msgspec.json.decode(written, type=Step)
    except msgspec.MsgspecError as error:
        raise BadFile([Fault("", None, str(error), "what changed since the entry before")]) from None
    # Beside the rows that came stands what they name, so that they are read as in a whole snapshot.
    nodes: list[Node] = list(_others(before.nodes, step.nodes, set(_named(step))))
    queues: list[Queue] = list(_others(before.queues, step.queues)) if step.queues else []
    levels = step.topologies
    document = {
        "version": VERSION,
        "now": step.now,
        "nodes": [*step.nodes, *map(dump_node, nodes)],
        "queues": [*step.queues, *map(dump_queue, queues)],
        "workloads": step.workloads,
        "policy": step.policy or dump_policy(before.policy),
        "topologies": [dump_topology(one) for one in before.topologies] if levels is None else levels,
    }
    read = load_snapshot(document)
    return replace(
        read,
        nodes=_merged(before.nodes, read.nodes, step.gone.nodes),
        queues=_merged(before.queues, read.queues, step.gone.queues),
        workloads=_merged(before.workloads, read.workloads, step.gone.workloads),
    )


def _named(step: Step) -> Iterable[object]:
    """The nodes that workloads name."""
    for row in step.workloads:
        tasks = row.get("tasks")
        yield from (
            (task.get("node") for task in tasks if isinstance(task, dict)) if isinstance(tasks, list) else ()
        )


def _others(rows: Iterable[N], came: list[Document], wanted: set[object] | None = None) -> Iterator[N]:
    """The rows for which none came; of these only the wanted, where some are."""
    names = {row.get("name") for row in came}
    for row in rows:
        if row.name not in names and (wanted is None or row.name in wanted):
            yield row


def _merged(before: tuple[N, ...], came: tuple[N, ...], gone: list[str]) -> tuple[N, ...]:
    """The rows by name, those that came instead of those that had their name."""
    if not came and not gone:
        return before
    left = set(gone)
    rows = {row.name: row for row in before if row.name not in left}
    rows.update((row.name, row) for row in came)
    return tuple(rows[name] for name in sorted(rows))
