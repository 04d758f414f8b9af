"""What a decision promised: rooms that others have yet to leave.

A decision frees room; a later cycle places the work that it was freed for. In between its victims have left and wait,
too, and shares are others than they were: without a promise those ahead of it would take the room, more would have to
leave, and so on without end.
"""

from __future__ import annotations

from gpumax.model.decision import Decision
from gpumax.model.records import Live


def promised(live: Live, decision: Decision | None) -> frozenset[str]:
    """Names of the tasks that by the last decision start when others have left.

    Where it isn't known, after a restart: those of all workloads for which tasks of others go or went.
    """
    if decision is not None:
        return frozenset(place.task for place in decision.places if place.after)
    owed = {
        task.beneficiary
        for _, tasks in live.workloads
        for task in tasks
        if task.state in ("pending", "releasing") and task.cause is not None
    }
    return frozenset(task.name for record, tasks in live.workloads if record.name in owed for task in tasks)
