"""How nodes stand together: the domains of each level, and what a gang and its parts wish of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gpumax.model.names import natural
from gpumax.model.node import Node
from gpumax.model.snapshot import Topology
from gpumax.model.workload import ACTIVE, Group, Segments, Task, TopologyWish, Workload
from gpumax.policy.nodes import Ints

NOWHERE: Final = -1
"""In place of a domain: the node lacks a label of the level, or of a wider one."""


class Level:
    """One level of a topology. domain: of each row, or NOWHERE; names: of the domains, in their order."""

    def __init__(self, label: str, wider: Level | None, values: list[tuple[str, ...] | None]) -> None:
        self.label = label
        self.wider = wider
        found = sorted(
            {value for value in values if value is not None},
            key=lambda value: ([natural(part) for part in value], value),
        )
        number = {value: index for index, value in enumerate(found)}
        self.names = ["/".join(value) for value in found]
        last = [value[-1] for value in found]
        if len(set(last)) == len(last):
            self.names = last
        self.domain: Ints = np.array(
            [NOWHERE if value is None else number[value] for value in values], np.int64
        )

    def sums(self, amounts: Ints) -> Ints:
        """By domain, the sum of what its rows have."""
        there = self.domain >= 0
        sums = np.zeros(len(self.names), np.int64)
        np.add.at(sums, self.domain[there], amounts[there])
        return sums

    def above(self) -> Iterator[Level]:
        """The wider levels, the narrowest of them first."""
        level = self.wider
        while level is not None:
            yield level
            level = level.wider


class Domains:
    """The levels of all topologies; each is made when it is first asked for."""

    def __init__(self, nodes: tuple[Node, ...], topologies: tuple[Topology, ...]) -> None:
        self._nodes = nodes
        self._labels = {topology.name: topology.levels for topology in topologies}
        self._known: dict[str, dict[str, Level]] = {}

    def level(self, topology: str, label: str) -> Level:
        """One level."""
        known = self._known.get(topology)
        if known is None:
            known = self._known[topology] = self._read(self._labels[topology])
        return known[label]

    def _read(self, labels: tuple[str, ...]) -> dict[str, Level]:
        levels: dict[str, Level] = {}
        wider: Level | None = None
        values: list[tuple[str, ...] | None] = [()] * len(self._nodes)
        for label in labels:
            values = [
                None if value is None or label not in node.labels else (*value, node.labels[label])
                for value, node in zip(values, self._nodes, strict=True)
            ]
            wider = levels[label] = Level(label, wider, values)
        return levels


class Scope:
    """Tasks of which something is wished: a gang, a group or a segment. rows: where those of them are that stay.

    size: how many tasks wait in it when the decision begins.
    """

    __slots__ = ("name", "parent", "preferred", "required", "rows", "size")

    def __init__(
        self, parent: Scope | None, required: Level | None, preferred: Level | None, name: str
    ) -> None:
        self.parent = parent
        self.required = required
        self.preferred = preferred
        self.name = name
        self.rows: list[int] = []
        self.size = 0

    def path(self) -> Iterator[Scope]:
        """From here up to the whole gang."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def enter(self, row: int) -> None:
        """One of its tasks stands on a node."""
        for scope in self.path():
            scope.rows.append(row)

    def fixed(self) -> list[int]:
        """The domains of the required level in which it stands."""
        assert self.required is not None
        return sorted({int(self.required.domain[row]) for row in self.rows})

    def sign(self) -> tuple[object, ...]:
        """Equal for scopes that ask the same."""
        return (id(self.required), id(self.preferred), tuple(sorted(set(self.rows))))


def wished(workload: Workload) -> bool:
    """Whether a workload wishes anything of the topology."""
    if workload.topology is not None:
        return True
    if len(workload.groups) == 1:
        return workload.groups[0].topology is not None
    return any(group.topology is not None for group in workload.groups)


def scopes(
    workload: Workload, domains: Domains, row_of: dict[str, int], *, anew: bool = False
) -> dict[str, Scope] | None:
    """By task name the narrowest scope, where anything is wished of it; None where nothing is of any.

    anew: as if none of its tasks ran.
    """
    if not wished(workload):
        return None
    found = _Reader(workload, domains).read()
    for task in workload.tasks:
        scope = found.get(task.name)
        if scope is None:
            continue
        if task.state == "pending":
            for outer in scope.path():
                outer.size += 1
        elif task.state in ACTIVE and task.node is not None and not anew:
            scope.enter(row_of[task.node])
    return found


class _Reader:
    """Builds the scopes of one workload. Segments are cut from each group of tasks by itself."""

    def __init__(self, workload: Workload, domains: Domains) -> None:
        self._domains = domains
        self._found: dict[str, Scope] = {}
        self._below: dict[str | None, list[Group]] = {}
        for group in workload.groups:
            self._below.setdefault(group.parent, []).append(group)
        self._tasks: dict[str, list[Task]] = {}
        for task in sorted(workload.tasks, key=lambda task: (natural(task.name), task.name)):
            self._tasks.setdefault(task.group, []).append(task)
        self._wish = workload.topology

    def read(self) -> dict[str, Scope]:
        """By task name, the narrowest scope."""
        self._groups(None, self._scope(self._wish, None, ""), self._wish)
        return self._found

    def _groups(self, parent: str | None, above: Scope | None, cutting: TopologyWish | None) -> None:
        """The groups below one. cutting: the wish above that says how to cut segments."""
        for group in self._below.get(parent, ()):
            scope = self._scope(group.topology, above, group.name)
            own = group.topology is not None and group.topology.segments is not None
            wish = group.topology if own else cutting
            if group.name in self._below:
                self._groups(group.name, scope, wish)
            else:
                self._leaf(self._tasks.get(group.name, []), scope, wish)

    def _leaf(self, tasks: list[Task], scope: Scope | None, wish: TopologyWish | None) -> None:
        if wish is None or wish.segments is None:
            if scope is not None:
                self._found.update((task.name, scope) for task in tasks)
            return
        size = wish.segments.size
        for start in range(0, len(tasks), size):
            segment = self._make(wish.name, wish.segments, scope, "segment")
            self._found.update((task.name, segment) for task in tasks[start : start + size])

    def _scope(self, wish: TopologyWish | None, above: Scope | None, name: str) -> Scope | None:
        if wish is None or (wish.required is None and wish.preferred is None):
            return above
        return self._make(wish.name, wish, above, name)

    def _make(self, topology: str, wish: TopologyWish | Segments, above: Scope | None, name: str) -> Scope:
        required = None if wish.required is None else self._domains.level(topology, wish.required)
        preferred = None if wish.preferred is None else self._domains.level(topology, wish.preferred)
        if required is not None and preferred is not None and required not in preferred.above():
            preferred = None
        return Scope(above, required, preferred, name)
