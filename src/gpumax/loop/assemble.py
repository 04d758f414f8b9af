"""Records made into the nouns that policy decides on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from gpumax.loop.lifecycle import may_start
from gpumax.model.node import Node
from gpumax.model.records import FINISHED, Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import HOLDING, Group, Request, Task, Workload

NO_REQUEST: Final = Request()


def assemble(
    live: Live,
    nodes: tuple[Node, ...],
    now_ms: int,
    policy: Policy,
    checkpointed: Mapping[str, int],
    barred: Collection[str] = (),
) -> Snapshot:
    """The snapshot of a moment.

    checkpointed: by attempt, when its checkpoint last changed. barred: ids of workloads that are not to be placed now;
    their waiting tasks are gated. Tasks on a node that is not in `nodes` hold room on one that is not ready.
    """
    workloads = [
        _workload(record, tasks, checkpointed, record.id in barred)
        for record, tasks in live.workloads
        if record.state not in FINISHED
    ]
    known = {node.name for node in nodes}
    lost = {task.node for _, tasks in live.workloads for task in tasks if task.state in HOLDING and task.node}
    lost -= known
    return Snapshot(
        now_ms=now_ms,
        nodes=tuple(
            sorted((*nodes, *(Node(name, ready=False) for name in lost)), key=lambda node: node.name)
        ),
        queues=tuple(sorted(live.queues, key=lambda queue: queue.name)),
        workloads=tuple(sorted(workloads, key=lambda workload: workload.name)),
        policy=policy,
    )


def _workload(
    record: WorkloadRecord, tasks: tuple[TaskRecord, ...], checkpointed: Mapping[str, int], barred: bool
) -> Workload:
    spec = record.spec
    gated = barred or not may_start(record, tasks)
    requests = {group.name: group.request for group in spec.groups}
    saved = [
        checkpointed[task.attempt]
        for task in tasks
        if task.attempt is not None and task.attempt in checkpointed and task.state in HOLDING
    ]  # fmt: skip
    return Workload(
        name=spec.name,
        queue=spec.project,
        priority=spec.priority,
        preemptible=spec.preemptible,
        submitted_ms=record.submitted_ms,
        started_ms=record.started_ms,
        # Its tasks share one checkpoint directory: the latest write is what a restart finds.
        checkpointed_ms=max(saved, default=None),
        max_duration_ms=spec.max_duration_ms,
        groups=tuple(Group(group.name, group.min) for group in spec.groups),
        tasks=tuple(_task(task, requests.get(task.group, NO_REQUEST), gated) for task in tasks),
    )


def _task(task: TaskRecord, request: Request, gated: bool) -> Task:
    if task.state in HOLDING:
        return Task(task.name, task.group, task.state, task.node, task.devices, request=request)
    state = "gated" if gated and task.state == "pending" else task.state
    return Task(task.name, task.group, state, request=request)
