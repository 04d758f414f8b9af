"""The snapshot document: all the state that one decision needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

from gpumax.formats.lines import Key, format_path
from gpumax.formats.nodes import NODE, dump_node
from gpumax.formats.options import POLICY, dump_policy
from gpumax.formats.parsed import LineOf
from gpumax.formats.queues import QUEUE, check_tree, dump_queue
from gpumax.formats.scalars import Choice, Time, write_time
from gpumax.formats.shape import Bad, Field, Object, Rows, Wrongs, bad_file, show
from gpumax.formats.snapshot_shapes import CLASSES, PRIORITIES, WORKLOAD, Row
from gpumax.formats.snapshot_workloads import (
    Context,
    build_workload,
    check_devices,
    check_places,
    dump_workload,
)
from gpumax.formats.text import one_document
from gpumax.formats.topology import TOPOLOGIES, dump_topology
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot, Topology
from gpumax.model.workload import Document, Workload

VERSION: Final = "gpumax/v1"

T = TypeVar("T")
N = TypeVar("N", Node, Queue, Workload)

NODES: Final = Rows(NODE, most=100_000)
QUEUES: Final = Rows(QUEUE, most=100_000)
WORKLOADS: Final = Rows(WORKLOAD)


FIELDS: Final[dict[str, Field]] = {
    "version": Field(Choice((VERSION,)), "The version of the format."),
    "now": Field(Time(), "The moment of the decision."),
    "nodes": Field(NODES, "The machines."),
    "queues": Field(QUEUES, "The quota tree."),
    "workloads": Field(WORKLOADS, "What was submitted."),
    "policy": Field(POLICY, "Options of the policy."),
    "priorities": Field(PRIORITIES, "Class names that workloads may use, beside the built-in ones."),
    "topologies": Field(TOPOLOGIES, "How nodes stand together, by their labels; for the `topology` of workloads and groups."),
}  # fmt: skip
SNAPSHOT: Final[Object[Row]] = Object("Snapshot", FIELDS, dict, about="The state of a cluster at one moment.")
_ROWS: Final = ("nodes", "queues", "workloads")


def load_snapshot(obj: object, *, source: str = "", line_of: LineOf | None = None) -> Snapshot:
    """The snapshot of a document, or of a file: its bytes, its text, or its Path. BadFile with every fault that it has."""
    parsed = one_document(obj, source, line_of)
    wrongs = Wrongs()
    snapshot = _read(parsed.document, wrongs)
    if wrongs.kept:
        raise bad_file(Bad(wrongs.kept, wrongs.more), parsed.source, parsed.line_of)
    return snapshot


def _read(document: object, wrongs: Wrongs) -> Snapshot:
    """The snapshot, as far as it is sound. Rows are read one by one, so that faults of one hide none of the others."""
    try:
        rest = SNAPSHOT.read(_without_rows(document))
    except Bad as bad:
        wrongs.take(bad)
        rest = {"topologies": None}
    parts: dict[str, object] = document if isinstance(document, dict) else {}
    nodes: dict[int, Node] = _rows(NODES, parts, "nodes", wrongs)
    queues: dict[int, Queue] = _rows(QUEUES, parts, "queues", wrongs)
    rows: dict[int, Row] = _rows(WORKLOADS, parts, "workloads", wrongs)
    check_tree(queues, frozenset(name for _, name in _names(parts, "queues")), wrongs, "queues")
    _check_unique(_task_names(parts), wrongs)
    known: dict[str, Node | None] = {name: None for _, name in _names(parts, "nodes")}
    known.update((node.name, node) for node in nodes.values())
    topologies: tuple[Topology, ...] | None = rest.get("topologies", ())
    context = Context(
        known,
        {**CLASSES, **rest.get("priorities", {})},
        None if topologies is None else {topology.name: topology for topology in topologies},
    )
    workloads: dict[int, Workload] = {}
    for index, row in rows.items():
        workload = build_workload(row, context, wrongs, index)
        if workload is not None:
            workloads[index] = workload
    written = parts.get("workloads")
    for index, row in enumerate(written if isinstance(written, list | tuple) else ()):
        if index not in rows:
            check_places(row, context, wrongs, index)
    check_devices(workloads, known, wrongs)
    return Snapshot(
        rest.get("now", 0), _sorted(nodes), _sorted(queues), _sorted(workloads), rest.get("policy", Policy()),
        topologies or (),
    )  # fmt: skip


def _without_rows(document: object) -> object:
    # null is the same as unset: an unknown field is still known to be one.
    return (
        {key: None if key in _ROWS else value for key, value in document.items()}
        if isinstance(document, dict)
        else document
    )


def _rows(shape: Rows[T], parts: Mapping[str, object], key: str, wrongs: Wrongs) -> dict[int, T]:
    """The sound rows of a list by their index; the same name twice is a fault."""
    if parts.get(key) is None:
        return {}
    _check_unique(_names(parts, key), wrongs)
    return shape.read_sound(parts[key], wrongs, key)


def _names(parts: Mapping[str, object], key: str, *outer: Key) -> Iterator[tuple[tuple[Key, ...], str]]:
    """Paths and names of all rows of a list, those with faults too."""
    rows = parts.get(key)
    for index, row in enumerate(rows if isinstance(rows, list | tuple) else ()):
        if isinstance(row, dict) and isinstance(name := row.get("name"), str):
            yield (*outer, key, index), name


def _task_names(parts: Mapping[str, object]) -> Iterator[tuple[tuple[Key, ...], str]]:
    rows = parts.get("workloads")
    for index, row in enumerate(rows if isinstance(rows, list | tuple) else ()):
        if isinstance(row, dict):
            yield from _names(row, "tasks", "workloads", index)


def _check_unique(names: Iterable[tuple[tuple[Key, ...], str]], wrongs: Wrongs) -> None:
    first: dict[str, tuple[Key, ...]] = {}
    for path, name in names:
        if first.setdefault(name, path) is not path:
            found = f"{show(name)} twice, first at {format_path(first[name])}"
            wrongs.add((*path, "name"), found, "each name once")


def _sorted(rows: Mapping[int, N]) -> tuple[N, ...]:
    return tuple(sorted(rows.values(), key=lambda row: row.name))


def dump_snapshot(snapshot: Snapshot) -> Document:
    """The document of a snapshot, every row by name; loading it gives an equal snapshot."""
    document: Document = {
        "version": VERSION,
        "now": write_time(snapshot.now_ms),
        "nodes": [dump_node(node) for node in snapshot.nodes],
        "queues": [dump_queue(queue) for queue in snapshot.queues],
        "workloads": [dump_workload(workload) for workload in snapshot.workloads],
        "policy": dump_policy(snapshot.policy),
    }
    if snapshot.topologies:
        document["topologies"] = [dump_topology(topology) for topology in snapshot.topologies]
    return document
