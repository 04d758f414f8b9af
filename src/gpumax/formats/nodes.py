"""Nodes and their devices."""

from __future__ import annotations

from typing import Any, Final

from gpumax.formats.affinity import TAINTS, dump_taint
from gpumax.formats.requests import EXTENDED, SLICES
from gpumax.formats.scalars import KEY, MODEL, NAME, VALUE, Amount, Flag, Whole, write_number
from gpumax.formats.shape import ByType, Field, Map, Object, Rows, Shape, Shared, Then, Wrongs
from gpumax.model.node import Device, Node
from gpumax.model.workload import Document
from gpumax.units import format_memory

MOST_DEVICES: Final = 256
"""The most devices of one node."""

LABELS: Final = Map(KEY, VALUE, most=5000)
"""Labels of nodes, workloads and tasks."""

_COMMON: Final[dict[str, Field]] = {
    "model": Field(MODEL, "The model, like H100."),
    "memory": Field(Amount("memory", "down"), "Its memory.", to="memory_mib"),
    "healthy": Field(Flag(), "false: it takes nothing new."),
    "slices": Field(SLICES, "Hardware partitions by profile, and at most how many; it then takes slices only."),
}  # fmt: skip


def _alike(count: int, **fields: Any) -> tuple[Device, ...]:
    return tuple(Device(index, **fields) for index in range(count))


def _listed(rows: tuple[dict[str, Any], ...]) -> tuple[Device, ...]:
    wrongs = Wrongs()
    devices: dict[int, Device] = {}
    for position, row in enumerate(rows):
        device = Device(**{"index": position, **row})
        if device.index in devices:
            wrongs.add((position, "index"), f"index {device.index} twice", "each index once")
        devices[device.index] = device
    wrongs.check()
    return tuple(devices[index] for index in sorted(devices))


_INDEX: Final = Field(Whole(0, 4095), "Which device of its node; unset: its place in the list.")
_DEVICES: Final[Shape[tuple[Device, ...]]] = Shared(
    ByType(
        "{count: 8, model: H100, memory: 80Gi}, or a list with one entry a device",
        object=Object(
            "AlikeDevices",
            {"count": Field(Whole(0, MOST_DEVICES), "How many.", required=True), **_COMMON},
            _alike,
            about="Devices that are all alike.",
        ),
        list=Then(Rows(Object("Device", {"index": _INDEX, **_COMMON}, dict), most=MOST_DEVICES), _listed),
    )
)

NODE: Final = Object(
    "Node",
    {
        "name": Field(NAME, "Unique among nodes.", required=True),
        "pool": Field(NAME, "Nodes that are scheduled together."),
        "cpu": Field(Amount("cpu", "down"), "Allocatable cores.", to="cpu_milli"),
        "memory": Field(Amount("memory", "down"), "Allocatable host memory.", to="memory_mib"),
        "tasks": Field(Whole(), "The most tasks that it takes; unset: no bound."),
        "devices": Field(_DEVICES, "Its GPUs: a count of equal ones, or a list."),
        "extended": Field(EXTENDED, "Other countable resources."),
        "labels": Field(LABELS, "What selectors and affinity look at."),
        "taints": Field(TAINTS, "Keep tasks away that don't tolerate them."),
        "ready": Field(Flag(), "false: nothing new goes there."),
        "cordoned": Field(Flag(), "true: nothing new goes there."),
    },
    Node,
    about="A machine, with what may be allocated of it.",
)


def dump_node(node: Node) -> Document:
    """As it is read."""
    document: Document = {"name": node.name}
    if node.pool:
        document["pool"] = node.pool
    document["cpu"] = write_number(node.cpu_milli)
    document["memory"] = format_memory(node.memory_mib)
    if node.tasks is not None:
        document["tasks"] = node.tasks
    if node.devices:
        document["devices"] = _dump_devices(node.devices)
    if node.extended:
        document["extended"] = dict(sorted(node.extended.items()))
    if node.labels:
        document["labels"] = dict(sorted(node.labels.items()))
    if node.taints:
        document["taints"] = [dump_taint(taint) for taint in node.taints]
    if not node.ready:
        document["ready"] = False
    if node.cordoned:
        document["cordoned"] = True
    return document


def _dump_devices(devices: tuple[Device, ...]) -> object:
    first = devices[0]
    if devices == tuple(Device(index, first.model, first.memory_mib) for index in range(len(devices))):
        return {"count": len(devices), **_dump_device(first)}
    return [{"index": device.index, **_dump_device(device)} for device in devices]


def _dump_device(device: Device) -> Document:
    document: Document = {}
    if device.model:
        document["model"] = device.model
    if device.memory_mib:
        document["memory"] = format_memory(device.memory_mib)
    if not device.healthy:
        document["healthy"] = False
    if device.slices:
        document["slices"] = dict(sorted(device.slices.items()))
    return document
