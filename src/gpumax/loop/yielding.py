"""Rule 8 over cycles: whoever was evicted for another doesn't take the room back before that one has it.

A decision frees room; a later cycle places the work that it was freed for. In between its victims have left and wait,
too, and the order of queues may put them first: then they would run, be evicted again, and so on without end.
"""

from __future__ import annotations

from gpumax.model.decision import Decision
from gpumax.model.records import Live


def yielding(live: Live, decision: Decision | None) -> frozenset[str]:
    """Ids of workloads with tasks that went, or are going, for one which by the last decision still waits for its room."""
    if decision is None or not any(place.after for place in decision.places):
        return frozenset()
    owner = {task.name: record.name for record, tasks in live.workloads for task in tasks}
    awaited = {owner.get(place.task) for place in decision.places if place.after}
    made_way = {
        record.name: {
            task.beneficiary
            for task in tasks
            if task.state in ("pending", "releasing") and task.cause is not None
        }
        for record, tasks in live.workloads
    }
    return frozenset(
        record.id
        for record, _ in live.workloads
        # Two that made way for each other would wait for each other.
        if any(record.name not in made_way.get(name, ()) for name in made_way[record.name] & awaited)
    )
