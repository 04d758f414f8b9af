"""Snapshots one after the other, most rows of each the very objects of the one before."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, Task, TaskTerm, Workload
from played import crowded

STEPS: Final = 25
NEW: Final = "a"
"""A node that comes before all others."""


def _ends(row: Workload) -> list[Workload]:
    return []


def _leaves(row: Workload) -> list[Workload]:
    return [_each(row, lambda task: replace(task, state="releasing") if task.node else task)]


def _waits(row: Workload) -> list[Workload]:
    idle = _each(row, lambda task: replace(task, state="pending", node=None, devices=()))
    return [replace(idle, started_ms=None)]


def _unnamed(row: Workload) -> list[Workload]:
    return [_each(row, lambda task: replace(task, devices=()))]


def _fixed(row: Workload) -> list[Workload]:
    return [replace(row, preemptible=not row.preemptible)]


def _semi(row: Workload) -> list[Workload]:
    return [replace(row, preemptible="semi")]


def _given(row: Workload) -> list[Workload]:
    return [replace(row, queue="p")]


def _alone(row: Workload) -> list[Workload]:
    away = Affinity(apart=Company((TaskTerm("host", labels=()),)))
    return [_each(row, lambda task: replace(task, affinity=away))]


def _stale(row: Workload) -> list[Workload]:
    """A task of it that waits keeps it below its minimum, for too long."""
    lost = replace(row.tasks[0], name=f"{row.name}-lost", state="pending", node=None, devices=())
    groups = tuple(replace(group, min=2) for group in row.groups)
    return [replace(row, tasks=(*row.tasks, lost), groups=groups, stale_since_ms=1)]


def _timed(row: Workload) -> list[Workload]:
    return [replace(row, max_duration_ms=600_000)]


def _each(row: Workload, change: Callable[[Task], Task]) -> Workload:
    return replace(row, tasks=tuple(map(change, row.tasks)))


CHANGES: Final = (
    _ends,
    _ends,
    _leaves,
    _leaves,
    _waits,
    _unnamed,
    _fixed,
    _semi,
    _given,
    _alone,
    _stale,
    _timed,
)


def _changed(snapshot: Snapshot, first: Snapshot, chance: random.Random) -> Snapshot:
    """One row is another, or gone; or one is again what it was at first; or a node comes or goes."""
    rows = {row.name: row for row in snapshot.workloads}
    nodes = snapshot.nodes
    origin = chance.choice(first.workloads)
    if chance.random() < 0.1:
        nodes = nodes[1:] if nodes[0].name == NEW else (replace(nodes[0], name=NEW, cpu_milli=4_000), *nodes)
    elif rows.get(origin.name) is origin:
        del rows[origin.name]
        rows.update({row.name: row for row in chance.choice(CHANGES)(origin)})
    else:
        rows[origin.name] = origin
    return replace(snapshot, nodes=nodes, workloads=tuple(rows[name] for name in sorted(rows)))


def story(seed: int) -> list[Snapshot]:
    """A crowded cluster, and what becomes of it, change by change."""
    chance = random.Random(seed)
    first = crowded(seed, waiting=6).snapshot
    first = replace(first, nodes=tuple(replace(node, labels={"host": node.name}) for node in first.nodes))
    told = [first]
    while len(told) < STEPS:
        told.append(_changed(told[-1], first, chance))
    return told
