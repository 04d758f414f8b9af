"""A failing cluster made smaller row by row: quicker than shrinking the draws, and shorter to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from msgspec.structs import replace

from gpumax.model.snapshot import Snapshot

T = TypeVar("T")


def reduced(snapshot: Snapshot, fails: Callable[[Snapshot], bool]) -> Snapshot:
    """The smallest cluster on the way down that still fails."""
    smaller = True
    while smaller:
        smaller = False
        for candidate in _smaller(snapshot):
            if _fails(candidate, fails):
                snapshot, smaller = candidate, True
                break
    return snapshot


def _fails(candidate: Snapshot, fails: Callable[[Snapshot], bool]) -> bool:
    try:
        return fails(candidate)
    except (KeyError, IndexError, ValueError):
        return False  # a row that others need was taken away


def _smaller(snapshot: Snapshot) -> Iterator[Snapshot]:
    for index in range(len(snapshot.workloads)):
        yield replace(snapshot, workloads=_without(snapshot.workloads, index))
    used = {task.node for workload in snapshot.workloads for task in workload.tasks}
    for index, node in enumerate(snapshot.nodes):
        if node.name not in used:
            yield replace(snapshot, nodes=_without(snapshot.nodes, index))
    needed = {workload.queue for workload in snapshot.workloads} | {queue.parent for queue in snapshot.queues}
    for index, queue in enumerate(snapshot.queues):
        if queue.name not in needed:
            yield replace(snapshot, queues=_without(snapshot.queues, index))
    for index, workload in enumerate(snapshot.workloads):
        for at, task in enumerate(workload.tasks):
            members = [other for other in workload.tasks if other.group == task.group]
            least = next(group.min for group in workload.groups if group.name == task.group)
            if len(members) > least:
                fewer = replace(workload, tasks=_without(workload.tasks, at))
                rows = (*snapshot.workloads[:index], fewer, *snapshot.workloads[index + 1 :])
                yield replace(snapshot, workloads=rows)


def _without(rows: tuple[T, ...], index: int) -> tuple[T, ...]:
    return (*rows[:index], *rows[index + 1 :])
