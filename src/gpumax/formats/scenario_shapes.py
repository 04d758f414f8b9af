"""Shapes of a scenario's parts: clusters, tenants and work, written out or named as tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

import msgspec

from gpumax.formats.nodes import NODE
from gpumax.formats.queues import QUEUE
from gpumax.formats.scalars import NAME, Choice, Decimal, Text, Time, Whole
from gpumax.formats.shape import (
    Bad,
    ByType,
    Field,
    Map,
    Object,
    Rows,
    Schema,
    Shape,
    Then,
    Wrong,
    Wrongs,
    show,
    wrong,
)
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.units import MILLI

T = TypeVar("T")

NODE_COLUMNS: Final = (
    "name", "pool", "cpu", "cpu_milli", "memory", "memory_mib", "devices", "model", "gpu_memory", "gpu_memory_mib",
)  # fmt: skip
"""Columns of a table of nodes."""

QUEUE_COLUMNS: Final = ("name", "nodes", "gpu", "parent", "priority", "weight")
"""Columns of a table of queues; `nodes` or `gpu` is the quota."""

ARRIVAL_COLUMNS: Final = (
    "name", "submitted", "started", "ended", "duration", "gpu", "devices", "gpu_milli", "gpu_memory_mib", "models", "cpu",
    "cpu_milli", "memory", "memory_mib", "queue", "user", "priority", "max_duration",
    "devices_per_task",
)  # fmt: skip
"""Columns of a table of arrivals."""

TRACE_FORMATS: Final = ("csv", "slurm", "philly", "openb", "helios", "kubernetes", "journal")
"""Traces that are read as they are published, or as their tools print them."""

ON_BAD_ROW: Final = ("skip", "stop")

MOST_NODES: Final = 100_000
_FILE: Final = Text(r"[^\x00-\x1f\x7f\ud800-\udfff]+", "the name of a file", most=4096)
_COLUMN: Final = Text(
    r"[^\x00-\x1f\x7f\ud800-\udfff]*", "a column of the file, as its first line calls it", most=1024
)


class Table(msgspec.Struct, frozen=True):
    """A CSV file, and what it calls our columns; those that are not named: as we do."""

    csv: str
    columns: dict[str, str] = {}
    devices_per_node: int = 8
    scale: int = MILLI


class Work(msgspec.Struct, frozen=True):
    """Where arrivals come from. format: empty where the file is to say it. between: first moment, and the first one after it."""

    file: str
    format: str = ""
    columns: dict[str, str] = {}
    between: tuple[int, int] | None = None
    devices_per_task: int = 8
    on_bad_row: str = "skip"


class Columns(Generic[T]):
    """Ours: theirs."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._map = Map(Choice(known), _COLUMN)

    def read(self, value: object) -> dict[str, str]:
        """The columns that are named."""
        return self._map.read(value)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """An object."""
        return self._map.schema(defs)


class _Moment:
    """A day, or a moment; of a day its beginning, in UTC."""

    def read(self, value: object) -> int:
        """Milliseconds since 1970."""
        if isinstance(value, str) and len(value) == 10:
            try:
                return Time().read(f"{value}T00:00:00Z")
            except Bad:
                raise wrong(value, "a day like 2017-10-01, or a time like 2017-10-01T12:00:00Z") from None
        return Time().read(value)

    def schema(self, defs: dict[str, Schema]) -> Schema:
        """RFC 3339, a day of it, or seconds."""
        return {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "string", "format": "date"},
                {"type": "number", "minimum": 0},
            ]
        }


def _span(moments: tuple[int, ...]) -> tuple[int, int]:
    wanted = "a first moment, and a later one"
    if len(moments) != 2:
        raise wrong(moments, wanted)
    if moments[0] >= moments[1]:
        raise Bad([Wrong((), "an end before its beginning", wanted)])
    return moments[0], moments[1]


def _work(
    csv: str = "",
    trace: str = "",
    format: str = "",
    columns: dict[str, str] | None = None,
    between: tuple[int, int] | None = None,
    gang: int = 8,
    on_bad_row: str = "skip",
) -> Work:
    if bool(csv) == bool(trace):
        raise Bad([Wrong((), "both csv and trace" if csv else "neither csv nor trace", "one of the two")])
    if columns and format not in ("", "csv"):
        raise Bad([Wrong(("columns",), f"columns beside format {format}", "columns with csv alone")])
    return Work(csv or trace, "csv" if csv else format, columns or {}, between, gang, on_bad_row)


_GANG: Final[Object[int]] = Object(
    "Gang",
    {"devices_per_task": Field(Whole(0, 256), "The most devices of one task; 0: as many as the workload asks for.", required=True)},
    lambda devices_per_task: int(devices_per_task),
    about="How a request of many devices becomes tasks that start together.",
)  # fmt: skip

WORK: Final = Object(
    "Arrivals",
    {
        "csv": Field(_FILE, "A table, relative to the scenario's file; .gz is read too."),
        "trace": Field(_FILE, "Instead of csv: a trace in a format that `gpumax trace inspect` knows."),
        "format": Field(Choice(TRACE_FORMATS), "Of the trace; unset: as its first lines tell."),
        "columns": Field(Columns(ARRIVAL_COLUMNS), 'Ours: theirs. Those that are not named are found by names that are ours or common elsewhere; "": there is none.'),
        "between": Field(
            Then(Rows(_Moment()), _span), "Only what was submitted at or after the first moment and before the second."
        ),
        "gang": Field(_GANG, "Unset: 8 devices a task, where a row does not say it."),
        "on_bad_row": Field(Choice(ON_BAD_ROW), "skip (unset): leave it out and count it; stop: refuse the file."),
    },
    _work,
    about="The work that comes.",
)  # fmt: skip


