"""One decision after the other, on rows most of which are the very objects of the snapshot before."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from typing import Final

import pytest
from msgspec.structs import replace

from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Affinity, Company, Task, TaskTerm, Workload
from gpumax.policy.decide import decide
from gpumax.policy.forecast import NONE
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


def _each(row: Workload, change: Callable[[Task], Task]) -> Workload:
    return replace(row, tasks=tuple(map(change, row.tasks)))


CHANGES: Final = (_ends, _ends, _leaves, _leaves, _waits, _unnamed, _fixed, _semi, _given, _alone)


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


@pytest.mark.parametrize("seed", range(12))
def test_what_was_decided_before_changes_nothing(seed: int) -> None:
    """A decision rests on its snapshot alone: rows known from the one before count as if they were seen for the first time."""
    chance = random.Random(seed)
    first = crowded(seed, waiting=6).snapshot
    first = replace(first, nodes=tuple(replace(node, labels={"host": node.name}) for node in first.nodes))
    story = [first]
    while len(story) < STEPS:
        story.append(_changed(story[-1], first, chance))
    followed = [decide(snapshot, effort=NONE) for snapshot in story]
    assert followed == [decide(deepcopy(snapshot), effort=NONE) for snapshot in story]
