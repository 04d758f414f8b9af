"""Rule 8 over cycles: whoever was evicted for another doesn't take the room back before that one has it.

A decision frees room; a later cycle places the work that it was freed for. In between its victims have left and wait,
too, and the order of queues may put them first: then they would run, be evicted again, and so on without end.
"""

from __future__ import annotations

from gpumax.model.decision import Decision
from gpumax.model.records import Live


def yielding(live: Live, decision: Decision | None) -> frozenset[str]:
    """Ids of workloads whose room is meant for one that, by the last decision, still waits: it was freed for that one,
    or that one waits for tasks of theirs to leave.
    """
    if decision is None or not any(place.after for place in decision.places):
        return frozenset()
    owner = {task.name: record.name for record, tasks in live.workloads for task in tasks}
    for_whom: dict[str, set[str]] = {record.name: set() for record, _ in live.workloads}
    waits = {owner[place.task] for place in decision.places if place.after and place.task in owner}
    for place in decision.places:
        for task in place.after:
            if task in owner and place.task in owner:
                for_whom[owner[task]].add(owner[place.task])
    for record, tasks in live.workloads:
        made_way = (
            t.beneficiary for t in tasks if t.state in ("pending", "releasing") and t.cause is not None
        )
        for_whom[record.name].update(name for name in made_way if name in waits)
    return frozenset(
        record.id
        for record, _ in live.workloads
        # Two that made way for each other would wait for each other.
        if any(record.name not in for_whom[name] for name in for_whom[record.name])
    )
