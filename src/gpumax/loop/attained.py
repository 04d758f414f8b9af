"""Work that has had much makes way for work that has had little: what `demote` and `fresh` of a queue mean for a workload. Pure.

Most work is short, and nobody knows beforehand which. What a workload has held so far, in GPU hours, is the best guess there is
of what it will go on to hold (least attained service, in discrete steps: Tiresias, NSDI 2019). So the snapshot has it with a
lower priority, step by step, and until the first step in another queue, where its own has one for fresh work. The policy knows
nothing of it, and no rule is another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from msgspec.structs import replace

from gpumax.model.queue import Queue
from gpumax.model.records import TaskRecord, WorkloadRecord
from gpumax.model.workload import HOLDING, Workload
from gpumax.units import format_count

HOUR_MS: Final = 3_600_000


class Ladder(NamedTuple):
    """Of a queue. steps: in milli-device-milliseconds, rising; fresh: the queue in which work counts until the first of them."""

    steps: tuple[int, ...]
    fresh: str | None


def ladders(queues: Sequence[Queue]) -> dict[str, Ladder]:
    """By queue; those that demote nothing are not there."""
    if not any(queue.demote for queue in queues):
        return {}
    tree = {queue.name: queue for queue in queues}
    parents = {queue.parent for queue in queues}
    found = {}
    for queue in queues:
        above = _above(queue, tree)
        steps = next((row.demote for row in above if row.demote is not None), ())
        fresh = next((row.fresh for row in above if row.fresh is not None), None)
        if steps:
            # Work goes to leaves only; a queue that is gone takes none.
            there = fresh in tree and fresh not in parents
            found[queue.name] = Ladder(tuple(step * HOUR_MS for step in steps), fresh if there else None)
    return found


def _above(queue: Queue, tree: Mapping[str, Queue]) -> list[Queue]:
    """The queue, and all above it."""
    path = [queue]
    while (parent := tree.get(path[-1].parent or "")) is not None and parent not in path:
        path.append(parent)
    return path


def stands(
    workload: Workload,
    ladder: Ladder | None,
    record: WorkloadRecord,
    tasks: Sequence[TaskRecord],
    now_ms: int,
) -> tuple[Workload, int | None]:
    """`stepped`, by what its records say that it has held."""
    if ladder is None:
        return workload, None
    return stepped(workload, ladder, *attained(record, tasks, now_ms), now_ms)


def stepped(
    workload: Workload, ladder: Ladder | None, had: int, rate: int, now_ms: int
) -> tuple[Workload, int | None]:
    """The workload with the queue and the priority that it has now, and until when; None for as long as its tasks stay as they are.

    had: milli-device-milliseconds that it has held; rate: milli-devices that it holds. Only work that may be evicted counts elsewhere:
    other work would have to fit the quota of both queues.
    """
    if ladder is None:
        return workload, None
    down = sum(step <= had for step in ladder.steps)
    until_ms = None
    if rate and down < len(ladder.steps):
        until_ms = now_ms - (had - ladder.steps[down]) // rate
    queue = workload.queue
    if not down and ladder.fresh is not None and workload.preemptible is True:
        queue = ladder.fresh
    return replace(workload, queue=queue, priority=workload.priority - down), until_ms


def place_in_line(workload: Workload, record: WorkloadRecord, had: int) -> str:
    """Where it stands for what it has held, in a sentence; empty where that makes no difference."""
    hours = format_count(had // HOUR_MS)
    if workload.queue != record.spec.project:
        return f"It has held {hours} GPU hours, so it is fresh, and counts in queue {workload.queue}."
    down = record.spec.priority - workload.priority
    if not down:
        return ""
    return f"It has held {hours} GPU hours, so its priority is {workload.priority} instead of {record.spec.priority}."


def attained(record: WorkloadRecord, tasks: Sequence[TaskRecord], now_ms: int) -> tuple[int, int]:
    """What it has held so far, in milli-device-milliseconds, and how many milli-devices it holds now."""
    had, rate = record.device_ms, 0
    for task in tasks:
        if task.state in HOLDING and task.started_ms is not None:
            milli = sum(share.milli for share in task.devices)
            had += milli * max(0, now_ms - task.started_ms)
            rate += milli
    return had, rate
