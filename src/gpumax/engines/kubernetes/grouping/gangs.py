"""Gangs that pods name by a label: their groups stand in an object, or their minimum beside the label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpumax.engines.kubernetes.documents import at, number, rows
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
    """The groups of a gang's object, by name: of our Gang, of the peers' PodGroup (`minMember`, `subGroups`), or of the cluster's own."""
    wish_of(at(document, "spec"), topologies, "spec", faults)
    key = "subGroups" if at(document, "spec", "subGroups") else "groups"
    listed = rows(document, "spec", key)
    if not listed:
        return (Group("", max(_least(at(document, "spec"), "spec", faults), 1)),)
    parents = {at(row, "parent") for row in listed}
    groups = {}
    for index, row in enumerate(listed):
        where = f"spec.{key}[{index}]"
        try:
            name = GROUP_NAME.read(at(row, "name"))
        except Bad as bad:
            faults += [Fault(f"{where}.name", None, wrong.found, wrong.wanted) for wrong in bad.wrongs]
            continue
        if name in groups:
            faults.append(Fault(f"{where}.name", None, f"{show(name)} twice", "each group once"))
        parent = at(row, "parent") or None
        least = 0 if name in parents else max(_least(row, where, faults), 1)
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
    levels = _levels(row)
    if levels:
        # The cluster's own groups name labels, not topologies.
        name = next((one.name for one in topologies.values() if levels[0] in one.levels), "")
        own = {"name": name, "required": levels[0]}
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


def native_levels(document: Document | None) -> tuple[str, ...]:
    """The labels that the constraints of one of the cluster's own groups name."""
    return _levels(at(document, "spec"))


def _levels(row: Any) -> tuple[str, ...]:
    found = (at(one, "key") for one in rows(row, "schedulingConstraints", "topology"))
    return tuple(key for key in found if isinstance(key, str) and key)


def _least(row: Any, where: str, faults: list[Fault]) -> int:
    """The minimum that is written there; 0 where none is. Nonsense is told: to start one by one is not what anybody meant by it."""
    if not isinstance(row, dict | None):
        faults.append(Fault(where, None, show(row), "an object"))
    for key in ("min", "minMember"):
        written = at(row, key)
        if written is not None and number(row, key, unset=-1) < 0:
            faults.append(Fault(f"{where}.{key}", None, show(written), "a whole number, 1 to 10,000"))
    native = number(row, "schedulingPolicy", "gang", "minCount", unset=0)
    return native or number(row, "min", unset=0) or number(row, "minMember", unset=0)


def _circle(group: Group, groups: Mapping[str, Group]) -> bool:
    above, steps = group.parent, 0
    while above is not None and above in groups and steps <= len(groups):
        if above == group.name:
            return True
        above, steps = groups[above].parent, steps + 1
    return False
