"""What is free of every node, to the thousandth of a device: for looks from outside, made anew each time."""

from __future__ import annotations

from collections.abc import Iterable

from gpumax.engines.simulated.world import Attempt
from gpumax.model.node import Node
from gpumax.model.workload import DeviceAsk, Request
from gpumax.study.replay.wanted import matches
from gpumax.units import MILLI


class Room:
    """One node's. Devices that failed or are cut into slices have none."""

    __slots__ = ("_devices", "cpu", "free", "memory", "node")

    def __init__(self, node: Node) -> None:
        self.node = node.name
        self._devices = {
            device.index: device for device in node.devices if device.healthy and not device.slices
        }
        self.free = dict.fromkeys(self._devices, MILLI)
        self.cpu = node.cpu_milli
        self.memory = node.memory_mib

    def copy(self) -> Room:
        """One of its own that starts like this."""
        other = object.__new__(Room)
        other.node, other._devices = self.node, self._devices
        other.free, other.cpu, other.memory = self.free.copy(), self.cpu, self.memory
        return other

    def take(self, attempt: Attempt, request: Request, sign: int = 1) -> None:
        """What a task holds is taken, or, with sign -1, given back."""
        for share in attempt.devices:
            if share.index in self.free:
                self.free[share.index] -= sign * share.milli
        self.cpu -= sign * request.cpu_milli
        self.memory -= sign * request.memory_mib

    def fit(self, request: Request) -> bool:
        """Take the room of a task, where it has any."""
        if request.cpu_milli > self.cpu or request.memory_mib > self.memory:
            return False
        if not request.gpu:
            found: list[tuple[int, int]] | None = []
        else:
            found = next((row for ask in request.gpu if (row := self._devices_for(ask)) is not None), None)
        if found is None:
            return False
        for index, milli in found:
            self.free[index] -= milli
        self.cpu -= request.cpu_milli
        self.memory -= request.memory_mib
        return True

    def _devices_for(self, ask: DeviceAsk) -> list[tuple[int, int]] | None:
        """The fullest devices that have room, and how much of each."""
        rows = []
        for index, free in self.free.items():
            device = self._devices[index]
            if matches(device, ask):
                milli = -(-MILLI * ask.memory_mib // device.memory_mib) if ask.memory_mib else ask.milli
                if free >= milli:
                    rows.append((free, index, milli))
        if len(rows) < ask.devices:
            return None
        return [(index, milli) for _, index, milli in sorted(rows)[: ask.devices]]


def rooms_of(nodes: Iterable[Node], held: Iterable[tuple[Attempt, Request]]) -> dict[str, Room]:
    """The room of every node that is open, without what these hold."""
    rooms = {node.name: Room(node) for node in nodes if node.open}
    for attempt, request in held:
        room = rooms.get(attempt.node)
        if room is not None:
            room.take(attempt, request)
    return rooms
