"""Devices that a snapshot leaves out: the lowest that fit, in the order of workloads and tasks."""

from __future__ import annotations

from gpumax.loop.verify.devices import need
from gpumax.loop.verify.slices import add, can_hold
from gpumax.model.node import Node
from gpumax.model.slices import parts
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import HOLDING, DeviceShare, Task
from gpumax.units import MILLI

Milli = dict[tuple[str | None, int], int]
Slices = dict[tuple[str | None, int], dict[str, int]]
"""By node and index of a device: what tasks hold of it."""


def guess(snapshot: Snapshot) -> dict[str, tuple[DeviceShare, ...]]:
    """By task: what tasks hold that ask for devices and name none."""
    holding = [task for workload in snapshot.workloads for task in workload.tasks if task.state in HOLDING]
    unsaid = [task for task in holding if not task.devices and (task.request.gpu or task.request.slices)]
    if not unsaid:
        return {}
    held: Milli = {}
    sliced: Slices = {}
    for task in holding:
        for share in task.devices:
            _count(held, sliced, task.node, share)
    nodes = {node.name: node for node in snapshot.nodes}
    found: dict[str, tuple[DeviceShare, ...]] = {}
    for task in unsaid:
        node = nodes.get(task.node or "")
        if node is not None:
            found[task.name] = (
                _lowest_slices(task, node, sliced) if task.request.slices else _lowest(task, node, held)
            )
            for share in found[task.name]:
                _count(held, sliced, node.name, share)
    return found


def _count(held: Milli, sliced: Slices, node: str | None, share: DeviceShare) -> None:
    key = (node, share.index)
    held[key] = held.get(key, 0) + share.milli
    if share.slices:
        sliced[key] = add(sliced.get(key, {}), share)


def _lowest_slices(task: Task, node: Node, sliced: Slices) -> tuple[DeviceShare, ...]:
    """The largest slice first, each on the first device that can take it."""
    mine: dict[int, dict[str, int]] = {}
    for profile, count in sorted(task.request.slices.items(), key=lambda row: (-parts(row[0]), row[0])):
        one = DeviceShare(0, 0, {profile: 1})
        for _ in range(count):
            for device in node.devices:
                here = add(mine.get(device.index, {}), one)
                there = sliced.get((node.name, device.index), {})
                if device.healthy and can_hold(device, add(there, DeviceShare(0, 0, here))):
                    mine[device.index] = here
                    break
    return tuple(DeviceShare(index, 0, slices) for index, slices in sorted(mine.items()))


def _lowest(task: Task, node: Node, held: Milli) -> tuple[DeviceShare, ...]:
    ask = task.request.gpu[0]
    fitting: list[DeviceShare] = []
    for device in node.devices:
        milli = need(ask, device)
        if milli is not None and held.get((node.name, device.index), 0) + milli <= MILLI:
            fitting.append(DeviceShare(device.index, milli))
    return tuple(fitting[: ask.devices])
