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
    kept = tuple(eviction for eviction in decision.evictions if eviction.beneficiary not in guilty)
    stay = {eviction.task for eviction in decision.evictions} - {eviction.task for eviction in kept}
    places = tuple(place for place in decision.places if owner.get(place.task, "") not in guilty)
    # Their turn comes in the next round: a place that waits for somebody who stays breaks a rule by itself.
    return (
        replace(decision, places=places, evictions=kept)
        if stay or places
        else replace(decision, places=(), evictions=kept)
    )
