"""Devices that a snapshot leaves out: the lowest that fit, in the order of workloads and tasks."""

from __future__ import annotations

from gpumax.loop.verify.devices import need
from gpumax.model.node import Node
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceShare, Task
from gpumax.units import MILLI


def guess(snapshot: Snapshot) -> dict[str, tuple[DeviceShare, ...]]:
    """By task: what tasks hold that ask for devices and name none."""
    unsaid: list[Task] = []
    held: dict[tuple[str | None, int], int] = {}
    for workload in snapshot.workloads:
        for task in workload.tasks:
            if task.state in HOLDING:
                if task.request.gpu and not task.devices:
                    unsaid.append(task)
                for share in task.devices:
                    key = (task.node, share.index)
                    held[key] = held.get(key, 0) + share.milli
    if not unsaid:
        return {}
    nodes = {node.name: node for node in snapshot.nodes}
    found: dict[str, tuple[DeviceShare, ...]] = {}
    for task in unsaid:
        node = nodes.get(task.node or "")
        if node is not None:
            found[task.name] = _lowest(task, node, held)
            for share in found[task.name]:
                held[node.name, share.index] = held.get((node.name, share.index), 0) + share.milli
    return found


def _lowest(task: Task, node: Node, held: dict[tuple[str | None, int], int]) -> tuple[DeviceShare, ...]:
    ask = task.request.gpu[0]
    fitting: list[DeviceShare] = []
    for device in node.devices:
        milli = need(ask, device)
        if milli is not None and held.get((node.name, device.index), 0) + milli <= MILLI:
            fitting.append(DeviceShare(device.index, milli))
    return tuple(fitting[: ask.devices])
