"""Records made into what the API says of workloads. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gpumax.apps.server.shapes import (
    Amount,
    EventOut,
    HoldOut,
    Number,
    ShareOfDevice,
    Task,
    TaskCount,
    Workload,
    WorkloadDetail,
)
from gpumax.formats.scalars import write_amount, write_number, write_time
from gpumax.formats.workload import dump_spec
from gpumax.loop.launch import checkpoint_dir
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Hold
from gpumax.model.names import natural
from gpumax.model.node import Node
from gpumax.model.records import Event, TaskRecord, WorkloadRecord
from gpumax.model.spec import WorkloadSpec
from gpumax.model.workload import HOLDING, DeviceAsk, DeviceShare
from gpumax.units import MILLI

Tasks = Sequence[TaskRecord]


def workload(record: WorkloadRecord, tasks: Tasks, nodes: Iterable[Node], now_ms: int) -> Workload:
    """A row of a list. nodes: of which GPUs a request by memory takes a part."""
    states = Counter(task.state for task in tasks)
    count = TaskCount(running=states["running"], done=states["succeeded"], total=len(tasks))
    return Workload(**_fields(record, tasks, nodes, now_ms), tasks=count)


def detail(
    record: WorkloadRecord, tasks: Tasks, nodes: Iterable[Node], now_ms: int, data: Path
) -> WorkloadDetail:
    """All about one workload."""
    return WorkloadDetail(
        **_fields(record, tasks, nodes, now_ms),
        tasks=[_task(task) for task in tasks],
        spec=dump_spec(record.spec),
        checkpoint_dir=checkpoint_dir(record, data),
    )


def _fields(record: WorkloadRecord, tasks: Tasks, nodes: Iterable[Node], now_ms: int) -> dict[str, Any]:
    spec = record.spec
    holding = [task for task in tasks if task.state in HOLDING]
    held = {task.index: sum(share.milli for share in task.devices) for task in holding}
    so_far = sum(
        held[task.index] * max(0, now_ms - task.started_ms) for task in holding if task.started_ms is not None
    )
    return {
        "name": record.name,
        "id": record.id,
        "project": spec.project,
        "kind": spec.kind,
        "priority": spec.priority,
        "preemptible": spec.preemptible,
        "state": record.state,
        "wish": record.wish,
        "gpu": _plain(sum(held.values()) if holding else asked_milli(spec, nodes)),
        "submitted": write_time(record.submitted_ms),
        "started": moment(record.started_ms),
        "ended": moment(record.ended_ms),
        "runs": record.runs,
        "evictions": record.evictions,
        "failures": record.failures,
        "nodes": sorted({task.node for task in holding if task.node}, key=natural),
        "hold": hold(record.hold),
        "reason": reason_of(record, tasks),
        "device_seconds": _plain((record.device_ms + so_far) // 1000),
    }


def _task(task: TaskRecord) -> Task:
    return Task(
        index=task.index,
        name=task.name,
        group=task.group,
        state=task.state,
        node=task.node,
        devices=devices(task.devices),
        started=moment(task.started_ms),
        ended=moment(task.ended_ms),
        exit_code=task.exit_code,
        reason=task.reason,
        cause=task.cause,
        for_=task.beneficiary,
    )


def asked_milli(spec: WorkloadSpec, nodes: Iterable[Node]) -> int:
    """Milli-devices that all tasks of a workload ask for together, of each the first alternative."""
    asks = [(group.request.gpu[0], group.max) for group in spec.groups if group.request.gpu]
    if not any(ask.memory_mib for ask, _ in asks):
        return sum(count * ask.devices * ask.milli for ask, count in asks)
    smallest = min(
        (
            device.memory_mib
            for node in nodes
            for device in node.devices
            if device.healthy and device.memory_mib
        ),
        default=0,
    )
    return sum(count * ask.devices * _part(ask, smallest) for ask, count in asks)


def _part(ask: DeviceAsk, smallest_mib: int) -> int:
    """Of one device, as policy counts it until it is placed: the part of the smallest device there is."""
    if not ask.memory_mib or not smallest_mib:
        return ask.milli
    return min(MILLI, -(-ask.memory_mib * MILLI // smallest_mib))


def reason_of(record: WorkloadRecord, tasks: Tasks) -> str:
    """Why it is in its state: what the engine has against its start before all else; where nothing is said of the whole, why one of its tasks that wait couldn't start or go on."""
    if record.objection and record.state in ("pending", "running"):
        return record.objection
    if record.reason or record.state != "pending" or record.hold is not None:
        return record.reason
    return next((task.reason for task in tasks if task.state == "pending" and task.reason), "")


def hold(held: Hold | None) -> HoldOut | None:
    """A hold with its amounts as files carry them."""
    if held is None:
        return None
    return HoldOut(
        code=held.code,
        message=held.message,
        nodes=dict(sorted(held.nodes.items())),
        short={name: _short(name, amount) for name, amount in sorted(held.short.items())},
        forecast=moment(held.forecast_ms),
    )


def _short(name: str, amount: int) -> Amount:
    resource = next((resource for resource in RESOURCES if resource == name), None)
    return amount if resource is None else write_amount(resource, amount)


def devices(shares: Iterable[DeviceShare]) -> list[ShareOfDevice]:
    """What a task holds of devices."""
    return [ShareOfDevice(index=share.index, milli=share.milli) for share in shares]


def event(happened: Event) -> EventOut:
    """An event."""
    return EventOut(
        seq=happened.seq,
        at=write_time(happened.at_ms),
        kind=happened.kind,
        workload=happened.workload,
        task=happened.task,
        message=happened.message,
    )


def moment(ms: int | None) -> str | None:
    """A time, where there is one."""
    return None if ms is None else write_time(ms)


def _plain(milli: int) -> Number:
    number = write_number(milli)
    return float(number) if isinstance(number, str) else number
