"""What a decision came to, queue by queue and workload by workload: for the status of objects, and for metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from gpumax.model.amounts import RESOURCES, Amounts
from gpumax.model.decision import Decision, HoldCode, Share
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Workload
from gpumax.words import plural

FEW: Final = 16
"""Where more than one of so many rows is looked up, all are gone through."""


class Wait(NamedTuple):
    """A workload that waits, and why."""

    workload: str
    code: HoldCode
    message: str


class Tally(NamedTuple):
    """One queue. waiting: what its work that waits asks for; waits: that work, with what waits below it."""

    quota: Amounts
    share: Amounts
    allocated: Amounts
    waiting: Amounts
    waits: tuple[Wait, ...] = ()


def waits(snapshot: Snapshot, decision: Decision) -> tuple[Wait, ...]:
    """All who wait, by name: those without a place, and those whose place others have yet to leave."""
    found = {hold.workload: Wait(hold.workload, hold.code, hold.message) for hold in decision.holds}
    kept = {place.task: place.after for place in decision.places if place.after}
    for workload in snapshot.workloads if kept else ():
        others = {name for task in workload.tasks for name in kept.get(task.name, ())}
        if others:
            words = f"has a place as soon as {plural(len(others), 'task')} that make way for it have left"
            found[workload.name] = Wait(workload.name, "WaitsForEvictions", words)
    return tuple(found[name] for name in sorted(found))


def find(workloads: Sequence[Workload], names: Collection[str]) -> dict[str, Workload]:
    """The workloads of these names, by name; those that aren't there are left out. All stand in the order of their names, so few of many cost little."""
    if FEW * len(names) > len(workloads):
        wanted = frozenset(names)
        return {row.name: row for row in workloads if row.name in wanted}
    found = {}
    for name in names:
        at = bisect_left(workloads, name, key=lambda row: row.name)
        if at < len(workloads) and workloads[at].name == name:
            found[name] = workloads[at]
    return found


def tallies(snapshot: Snapshot, decision: Decision) -> dict[str, Tally]:
    """Of each queue, as the decision found it."""
    shares: dict[str, dict[str, Share]] = {}
    for row in decision.shares:
        shares.setdefault(row.queue, {})[row.resource] = row
    queues = {queue.name: queue for queue in snapshot.queues}
    waiting = waits(snapshot, decision)
    found = find(snapshot.workloads, [wait.workload for wait in waiting])
    rows: dict[str, list[Wait]] = {name: [] for name in shares}
    for wait in waiting:
        for name in _upwards(found[wait.workload].queue, queues):
            rows[name].append(wait)
    return {name: _tally(own, tuple(rows[name])) for name, own in shares.items()}


def _tally(own: Mapping[str, Share], found: tuple[Wait, ...]) -> Tally:
    rows = [own[resource] for resource in RESOURCES]
    return Tally(
        Amounts(*(row.quota for row in rows)),
        Amounts(*(row.share for row in rows)),
        Amounts(*(row.allocated for row in rows)),
        Amounts(*(max(row.demand - row.allocated, 0) for row in rows)),
        found,
    )


def _upwards(name: str, queues: Mapping[str, Queue]) -> Iterator[str]:
    """The queue and all above it; none where there is no such queue."""
    queue = queues.get(name)
    while queue is not None:
        yield queue.name
        queue = queues.get(queue.parent or "")
