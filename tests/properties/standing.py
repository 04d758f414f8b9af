"""How drawn nodes stand together, and how drawn work wishes to."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from gpumax.model.node import Node
from gpumax.model.snapshot import Topology
from gpumax.model.workload import Group, Segments, TopologyWish

ZONES = ("a", "b")
TOPOLOGY = Topology("default", ("zone", "rack"))
LABELS = (*({"zone": zone, "rack": rack} for zone in ZONES for rack in ("r1", "r2")), {"zone": "a"})

_LEVELS = st.sampled_from((None, "zone", "rack", "rack"))
_SEGMENTS = st.builds(Segments, st.integers(1, 3), st.sampled_from(("rack", "rack", None)), st.just("rack"))
WISHES = st.builds(
    TopologyWish, st.just("default"), _LEVELS, _LEVELS, st.none() | st.none() | _SEGMENTS
).filter(lambda wish: wish != TopologyWish("default"))


@st.composite
def grouped(draw: st.DrawFn, groups: tuple[Group, ...]) -> tuple[Group, ...]:
    """Groups with wishes of their own, now and then inside a common one."""
    outer = len(groups) > 1 and draw(st.booleans())
    found = [
        Group(group.name, group.min, "all" if outer else None, draw(st.none() | WISHES)) for group in groups
    ]
    if outer:
        found.append(Group("all", 0, None, draw(st.none() | WISHES)))
    return tuple(sorted(found, key=lambda group: group.name))


def neighbours(nodes: Iterable[Node], home: str) -> list[str]:
    """The nodes in the narrowest domain of one."""
    rows = {node.name: node.labels for node in nodes}
    return sorted(name for name, labels in rows.items() if labels == rows[home])
