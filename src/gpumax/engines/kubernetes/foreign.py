"""Pods that others scheduled: what they hold is not there for us."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from msgspec.structs import replace

from gpumax.model.node import Device, Node
from gpumax.model.workload import Task


@dataclass
class Held:
    """What pods of others hold on one node, as sums."""

    tasks: int = 0
    cpu_milli: int = 0
    memory_mib: int = 0
    devices: int = 0
    extended: dict[str, int] = field(default_factory=dict)
    slices: dict[str, int] = field(default_factory=dict)


def held(tasks: Collection[Task]) -> Held:
    """The sums over tasks."""
    found = Held(len(tasks))
    for task in tasks:
        asked = task.request
        found.cpu_milli += asked.cpu_milli
        found.memory_mib += asked.memory_mib
        # Whoever shares a device with others without us has it as a whole.
        found.devices += sum(ask.devices for ask in asked.gpu[:1])
        for to, amounts in ((found.extended, asked.extended), (found.slices, asked.slices)):
            for name, amount in amounts.items():
                to[name] = to.get(name, 0) + amount
    return found


def without(node: Node, others: Held, ours: Collection[int] = ()) -> Node:
    """The node with what is left of it. ours: devices that our own tasks are known to hold, which are not taken away."""
    if not others.tasks:
        return node
    return replace(
        node,
        cpu_milli=max(node.cpu_milli - others.cpu_milli, 0),
        memory_mib=max(node.memory_mib - others.memory_mib, 0),
        tasks=None if node.tasks is None else max(node.tasks - others.tasks, 0),
        devices=_devices(node.devices, others, frozenset(ours)),
        extended={
            name: max(amount - others.extended.get(name, 0), 0) for name, amount in node.extended.items()
        },
    )


def _devices(devices: tuple[Device, ...], others: Held, ours: frozenset[int]) -> tuple[Device, ...]:
    """Which device a pod of others holds isn't known: well ones that are not ours are taken, the last first."""
    if not others.devices and not others.slices:
        return devices
    free = [
        device.index
        for device in devices
        if device.healthy and not device.slices and device.index not in ours
    ]
    gone = set(free[len(free) - min(others.devices, len(free)) :])
    left = [device for device in devices if device.index not in gone]
    slices = dict(others.slices)
    for place, device in reversed(list(enumerate(left))):
        own = dict(device.slices)
        for profile in own.keys() & slices.keys():
            taken = min(own[profile], slices[profile])
            own[profile] -= taken
            slices[profile] -= taken
        if own != device.slices:
            left[place] = replace(device, slices={name: count for name, count in own.items() if count})
    # A sliced device of which nothing is left is not whole again.
    return tuple(device for device, was in _paired(left, devices) if device.slices or not was.slices)


def _paired(left: list[Device], devices: tuple[Device, ...]) -> list[tuple[Device, Device]]:
    known = {device.index: device for device in devices}
    return [(device, known[device.index]) for device in left]
