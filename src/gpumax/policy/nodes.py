"""What of the nodes does not change while a decision is made."""

from __future__ import annotations

from copy import copy
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from gpumax.model.node import Device, Node
from gpumax.model.workload import DeviceAsk
from gpumax.policy.slices import Sliced
from gpumax.units import MILLI, UNLIMITED

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Numbers = TypeVar("Numbers", npt.NDArray[np.int64], npt.NDArray[np.float64])


def how_many(mask: Bools) -> Ints:
    """How many of each row hold. Along short rows numpy takes many times as long as across them."""
    found: Ints = np.ascontiguousarray(mask.T).sum(axis=0)
    return found


def least(values: Numbers) -> Numbers:
    """The least of each row; across them, as `how_many`."""
    found: Numbers = np.ascontiguousarray(values.T).min(axis=0)
    return found


def distinct(rows: Ints) -> list[int]:
    """Each of these rows once, in rising order."""
    return np.flatnonzero(np.bincount(rows)).tolist()


class Nodes:
    """Sizes, models and names. Rows are nodes in name order, columns devices in the order of the node's list."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.names = [node.name for node in nodes]
        self.row_of = {name: row for row, name in enumerate(self.names)}
        # Nodes that are alike have one and the same tuple of devices, as a rule: each is read once.
        sets = {id(node.devices): node.devices for node in nodes}
        number_of = {key: number for number, key in enumerate(sets)}
        number = np.array([number_of[id(node.devices)] for node in nodes], np.int64)
        columns = [
            {device.index: column for column, device in enumerate(devices)} for devices in sets.values()
        ]
        self.column_of = [columns[at] for at in number.tolist()]
        self.models: dict[str, int] = {}
        self._read_devices(list(sets.values()), number)
        self.open: Bools = np.array([node.open for node in nodes], np.bool_)
        self.cpu: Ints = np.array([node.cpu_milli for node in nodes], np.int64)
        self.memory: Ints = np.array([node.memory_mib for node in nodes], np.int64)
        self.tasks: Ints = np.array(
            [UNLIMITED if node.tasks is None else node.tasks for node in nodes], np.int64
        )
        self.extended: dict[str, Ints] = {
            name: np.array([node.extended.get(name, 0) for node in nodes], np.int64)
            for name in sorted({name for node in nodes for name in node.extended})
        }
        self.gpus: Ints = how_many(self.healthy) * MILLI
        self.sliced = Sliced(nodes)
        self.has_gpus: Bools = np.array([bool(node.devices) for node in nodes], np.bool_)
        self._usable: dict[DeviceAsk, tuple[Bools, Ints]] = {}
        self._opened: Nodes | None = None

    def _read_devices(self, sets: list[tuple[Device, ...]], number: Ints) -> None:
        """number: of each node the place of its devices among the sets."""
        shape = (len(sets), max([1, *map(len, sets)]))
        healthy, device_mib = np.zeros(shape, np.bool_), np.zeros(shape, np.int64)
        index, model = np.full(shape, -1, np.int64), np.full(shape, -1, np.int64)
        devices = [device for each in sets for device in each]
        if devices:
            at = np.array([column for each in sets for column in range(len(each))], np.int64)
            at += shape[1] * np.repeat(np.arange(len(sets)), [len(each) for each in sets])
            healthy.flat[at] = [device.healthy and not device.slices for device in devices]
            device_mib.flat[at] = [device.memory_mib for device in devices]
            index.flat[at] = [device.index for device in devices]
            model.flat[at] = [self.models.setdefault(device.model, len(self.models)) for device in devices]
        self.healthy: Bools = healthy[number]
        self.device_mib: Ints = device_mib[number]
        self.index: Ints = index[number]
        self.model: Ints = model[number]

    def anew(self) -> Nodes:
        """The same, and what was looked up for asks is forgotten."""
        other = copy(self)
        other.sliced = self.sliced.anew()
        other._usable = {}
        return other

    def opened(self) -> Nodes:
        """The same as if all of them were in service, with all of their devices."""
        if self._opened is None:
            self._opened = Nodes(tuple([_opened(node) for node in self.nodes]))
        return self._opened

    def usable(self, ask: DeviceAsk) -> tuple[Bools, Ints]:
        """Which devices could ever serve the ask, and the milli-devices that it takes of each."""
        known = self._usable.get(ask)
        if known is None:
            usable = self.healthy
            if ask.model:
                usable = usable & (self.model == self.models.get(ask.model, -2))
            if ask.memory_mib:
                usable = usable & (self.device_mib >= ask.memory_mib)
                size = np.maximum(self.device_mib, 1)
                # Rounded up, so that the sum of the parts never exceeds a device's memory.
                need = np.where(usable, (MILLI * ask.memory_mib + size - 1) // size, MILLI)
            else:
                need = np.full(self.healthy.shape, ask.milli, np.int64)
            known = self._usable[ask] = (usable, need)
        return known


def _opened(node: Node) -> Node:
    if node.open and all(device.healthy for device in node.devices):
        return node
    healed = tuple([device if device.healthy else replace(device, healthy=True) for device in node.devices])
    return replace(node, ready=True, cordoned=False, devices=healed)
