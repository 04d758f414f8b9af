"""The one door of the checks."""

from __future__ import annotations

from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot


def verify(snapshot: Snapshot, decision: Decision) -> tuple[Violation, ...]:
    """Every rule that the decision breaks; empty for a sound one."""
    known = {task.name for workload in snapshot.workloads for task in workload.tasks}
    named = [place.task for place in decision.places] + [eviction.task for eviction in decision.evictions]
    return tuple(Violation(0, f"no task {name}", task=name) for name in named if name not in known)
