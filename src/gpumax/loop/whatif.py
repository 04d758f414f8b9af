"""What would follow if more were submitted. Pure, on copies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from gpumax.loop.assemble import assemble
from gpumax.model.decision import Decision
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec
from gpumax.policy.decide import decide
from gpumax.ports.store_rules import begin


class Ground(msgspec.Struct, frozen=True):
    """What a cycle left: the records, and what they are decided with."""

    live: Live
    nodes: tuple[Node, ...]
    policy: Policy
    checkpointed: Mapping[str, int]
    barred: frozenset[str]
    promised: frozenset[str]


class Imagined(NamedTuple):
    """What would follow. objections: by name of a new workload, what the engine says against its start; only where it does."""

    snapshot: Snapshot
    decision: Decision
    objections: dict[str, str]


def imagine(
    ground: Ground,
    specs: Sequence[WorkloadSpec],
    queues: Sequence[Queue],
    now_ms: int,
    objection: Callable[[WorkloadRecord, tuple[TaskRecord, ...]], str],
) -> Imagined:
    """What would follow with these workloads waiting and these queues set."""
    tree = {queue.name: queue for queue in (*ground.live.queues, *queues)}
    new = tuple(begin(spec, f"what-if-{number}", now_ms)[:2] for number, spec in enumerate(specs))
    live = Live(tuple(tree.values()), (*ground.live.workloads, *new))
    against = {record.id: words for record, tasks in new if (words := objection(record, tasks))}
    barred = ground.barred | against.keys()
    snapshot = assemble(
        live, ground.nodes, now_ms, ground.policy, ground.checkpointed, barred, ground.promised
    )
    objections = {record.name: against[record.id] for record, _ in new if record.id in against}
    return Imagined(snapshot, decide(snapshot), objections)
