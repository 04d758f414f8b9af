"""Gangs that pods name by a label: their groups stand in an object, or their minimum beside the label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpumax.engines.kubernetes.documents import at, number
from gpumax.engines.kubernetes.grouping.kind import MOST
from gpumax.engines.kubernetes.views import Document
from gpumax.errors import Fault
from gpumax.formats.scalars import GROUP_NAME
from gpumax.formats.shape import Bad, Wrongs, show
from gpumax.formats.topology import TOPOLOGY, read_wish
from gpumax.model.snapshot import Topology
from gpumax.model.workload import Group, TopologyWish

_LEVELS = (
    ("name", ("name", "topology")),
    ("required", ("required", "requiredTopologyLevel")),
    ("preferred", ("preferred", "preferredTopologyLevel")),
)
"""Fields of a wish: ours, and the peers'."""


def groups_of(
    document: Document, topologies: Mapping[str, Topology], faults: list[Fault]
) -> tuple[Group, ...]:
    """The groups of a gang's object, by name: of our Gang, or of the peers' PodGroup (`minMember`, `subGroups`)."""
    key = "subGroups" if at(document, "spec", "subGroups") else "groups"
    rows = at(document, "spec", key)
    if not isinstance(rows, list) or not rows:
        return (Group("", max(_least(at(document, "spec")), 1)),)
    parents = {at(row, "parent") for row in rows}
    groups = {}
    for index, row in enumerate(rows):
        where = f"spec.{key}[{index}]"
        try:
            name = GROUP_NAME.read(at(row, "name"))
        except Bad as bad:
            faults += [Fault(f"{where}.name", None, wrong.found, wrong.wanted) for wrong in bad.wrongs]
            continue
        if name in groups:
            faults.append(Fault(f"{where}.name", None, f"{show(name)} twice", "each group once"))
        parent = at(row, "parent") or None
        least = 0 if name in parents else max(_least(row), 1)
        groups[name] = Group(name, least, parent, wish_of(row, topologies, where, faults))
    for group in groups.values():
        if group.parent is not None and group.parent not in groups:
            found = f"{show(group.parent)}, the parent of {show(group.name)}"
            faults.append(Fault(f"spec.{key}", None, found, "a group of this gang"))
        elif _circle(group, groups):
            faults.append(Fault(f"spec.{key}", None, f"a cycle through {show(group.name)}", "a tree"))
    return tuple(groups[name] for name in sorted(groups))


def wish_of(
    row: Any, topologies: Mapping[str, Topology], where: str, faults: list[Fault]
) -> TopologyWish | None:
    """How a gang or a group stands together, as its object has it."""
    written = at(row, "topology")
    own = written if isinstance(written, dict) else at(row, "topologyConstraint")
    fields = {ours: found for ours, names in _LEVELS for name in names if (found := at(own, name))}
    if not fields:
        return None
    wrongs = Wrongs()
    try:
        wish = read_wish(TOPOLOGY.read(fields), topologies, wrongs, "topology")
        wrongs.check()
    except Bad as bad:
        faults += [Fault(f"{where}.topology", None, wrong.found, wrong.wanted) for wrong in bad.wrongs]
        return None
    return wish


def _least(row: Any) -> int:
    return min(number(row, "min", unset=0) or number(row, "minMember", unset=0), MOST)


def _circle(group: Group, groups: Mapping[str, Group]) -> bool:
    above, steps = group.parent, 0
    while above is not None and above in groups and steps <= len(groups):
        if above == group.name:
            return True
        above, steps = groups[above].parent, steps + 1
    return False
