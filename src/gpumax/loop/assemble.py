"""Records made into the nouns that policy decides on. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from msgspec.structs import replace

from gpumax.loop.attained import ladders, stands
from gpumax.loop.lifecycle import may_start
from gpumax.model.node import Device, Node
from gpumax.model.records import FINISHED, Live, TaskRecord, WorkloadRecord
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.spec import GroupSpec
from gpumax.model.workload import HOLDING, Group, Request, Task, TaskState, Workload

NO_GROUP: Final = GroupSpec("", 0, 0, Request(), "")


def assemble(
    live: Live,
    nodes: tuple[Node, ...],
    now_ms: int,
    policy: Policy,
    checkpointed: Mapping[str, int],
    barred: Collection[str] = (),
    promised: Collection[str] = (),
) -> Snapshot:
    """The snapshot of a moment.

    checkpointed: by attempt, when its checkpoint last changed. barred: ids of workloads that are not to be placed now;
    their waiting tasks are gated. promised: names of tasks that the decision before had wait for others to leave. What tasks hold and the engine no longer has is there all the same: nodes that are
    not ready, devices that are not healthy.
    """
    steps = ladders(live.queues)
    workloads = [
        stands(
            workload_of(record, tasks, checkpointed, promised, record.id in barred),
            steps.get(record.spec.project),
            record,
            tasks,
            now_ms,
        )[0]
        for record, tasks in live.workloads
        if record.state not in FINISHED
    ]
    return Snapshot(
        now_ms=now_ms,
        nodes=whole(nodes, live),
        queues=tuple(sorted(live.queues, key=lambda queue: queue.name)),
        workloads=tuple(sorted(workloads, key=lambda workload: workload.name)),
        policy=policy,
    )


def gate(snapshot: Snapshot, names: Collection[str]) -> Snapshot:
    """The same with the waiting tasks of these workloads gated."""
    return replace(
        snapshot,
        workloads=tuple(
            replace(row, tasks=tuple(_gated(task) for task in row.tasks)) if row.name in names else row
            for row in snapshot.workloads
        ),
    )


def _gated(task: Task) -> Task:
    return replace(task, state="gated") if task.state == "pending" else task


def whole(nodes: tuple[Node, ...], live: Live) -> tuple[Node, ...]:
    """The nodes by name, with all that tasks hold, also what is there no longer."""
    found = {node.name: node for node in nodes}
    held: dict[str, set[int]] = {}
    for _, tasks in live.workloads:
        for task in tasks:
            if task.state in HOLDING and task.node is not None:
                held.setdefault(task.node, set()).update(share.index for share in task.devices)
    for name, indexes in held.items():
        node = found.get(name, _gone_node(name))
        lost = indexes - {device.index for device in node.devices}
        if lost or name not in found:
            gone = map(_gone_device, lost)
            devices = sorted((*node.devices, *gone), key=lambda device: device.index)
            found[name] = replace(node, devices=tuple(devices))
    return tuple(found[name] for name in sorted(found))


def _gone_node(name: str) -> Node:
    return Node(name, ready=False)


def _gone_device(index: int) -> Device:
    return Device(index, healthy=False)


def is_gone(device: Device) -> bool:
    """Whether the device is here only because a task holds it: nothing else is known of it."""
    return device == _gone_device(device.index)


def is_gone_node(node: Node) -> bool:
    """Whether the node is here only because tasks hold room on it."""
    return replace(node, devices=()) == _gone_node(node.name)


def workload_of(
    record: WorkloadRecord,
    tasks: tuple[TaskRecord, ...],
    checkpointed: Mapping[str, int],
    promised: Collection[str],
    barred: bool,
) -> Workload:
    """One row; see `assemble`."""
    spec = record.spec
    gated = barred or not may_start(record, tasks)
    groups = {group.name: group for group in spec.groups}
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
        stale_since_ms=record.stale_since_ms,
        max_duration_ms=spec.max_duration_ms,
        groups=tuple(Group(group.name, group.min) for group in spec.groups),
        labels=spec.labels,
        tasks=tuple(
            _task(
                task,
                groups.get(task.group, NO_GROUP),
                "gated" if gated and task.state == "pending" else task.state,
                promised,
            )
            for task in tasks
        ),
    )


def _task(task: TaskRecord, group: GroupSpec, state: TaskState, promised: Collection[str]) -> Task:
    holds = state in HOLDING
    return Task(
        task.name,
        task.group,
        state,
        task.node if holds else None,
        task.devices if holds else (),
        affinity=group.affinity,
        labels=group.labels,
        request=group.request,
        promised=state == "pending" and task.name in promised,
    )
