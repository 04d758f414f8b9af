"""How nodes stand together, and how tasks wish to: topologies of a snapshot, and the wishes that refer to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gpumax.formats.lines import Key
from gpumax.formats.scalars import KEY, NAME, Whole
from gpumax.formats.shape import Field, Object, Rows, Then, Wrongs, show
from gpumax.model.snapshot import Topology
from gpumax.model.workload import Document, Segments, TopologyWish

Row = dict[str, Any]
"""Fields that were read."""


def _some_level(row: Row) -> Row:
    wrongs = Wrongs()
    if "required" not in row and "preferred" not in row:
        wrongs.add((), "segments without a level", "required or preferred beside the size")
    wrongs.check()
    return row


TOPOLOGY: Final[Object[Row]] = Object(
    "TopologyConstraint",
    {
        "name": Field(NAME, "Which topology; unset: the only one."),
        "required": Field(KEY, "All inside one domain of this level."),
        "preferred": Field(
            KEY, "In as few domains of this level as possible; says nothing where it is wider than required."
        ),
        "segments": Field(
            Then(
                Object[Row](
                    "Segments",
                    {
                        "size": Field(
                            Whole(1, 10_000),
                            "How many tasks of a group a segment has, in the order of their names.",
                            required=True,
                        ),
                        "required": Field(KEY, "Each segment inside one domain of this level."),
                        "preferred": Field(KEY, "Each segment in as few domains of this level as possible."),
                    },
                    dict,
                ),
                _some_level,
            ),
            "So many tasks at a time stand together.",
        ),
    },
    dict,
)


def _different(rows: tuple[Topology, ...]) -> tuple[Topology, ...]:
    wrongs = Wrongs()
    names = [row.name for row in rows]
    for index, row in enumerate(rows):
        if row.name in names[:index]:
            wrongs.add((index, "name"), f"{show(row.name)} twice", "each topology once")
        if len(set(row.levels)) < len(row.levels):
            wrongs.add((index, "levels"), "a level twice", "each level once")
    wrongs.check()
    return tuple(sorted(rows, key=lambda row: row.name))


TOPOLOGIES: Final = Then(
    Rows(
        Object(
            "Topology",
            {
                "name": Field(NAME, "Unique among topologies.", required=True),
                "levels": Field(Rows(KEY, least=1, most=20), "Node labels, widest first.", required=True),
            },
            Topology,
        ),
        most=1000,
    ),
    _different,
)


def read_wish(
    row: Row | None, known: Mapping[str, Topology] | None, wrongs: Wrongs, *path: Key
) -> TopologyWish | None:
    """The wish of a row, its topology found; None where it asks for nothing. known None: topologies have faults of their own."""
    levels = {"required", "preferred", "segments"}
    if not row or known is None or (levels.isdisjoint(row) and "name" not in row):
        return None
    name = row.get("name")
    if name is None:
        if len(known) != 1:
            found = f"{len(known)} topologies" if known else "no topologies in the snapshot"
            wrongs.add(path, found, "the name of one of them" if known else "topologies: [{name, levels}]")
            return None
        (name,) = known
    topology = known.get(name)
    if topology is None:
        wrongs.add((*path, "name"), show(name), "a topology of the snapshot", name, known)
        return None
    segments: Row = row.get("segments", {})
    for at, part in ((path, row), ((*path, "segments"), segments)):
        for key in ("required", "preferred"):
            level = part.get(key)
            if level is not None and level not in topology.levels:
                wanted = f"a level of topology {name}: {', '.join(topology.levels)}"
                wrongs.add((*at, key), show(level), wanted, level, topology.levels)
    if levels.isdisjoint(row):
        return None
    return TopologyWish(
        name, row.get("required"), row.get("preferred"), Segments(**segments) if segments else None
    )


def dump_wish(wish: TopologyWish) -> Document:
    """As it is read."""
    document: Document = {"name": wish.name, **_dump_levels(wish.required, wish.preferred)}
    if wish.segments is not None:
        own = wish.segments
        document["segments"] = {"size": own.size, **_dump_levels(own.required, own.preferred)}
    return document


def _dump_levels(required: str | None, preferred: str | None) -> Document:
    written = {"required": required, "preferred": preferred}
    return {key: level for key, level in written.items() if level is not None}


def dump_topology(topology: Topology) -> Document:
    """As it is read."""
    return {"name": topology.name, "levels": list(topology.levels)}
