"""How drawn nodes stand together, and how drawn work wishes to."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from gpumax.model.node import Node
from gpumax.model.snapshot import Topology
from gpumax.model.workload import Affinity, Company, Expression, Group, Segments, TaskTerm, TopologyWish

ZONES = ("a", "b")
TOPOLOGY = Topology("default", ("zone", "rack"))
LABELS = (*({"zone": zone, "rack": rack} for zone in ZONES for rack in ("r1", "r2")), {"zone": "a"})

_LEVELS = st.sampled_from((None, "zone", "rack", "rack"))
_SEGMENTS = st.builds(Segments, st.integers(1, 3), st.sampled_from(("rack", "rack", None)), st.just("rack"))
WISHES = st.builds(
    TopologyWish, st.just("default"), _LEVELS, _LEVELS, st.none() | st.none() | _SEGMENTS
).filter(lambda wish: wish != TopologyWish("default"))


_X, _Y = ((Expression("app", "In", (app,)),) for app in ("x", "y"))
_MEANT = st.sampled_from(
    (_X, _X, _X, _Y, _Y, (Expression("app", "NotIn", ("x",)),), (Expression("app", "Exists"),), (), None)
)
_TERMS = st.builds(
    TaskTerm,
    st.sampled_from(("host", "host", "host", "host", "zone", "zone", "rack", "missing")),
    _MEANT,
    st.sampled_from(((),) * 5 + (("missing",),)),
    st.sampled_from((None, (), ())),
    st.sampled_from(((),) * 4 + (("app",),)),
).filter(lambda term: term.labels is not None or not term.same)
_PREFERRED = st.lists(st.tuples(st.sampled_from((1, 10)), _TERMS), max_size=1).map(tuple)
_SOME = st.builds(Company, st.lists(_TERMS, min_size=1, max_size=1).map(tuple), _PREFERRED)
_MANY = st.builds(Company, st.lists(_TERMS, max_size=2).map(tuple), _PREFERRED)
COMPANY = (
    st.builds(Affinity, apart=_SOME)
    | st.builds(Affinity, near=_SOME)
    | st.builds(Affinity, near=_MANY, apart=_MANY).filter(lambda affinity: affinity != Affinity())
)
"""Affinity and anti-affinity between tasks; few of the terms can't be met."""
APPS = st.sampled_from(({}, {"app": "x"}, {"app": "x"}, {"app": "y"}))


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
    rows = {node.name: [node.labels.get(level) for level in TOPOLOGY.levels] for node in nodes}
    return sorted(name for name, labels in rows.items() if labels == rows[home])
