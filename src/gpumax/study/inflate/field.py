"""The cluster that is filled, in the product's own arrays: rows are nodes in the order that breaks ties."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from gpumax.model.node import Node
from gpumax.model.trace import Arrival
from gpumax.model.workload import DeviceAsk, Request
from gpumax.policy.free import Room
from gpumax.policy.held import Held
from gpumax.policy.nodes import Bools, Ints, Nodes
from gpumax.units import MILLI


class Shape(NamedTuple):
    """What arrivals of one kind ask for; memory in MiB, of the node and of each device. models: any of these."""

    cpu: int
    memory: int
    devices: int
    milli: int
    gpu_memory: int
    models: tuple[str, ...]

    @property
    def part(self) -> bool:
        """Whether it asks for a part of one device."""
        return self.devices == 1 and (self.milli < MILLI or self.gpu_memory > 0)


def shape_of(arrival: Arrival) -> Shape:
    """What an arrival asks for."""
    count = arrival.devices
    by_milli = count and not arrival.gpu_memory_mib
    return Shape(
        arrival.cpu_milli,
        arrival.memory_mib,
        count,
        arrival.milli if by_milli else 0,
        arrival.gpu_memory_mib if count else 0,
        arrival.models if count else (),
    )


def request(shape: Shape) -> Request:
    """What a shape asks for: models as alternatives, in their order."""
    gpu = tuple(
        DeviceAsk(shape.devices, shape.milli or MILLI, shape.gpu_memory, model)
        for model in shape.models or ("",)
    )
    return Request(gpu if shape.devices else (), shape.cpu, shape.memory)


class Field:
    """Free room of all nodes, and who fits where. Nobody leaves."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.nodes = Nodes(nodes)
        self.room = Room(self.nodes)
        self.columns = self.nodes.healthy.sum(axis=1)
        self._usable: dict[Shape, tuple[Bools, Ints]] = {}

    @property
    def capacity(self) -> int:
        """Milli-devices in all."""
        return int(self.nodes.gpus.sum())

    def usable(self, shape: Shape) -> tuple[Bools, Ints]:
        """Which devices could serve a shape, and how many milli it takes of each."""
        known = self._usable.get(shape)
        if known is None:
            asks = [
                self.nodes.usable(DeviceAsk(shape.devices, shape.milli, shape.gpu_memory, model))
                for model in shape.models or ("",)
            ]
            usable = np.logical_or.reduce([each for each, _ in asks])
            need = np.min([need for _, need in asks], axis=0)
            known = self._usable[shape] = (usable, need)
        return known

    def serving(self, shape: Shape, rows: Ints) -> Bools:
        """The devices of these nodes that have enough left for a shape."""
        usable, need = self.usable(shape)
        fits: Bools = usable[rows] & (self.room.devices[rows] >= need[rows])
        return fits

    def fitting(self, shape: Shape, rows: Ints) -> Bools:
        """Which of these nodes have room for a shape."""
        room = self.room
        fits: Bools = (
            (room.cpu[rows] >= shape.cpu) & (room.memory[rows] >= shape.memory) & (room.tasks[rows] > 0)
        )
        if shape.devices:
            fits &= self.serving(shape, rows).sum(axis=1) >= shape.devices
        return fits

    def fullest(self, shape: Shape, row: int) -> tuple[int, ...]:
        """The fullest devices of a node that serve a shape, lowest index first among equals."""
        if not shape.devices:
            return ()
        fits = self.serving(shape, np.array([row]))[0].nonzero()[0].tolist()
        free = self.room.devices[row].tolist()
        return tuple(sorted(fits, key=lambda column: (free[column], column))[: shape.devices])

    def take(self, shape: Shape, row: int, columns: tuple[int, ...]) -> int:
        """Place a shape; returns the milli-devices that it holds."""
        need = self.usable(shape)[1][row] if columns else ()
        parts = tuple((column, int(need[column])) for column in columns)
        held = sum(part for _, part in parts)
        self.room.take(Held("", row, held, shape.cpu, shape.memory, (), parts))
        return held
