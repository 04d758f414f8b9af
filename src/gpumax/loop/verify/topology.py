"""Rule 9, as far as nodes stand together: what has to be inside one domain is, when the decision has come true."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gpumax.loop.verify.facts import Facts, Newcomer
from gpumax.loop.verify.violation import Violation
from gpumax.model.names import natural
from gpumax.model.workload import ACTIVE, Task, TopologyWish, Workload


class Bond(NamedTuple):
    """Tasks that have to be inside one domain, in words, and the labels that make it."""

    what: str
    tasks: frozenset[str]
    labels: tuple[str, ...]


def check_topology(facts: Facts) -> Iterator[Violation]:
    """Nothing new stands apart from what it is bound to."""
    if not facts.snapshot.topologies:
        return
    coming: dict[str, list[Newcomer]] = {}
    for new in facts.newcomers:
        coming.setdefault(new.workload.name, []).append(new)
    for name, mine in coming.items():
        workload = facts.workloads[name]
        nodes = _nodes(facts, workload, mine)
        for bond in bonds(facts, workload):
            inside = [new for new in mine if new.task.name in bond.tasks]
            if not inside:
                continue
            new = inside[0]
            there = {_domain(facts, node, bond.labels) for task, node in nodes.items() if task in bond.tasks}
            if None in there:
                found = f"{bond.what} would stand on a node outside every {bond.labels[-1]}"
                yield Violation(9, found, new.blame, new.task.name)
            elif len(there) > 1:
                places = ", ".join(sorted("/".join(value) for value in there if value))
                found = f"{bond.what} would stand in {len(there)} domains of {bond.labels[-1]} ({places}), not in one"
                yield Violation(9, found, new.blame, new.task.name)


def _nodes(facts: Facts, workload: Workload, mine: list[Newcomer]) -> dict[str, str]:
    """Where each task of a workload is in the end."""
    nodes = {
        task.name: task.node
        for task in workload.tasks
        if task.state in ACTIVE and task.node is not None and task.name not in facts.evicted
    }
    nodes.update((new.task.name, new.node) for new in mine)
    return nodes


def _domain(facts: Facts, node: str, labels: tuple[str, ...]) -> tuple[str, ...] | None:
    has = facts.nodes[node].labels if node in facts.nodes else {}
    return tuple(has[label] for label in labels) if all(label in has for label in labels) else None


def bonds(facts: Facts, workload: Workload) -> Iterator[Bond]:
    """All that a workload, its groups and its segments require."""
    groups = {group.name: group for group in workload.groups}

    def above(name: str) -> Iterator[str]:
        at: str | None = name
        while at is not None:
            yield at
            at = groups[at].parent

    names = frozenset(task.name for task in workload.tasks)
    yield from _bond(facts, workload.topology, f"the gang {workload.name}", names)
    for group in workload.groups:
        inside = frozenset(task.name for task in workload.tasks if group.name in above(task.group))
        yield from _bond(facts, group.topology, f"group {group.name} of {workload.name}", inside)
        wishes = [groups[name].topology for name in above(group.name)] + [workload.topology]
        wish = next((wish for wish in wishes if wish is not None and wish.segments is not None), None)
        members = [task for task in workload.tasks if task.group == group.name]
        if wish is not None and members:
            yield from _segments(facts, wish, members, workload)


def _bond(
    facts: Facts, wish: TopologyWish | None, what: str, tasks: frozenset[str], level: str | None = None
) -> Iterator[Bond]:
    if wish is None:
        return
    label = level if level is not None else wish.required
    if label is not None:
        levels = next(row.levels for row in facts.snapshot.topologies if row.name == wish.name)
        yield Bond(what, tasks, levels[: levels.index(label) + 1])


def _segments(facts: Facts, wish: TopologyWish, members: list[Task], workload: Workload) -> Iterator[Bond]:
    segments = wish.segments
    if segments is None or segments.required is None:
        return
    members.sort(key=lambda task: (natural(task.name), task.name))
    for number in range(0, len(members), segments.size):
        part = [task.name for task in members[number : number + segments.size]]
        what = f"the segment {part[0]} to {part[-1]} of {workload.name}"
        yield from _bond(facts, wish, what, frozenset(part), segments.required)
