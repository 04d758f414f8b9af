"""What would follow if more were submitted. Pure, on copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gpumax.loop.assemble import assemble
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec


class Ground(msgspec.Struct, frozen=True):
    """What a cycle left: the records, and what they are decided with."""

    live: Live
    nodes: tuple[Node, ...]
    policy: Policy
    checkpointed: Mapping[str, int]
    barred: frozenset[str]


def imagine(ground: Ground, specs: Sequence[WorkloadSpec], queues: Sequence[Queue], now_ms: int) -> Snapshot:
    """The snapshot as it would be with these workloads waiting and these queues set."""
    tree = {queue.name: queue for queue in (*ground.live.queues, *queues)}
    new = tuple(_submitted(spec, number, now_ms) for number, spec in enumerate(specs))
    live = Live(tuple(tree.values()), (*ground.live.workloads, *new))
    return assemble(live, ground.nodes, now_ms, ground.policy, ground.checkpointed, ground.barred)


def _submitted(spec: WorkloadSpec, number: int, now_ms: int) -> tuple[WorkloadRecord, tuple[TaskRecord, ...]]:
    record = WorkloadRecord(f"what-if-{number}", spec, now_ms)
    groups = [group.name for group in spec.groups for _ in range(group.max)]
    tasks = tuple(
        TaskRecord(record.id, index, f"{spec.name}-{index}", group) for index, group in enumerate(groups)
    )
    return record, tasks
