"""Stale: a gang that has been below its minimum for longer than its grace gives everything back."""

from __future__ import annotations

from collections import Counter

from gpumax.model.decision import Eviction
from gpumax.model.workload import ACTIVE, Task, Workload
from gpumax.policy.world import World


def stale(world: World) -> None:
    """Evict what is left of such gangs, non-preemptible ones too: it holds room and gets nothing done.

    Judged after all other passes: who has just been placed counts. What it frees, a later decision gives out.
    """
    snapshot = world.snapshot
    # Without a grace also those who have only now come to be below it.
    some = world.census.stale() if snapshot.policy.stale_grace_ms > 0 else snapshot.workloads
    overdue = [workload for workload in some if _overdue(world, workload)]
    # The longest below its minimum goes first, where max_evictions doesn't let all of them go.
    overdue.sort(key=lambda workload: (workload.stale_since_ms or 0, workload.name))
    for workload in overdue:
        left = [task for task in workload.tasks if task.state in ACTIVE and task.name not in world.evicted]
        bound = snapshot.policy.max_evictions
        if bound and len(world.evictions) + len(left) > bound:
            continue
        world.evictions += [Eviction(task.name, "stale", "") for task in left]
        world.evicted.update(task.name for task in left)


def _overdue(world: World, workload: Workload) -> bool:
    now_ms = world.snapshot.now_ms
    since_ms = now_ms if workload.stale_since_ms is None else workload.stale_since_ms
    if now_ms - since_ms < world.snapshot.policy.stale_grace_ms:
        return False
    if workload.name in world.ended or not any(task.state in ACTIVE for task in workload.tasks):
        return False
    if any(task.state == "succeeded" for task in workload.tasks):
        return False
    return _below(world, workload)


def _below(world: World, workload: Workload) -> bool:
    """Whether a group has fewer tasks than its minimum when the decision is carried out."""
    placed = world.placed.get(workload.name)
    coming = {spot.want.task.name for spot in placed.placed} if placed is not None else set()
    moved = {row.task for row in world.evictions if row.restarts_on is not None}

    def here(task: Task) -> bool:
        stays = task.state in ACTIVE and (task.name not in world.evicted or task.name in moved)
        return stays or task.name in coming

    counts = Counter(task.group for task in workload.tasks if here(task))
    short = any(counts[group.name] < group.min for group in workload.groups)
    # Nobody goes twice: one of whom a part is moved is judged when it has arrived.
    return short and not any(task.name in moved for task in workload.tasks)
