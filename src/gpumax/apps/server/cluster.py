"""Nodes, GPUs and queues as the API says them: what there is, who holds it, what is free. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gpumax.apps.server.doubts import doubts
from gpumax.apps.server.shapes import (
    Amount,
    ByResource,
    Gpu,
    Holder,
    NodeOut,
    Part,
    QueueOut,
    QueueShare,
    TaintOut,
)
from gpumax.formats.queues import dump_queue
from gpumax.formats.scalars import write_amount, write_duration, write_number
from gpumax.loop.assemble import is_gone, is_gone_node
from gpumax.model.amounts import RESOURCES, Amounts
from gpumax.model.decision import Share
from gpumax.model.names import natural
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.records import Live, TaskRecord
from gpumax.model.workload import HOLDING, Request, Task
from gpumax.units import MILLI, format_memory

Holding = tuple[str, TaskRecord | Task, Request]
"""A task that holds room, with its workload's name before it and what it asked for behind it."""


def nodes(all_nodes: Sequence[Node], held: Iterable[Holding]) -> list[NodeOut]:
    """Every node, by name."""
    there: dict[str, list[Holding]] = {}
    for row in held:
        there.setdefault(row[1].node or "", []).append(row)
    ordered = sorted(all_nodes, key=lambda node: natural(node.name))
    return [_node(node, there.get(node.name, [])) for node in ordered]


def _node(node: Node, held: list[Holding]) -> NodeOut:
    used: Counter[int] = Counter()
    for _, task, _ in held:
        for share in task.devices:
            used[share.index] += share.milli
    there = [device for device in node.devices if not is_gone(device)]
    healthy = [device for device in there if device.healthy]
    free = sum(max(0, MILLI - used[device.index]) for device in healthy)
    cpu = node.cpu_milli - sum(request.cpu_milli for _, _, request in held)
    memory = node.memory_mib - sum(request.memory_mib for _, _, request in held)
    return NodeOut(
        name=node.name,
        pool=node.pool,
        state="not ready" if not node.ready else "cordoned" if node.cordoned else "ready",
        gpu=Part(total=len(there), free=write_number(free)),
        unhealthy=len(there) - len(healthy),
        cpu=Part(total=write_number(node.cpu_milli), free=write_number(max(0, cpu))),
        memory=Part(total=format_memory(node.memory_mib), free=format_memory(max(0, memory))),
        tasks=len(held),
        labels=dict(sorted(node.labels.items())),
        taints=[TaintOut(key=taint.key, value=taint.value, effect=taint.effect) for taint in node.taints],
    )


def gpus(all_nodes: Sequence[Node], held: Iterable[Holding], *, virtual: bool) -> list[Gpu]:
    """Every GPU, by node and index, with who holds it."""
    holders: dict[tuple[str, int], list[Holder]] = {}
    for workload, task, _ in held:
        for share in task.devices:
            row = Holder(workload=workload, task=task.name, milli=share.milli)
            holders.setdefault((task.node or "", share.index), []).append(row)
    found = []
    for node in sorted(all_nodes, key=lambda node: natural(node.name)):
        for device in node.devices:
            rows = sorted(holders.get((node.name, device.index), []), key=lambda row: natural(row.task))
            found.append(
                Gpu(
                    node=node.name,
                    index=device.index,
                    model=device.model,
                    memory="" if is_gone(device) else format_memory(device.memory_mib),
                    healthy=device.healthy,
                    gone=is_gone(device),
                    used=sum(row.milli for row in rows) / MILLI,
                    virtual=virtual and not is_gone(device),
                    holders=rows,
                )
            )
    return found


def count(all_nodes: Sequence[Node]) -> tuple[int, int]:
    """How many nodes and GPUs there are, without those that are gone."""
    there = [node for node in all_nodes if not is_gone_node(node)]
    return len(there), sum(not is_gone(device) for node in there for device in node.devices)


def holding(live: Live) -> Iterator[Holding]:
    """Of records, the tasks that hold room."""
    for record, tasks in live.workloads:
        requests = {group.name: group.request for group in record.spec.groups}
        for task in tasks:
            if task.state in HOLDING:
                yield record.name, task, requests[task.group]


Counts = Mapping[tuple[str, str], int]
"""How many workloads there are, by their queue and their state."""


def counts(live: Live) -> Counter[tuple[str, str]]:
    """Of records that aren't finished."""
    return Counter((record.spec.project, record.state) for record, _ in live.workloads)


def queues(all_queues: Sequence[Queue], shares: Sequence[Share], counts: Counts) -> list[QueueOut]:
    """Every queue, by name."""
    by_queue: dict[str, list[Share]] = {}
    for row in shares:
        by_queue.setdefault(row.queue, []).append(row)
    return [
        QueueOut(
            name=queue.name,
            parent=queue.parent,
            priority=queue.priority,
            quota=_by_resource(queue.quota),
            limit=_by_resource(queue.limit),
            weight=ByResource(**{name: write_number(getattr(queue.weight, name)) for name in RESOURCES}),
            preempt_min_runtime=_duration(queue.preempt_min_runtime_ms),
            reclaim_min_runtime=_duration(queue.reclaim_min_runtime_ms),
            usage=dump_queue(queue).get("usage"),
            demote=dump_queue(queue).get("demote"),
            fresh=queue.fresh,
            shares=[share(row) for row in by_queue.get(queue.name, ())],
            waiting=counts.get((queue.name, "pending"), 0),
            running=counts.get((queue.name, "running"), 0),
            doubts=doubts(queue, all_queues),
        )
        for queue in sorted(all_queues, key=lambda queue: natural(queue.name))
    ]


def share(row: Share) -> QueueShare:
    """A queue's row for one resource."""
    return QueueShare(
        resource=row.resource,
        quota=write_amount(row.resource, row.quota),
        share=write_amount(row.resource, row.share),
        allocated=write_amount(row.resource, row.allocated),
        demand=write_amount(row.resource, row.demand),
    )


def _by_resource(amounts: Amounts) -> ByResource:
    gpu, cpu, memory = (
        write_amount(name, amount) for name, amount in zip(RESOURCES, amounts.vector(), strict=True)
    )
    return ByResource(gpu=gpu, cpu=cpu, memory=memory)


def _duration(ms: int | None) -> Amount | None:
    return None if ms is None else write_duration(ms)
