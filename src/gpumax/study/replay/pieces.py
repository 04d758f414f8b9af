"""The room of policies that know whole devices only: pieces of nodes, and which of their devices are idle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gpumax.model.node import Node
from gpumax.model.workload import DeviceShare, Request
from gpumax.study.replay.wanted import matches
from gpumax.units import MILLI


class Piece:
    """A node, or a part of one, with what of it is free."""

    __slots__ = (
        "cpu",
        "devices",
        "idle",
        "memory",
        "node",
        "plain_cpu",
        "plain_memory",
        "ready",
        "tasks",
        "whole",
    )

    def __init__(
        self, node: Node, indexes: Iterable[int] | None = None, *, part: tuple[int, int] = (1, 1)
    ) -> None:
        """indexes: of the devices that belong to it, None for all; part: how much of cores and memory, as a fraction."""
        self.node = node.name
        self.devices = {device.index: device for device in node.devices}
        self.idle = sorted(self.devices if indexes is None else indexes)
        self.cpu = node.cpu_milli * part[0] // part[1]
        self.memory = node.memory_mib * part[0] // part[1]
        self.whole = (self.cpu, self.memory)
        self.tasks = 0
        self.plain_cpu = 0  # tasks that ask for no cores
        self.plain_memory = 0  # tasks that ask for no memory
        self.ready = node.ready

    def find(self, request: Request) -> tuple[DeviceShare, ...] | None:
        """The devices that a task would get; None where it has no room. No device where it asks for none."""
        if not self.ready or request.cpu_milli > self.cpu or request.memory_mib > self.memory:
            return None
        if not request.gpu:
            return ()
        for ask in request.gpu:
            if ask.devices > len(self.idle):
                continue
            found = [index for index in self.idle if matches(self.devices[index], ask)][: ask.devices]
            if len(found) == ask.devices:
                return tuple(DeviceShare(index, MILLI) for index in found)
        return None

    def take(self, request: Request, shares: tuple[DeviceShare, ...], sign: int = 1) -> None:
        """A task comes, or, with sign -1, goes."""
        self.cpu -= sign * request.cpu_milli
        self.memory -= sign * request.memory_mib
        self.tasks += sign
        self.plain_cpu += sign * (not request.cpu_milli)
        self.plain_memory += sign * (not request.memory_mib)
        indexes = [share.index for share in shares]
        if sign > 0:
            self.idle = [index for index in self.idle if index not in indexes]
        else:
            self.idle = sorted([*self.idle, *indexes])


Spot = tuple[Piece, tuple[DeviceShare, ...]]
Worth = Callable[[Piece], tuple[float, ...]]
"""How good a piece is: the smallest is taken, the first of equal ones."""


def tightest(piece: Piece) -> tuple[float, ...]:
    """Where least is left; work without devices goes where there are fewest."""
    return (len(piece.idle),)


def place_all(
    pieces: Sequence[Piece], requests: Sequence[Request], worth: Worth = tightest
) -> list[Spot] | None:
    """Places for all tasks together, taken; None where one of them has none, and nothing is taken."""
    spots: list[Spot] = []
    for request in requests:
        spot = place(pieces, request, worth)
        if spot is None:
            for (piece, shares), taken in zip(spots, requests, strict=False):
                piece.take(taken, shares, -1)
            return None
        spot[0].take(request, spot[1])
        spots.append(spot)
    return spots


def place(pieces: Sequence[Piece], request: Request, worth: Worth = tightest) -> Spot | None:
    """The best place for one task; nothing is taken."""
    least = min((ask.devices for ask in request.gpu), default=0)
    best: tuple[tuple[float, ...], Spot] | None = None
    for piece in pieces:
        if len(piece.idle) < least:
            continue
        value = worth(piece)
        if best is not None and value >= best[0]:
            continue
        shares = piece.find(request)
        if shares is not None:
            best = (value, (piece, shares))
    return None if best is None else best[1]
