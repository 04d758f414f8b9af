"""What would follow if more were submitted. Pure, on copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gpumax.loop.assemble import assemble
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import Live
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import WorkloadSpec
from gpumax.ports.store_rules import begin


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
    new = tuple(begin(spec, f"what-if-{number}", now_ms)[:2] for number, spec in enumerate(specs))
    live = Live(tuple(tree.values()), (*ground.live.workloads, *new))
    return assemble(live, ground.nodes, now_ms, ground.policy, ground.checkpointed, ground.barred)
