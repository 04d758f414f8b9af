"""When time alone may change a decision."""

from __future__ import annotations

from collections.abc import Mapping

from gpumax.model.queue import Queue
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE


def next_decision_ms(snapshot: Snapshot) -> int | None:
    """The next moment at which a gang below its minimum, or running work whose room others wait for, loses protection, or
    waiting work gets a reservation.
    """
    moments = (_grace_ends_ms(snapshot), _runtime_ends_ms(snapshot), _waited_ms(snapshot))
    return min((moment for moment in moments if moment is not None), default=None)


def _grace_ends_ms(snapshot: Snapshot) -> int | None:
    """When the grace of a gang below its minimum is over."""
    grace_ms = snapshot.policy.stale_grace_ms
    ends = (w.stale_since_ms + grace_ms for w in snapshot.workloads if w.stale_since_ms is not None)
    return min((moment for moment in ends if moment > snapshot.now_ms), default=None)


def _runtime_ends_ms(snapshot: Snapshot) -> int | None:
    """When running work ends a minimum runtime, where work waits that might take its room."""
    queues = {queue.name: queue for queue in snapshot.queues}
    runtimes = {name: _runtimes(queues, name) for name in queues}
    if not any(runtimes.values()):
        return None
    states = {task.state for workload in snapshot.workloads for task in workload.tasks}
    if "pending" not in states:
        return None
    moments = []
    for workload in snapshot.workloads:
        if workload.started_ms is None or workload.preemptible is not True:  # extras are not protected
            continue
        if not any(task.state in ACTIVE for task in workload.tasks):
            continue
        moments += [workload.started_ms + runtime for runtime in runtimes.get(workload.queue, ())]
    return min((moment for moment in moments if moment > snapshot.now_ms), default=None)


def _waited_ms(snapshot: Snapshot) -> int | None:
    """When waiting work has waited for longer than `reserve_after`; only ends that are known give reservations."""
    timed = (work for work in snapshot.workloads if work.max_duration_ms is not None)
    if not any(task.state in ACTIVE for work in timed for task in work.tasks):
        return None
    long_ms = snapshot.policy.reserve_after_ms + 1
    waiting = (w for w in snapshot.workloads if any(task.state == "pending" for task in w.tasks))
    moments = (work.submitted_ms + long_ms for work in waiting)
    return min((moment for moment in moments if moment > snapshot.now_ms), default=None)


def _runtimes(queues: Mapping[str, Queue], name: str) -> frozenset[int]:
    """All minimum runtimes that may protect work of a queue: which one does, depends on who asks."""
    found = set()
    queue = queues.get(name)
    preempt_ms: int | None = None  # the nearest that is set
    while queue is not None:
        if preempt_ms is None and queue.preempt_min_runtime_ms is not None:
            preempt_ms = queue.preempt_min_runtime_ms
            found.add(preempt_ms)
        if queue.reclaim_min_runtime_ms is not None:
            found.add(queue.reclaim_min_runtime_ms)
        queue = queues.get(queue.parent) if queue.parent is not None else None
    return frozenset(found)
