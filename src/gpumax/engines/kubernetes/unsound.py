"""Queues that are there and can't be used, as holds say it: to the policy they aren't there at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gpumax.errors import Fault
from gpumax.model.decision import Decision, Hold
from gpumax.model.snapshot import Snapshot

Faults = Mapping[str, Sequence[Fault]]


def of_unsound_queues(snapshot: Snapshot, decision: Decision, faults: Faults) -> Decision:
    """The decision; whoever waits for a queue whose object is wrong is told that, and what is wrong, instead of that there is no such queue.

    faults: of queues, by name.
    """
    lost = {hold.workload for hold in decision.holds if hold.code == "QueueNotFound"}
    if not lost or not faults:
        return decision
    queues = {row.name: row.queue for row in snapshot.workloads if row.name in lost}
    holds = tuple(_hold(hold, queues.get(hold.workload, ""), faults) for hold in decision.holds)
    return replace(decision, holds=holds)


def _hold(hold: Hold, queue: str, faults: Faults) -> Hold:
    wrong = faults.get(queue) if hold.code == "QueueNotFound" else None
    if not wrong:
        return hold
    message = f"queue {queue} can't be used: {'; '.join(map(str, wrong))}"
    return replace(hold, code="QueueInvalid", message=message)