class NodeRow(msgspec.Struct, frozen=True):
    """One row of a list of nodes: so many that are alike. count None: one, of just this name."""

    node: Node
    count: int | None


def _node_row(count: int | None = None, name: str = "", **fields: Any) -> NodeRow:
    return NodeRow(Node(name, **fields), count)


_NODE_FIELDS: Final = {
    **NODE.fields,
    "name": Field(NAME, "Of the node; where there are several, the beginning of their names; unset: node."),
    "count": Field(Whole(1, MOST_NODES), "How many nodes are like this; unset: one."),
}


def _spread_rows(rows: tuple[NodeRow, ...]) -> tuple[Node, ...]:
    """Every node by itself. Nodes are numbered, so that their order by name is that of the file."""
    if sum(row.count or 1 for row in rows) > MOST_NODES:
        raise Bad([Wrong((), "too many nodes", f"at most {MOST_NODES:,}")])
    nodes: dict[str, Node] = {}
    wrongs = Wrongs()
    next_number: dict[str, int] = {}
    for index, row in enumerate(rows):
        names = [row.node.name]
        if row.count is not None or not row.node.name:
            base = row.node.name or "node"
            first = next_number.get(base, 1)
            next_number[base] = first + (row.count or 1)
            names = [f"{base}-{number:05}" for number in range(first, next_number[base])]
        if twice := [name for name in names if name in nodes]:
            wrongs.add((index, "name"), f'"{twice[0]}" twice', "each name once")
        nodes.update((name, msgspec.structs.replace(row.node, name=name)) for name in names)
    wrongs.check()
    return tuple(nodes.values())


def _table(
    csv: str, columns: dict[str, str] | None = None, devices_per_node: int = 8, scale: int = MILLI
) -> Table:
    return Table(csv, columns or {}, devices_per_node, scale)


NODES: Final[Shape[tuple[Node, ...] | Table]] = ByType(
    "a list of nodes, or {csv: FILE, columns: {...}}",
    list=Then(
        Rows(Object("ScenarioNode", _NODE_FIELDS, _node_row, about="Machines that are alike."), least=1), _spread_rows
    ),
    object=Object(
        "NodeTable",
        {
            "csv": Field(_FILE, "A table with one row a node, relative to the scenario's file.", required=True),
            "columns": Field(Columns(NODE_COLUMNS), 'Ours: theirs. Those that are not named are found where the file calls them as we do; "": there is none.'),
        },
        _table,
        about="The cluster as a table.",
    ),
)  # fmt: skip


def _unique(queues: tuple[Queue, ...]) -> tuple[Queue, ...]:
    wrongs = Wrongs()
    first: dict[str, int] = {}
    for index, queue in enumerate(queues):
        if first.setdefault(queue.name, index) != index:
            wrongs.add(
                (index, "name"), f'"{queue.name}" twice, first at [{first[queue.name]}]', "each name once"
            )
    wrongs.check()
    return queues


QUEUES: Final[Shape[tuple[Queue, ...] | Table]] = ByType(
    "a list of queues, or {csv: FILE, columns: {...}}",
    list=Then(Rows(QUEUE, least=1, most=100_000), _unique),
    object=Object(
        "QueueTable",
        {
            "csv": Field(_FILE, "A table with one row a queue, relative to the scenario's file.", required=True),
            "columns": Field(Columns(QUEUE_COLUMNS), 'Ours: theirs; `gpu` or `nodes` is the quota. Those that are not named are found where the file calls them as we do; "": there is none.'),
            "devices_per_node": Field(Whole(1, 256), "What one node of the column `nodes` means; unset: 8."),
            "scale": Field(Decimal(MILLI), "Every quota times this; unset: 1."),
        },
        _table,
        about="The tenants as a table.",
    ),
)  # fmt: skip


_PART: Final = Text(r"0?\.[0-9]{1,3}|1|1\.0{1,3}", 'a part of one device in quotes, like "0.5"', most=5)


def _sizes(parts: Mapping[str, int]) -> dict[int, int]:
    if not parts:
        raise Bad([Wrong((), "an empty object", 'at least one size, like {"0.5": 1}')])
    sizes: dict[int, int] = {}
    for part, count in parts.items():
        milli = Decimal(MILLI).read(part)
        if not milli:
            raise Bad([Wrong((part,), show(part), "more than nothing")])
        # The same part may be written in two ways.
        sizes[milli] = sizes.get(milli, 0) + count
    return dict(sorted(sizes.items()))


SIZES: Final[Shape[dict[int, int]]] = Then(Map(_PART, Whole(1, 1 << 31)), _sizes)
"""Parts of one device by how often."""


def unknown(names: Iterable[object], known: Collection[str]) -> list[Wrong]:
    """A fault for each name of a list that isn't known."""
    return [
        Wrong((index,), show(name), f"one of {', '.join(known)}", str(name), known)
        for index, name in enumerate(names)
        if name not in known
    ]
