"""What is left of a decision when all that belongs to a workload that broke a rule is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from gpumax.loop.verify.check import broken
from gpumax.loop.verify.facts import Facts
from gpumax.loop.verify.violation import Violation
from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot

MOST_ROUNDS: Final = 20
"""After so many rounds in which dropping some made others break a rule, nothing is carried out."""


def sound(snapshot: Snapshot, decision: Decision, violations: Sequence[Violation]) -> Decision:
    """The part of a decision that breaks no rule by itself: without the places of guilty workloads, without the
    evictions for them, and without whoever waits for tasks that then stay.
    """
    if not violations:
        return decision
    owner = {task.name: workload.name for workload in snapshot.workloads for task in workload.tasks}
    # Who has no answer is no reason to take anything away from others.
    guilty = {found.workload for found in broken(Facts(snapshot, decision))}
    for _ in range(MOST_ROUNDS):
        if not guilty:
            return decision
        if "" in guilty:
            break
        decision = _without(decision, guilty, owner)
        guilty = {found.workload for found in broken(Facts(snapshot, decision))}
    return replace(decision, places=(), evictions=())


def _without(decision: Decision, guilty: set[str], owner: dict[str, str]) -> Decision:
    """Without their places and the evictions for them. Whoever waits for somebody who then stays is next."""
    return replace(
        decision,
        places=tuple(place for place in decision.places if owner.get(place.task, "") not in guilty),
        evictions=tuple(
            row for row in decision.evictions if (row.beneficiary or owner.get(row.task, "")) not in guilty
        ),
    )
