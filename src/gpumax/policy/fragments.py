"""How much of what remains on a node nobody could use: the last wish before the order of nodes decides.

Measured as FGD does (Weng et al., USENIX ATC 2023): for each kind of work that typically comes, the free GPU of a node that
it can't use, because GPUs are too small a part, too few, or of another model, or because cores or memory run out. Typical
is what the snapshot holds: what runs and what waits, by how many tasks ask it. Of equal nodes the one takes a task on which
the fewest such fragments come to be, and of those that are equal by that, too, the first: taken at random, work would be
scattered over nodes that are alike, which costs more than the measure gains.
"""

from __future__ import annotations

from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from gpumax.model.workload import DeviceAsk
from gpumax.policy.ask import Ask
from gpumax.policy.census import Census
from gpumax.policy.free import Room
from gpumax.policy.nodes import Ints, Nodes

MOST_KINDS: Final = 16
"""Kinds of work that are looked at, the most frequent ones."""

MIXER: Final = 0x1E3779B97F4A7C15
"""Odd and without a pattern: its powers tell states apart."""

UNKNOWN: Final = -(1 << 62)
"""In place of a number of fragments: not measured since the node changed."""


class Kind(NamedTuple):
    """Work that typically comes: what one task asks, with its device alternatives, and how many ask it."""

    gpu: tuple[DeviceAsk, ...]
    cpu: int
    memory: int
    tasks: int


def typical(census: Census) -> list[Kind]:
    """The kinds of work with GPUs, most frequent first. What asks for none finds all GPUs of all nodes of no use."""
    kinds = [Kind(*ask, number) for ask, number in census.asked().items() if number]
    kinds.sort(key=lambda kind: (-kind.tasks, kind.cpu, kind.memory, list(map(_plain, kind.gpu))))
    return kinds[:MOST_KINDS]


def _plain(gpu: DeviceAsk) -> tuple[int, int, int, str]:
    return (gpu.devices, gpu.milli, gpu.memory_mib, gpu.model)


class Fragments:
    """The measure for the nodes of one decision, remembered for each state in which a node is found."""

    def __init__(self, census: Census, nodes: Nodes) -> None:
        self._census = census
        self._nodes = nodes
        self._kinds: list[Kind] | None = None  # looked up when nodes differ
        self._more: dict[tuple[Ask, int], dict[int, int]] = {}
        self._parts: dict[tuple[DeviceAsk, int], tuple[list[bool], list[int]]] = {}

    @cached_property
    def _unknown(self) -> Ints:
        return np.full(len(self._nodes.nodes), UNKNOWN, np.int64)

    @cached_property
    def _weights(self) -> tuple[Ints, Ints, Ints, Ints]:
        """Of what is left of devices, cores and memory; and what stands for the make of each node's devices."""
        # States are told apart by a sum that wraps around: that two are taken for one costs a tie-break at worst.
        nodes, width = self._nodes, self._nodes.healthy.shape[1]
        weights = np.cumprod(np.full(3 * width + 2, MIXER, np.int64))
        make = nodes.model @ weights[width : 2 * width] + nodes.device_mib @ weights[2 * width : -2]
        return weights[:width], weights[-1], weights[-2], make

    def fewest(self, room: Room, ask: Ask, choice: int, rows: Ints) -> int:
        """The first of these nodes on which the fewest fragments come to be; only nodes that changed are measured again."""
        seen, losses = room.losses.get((ask, choice), (len(room.touched), self._unknown))
        fresh = room.touched[seen:]
        if fresh:
            losses = losses.copy()
            losses[fresh] = UNKNOWN
            room.losses[ask, choice] = (len(room.touched), losses)
        found = losses.take(rows)
        new = rows.compress(found == UNKNOWN)
        if new.size:
            states = self._states(room, new)
            if new.size == rows.size and (states == states[0]).all():
                return int(rows[0])
            if not fresh:
                losses = losses.copy()
            losses[new] = self._measured(room, ask, choice, new, states)
            room.losses[ask, choice] = (len(room.touched), losses)
            found = losses.take(rows)
        return int(rows[found.argmin()])

    def _states(self, room: Room, rows: Ints) -> Ints:
        """Equal for nodes of which the same is left."""
        device, cpu, memory, make = self._weights
        states: Ints = room.devices.take(rows, axis=0) @ device + make.take(rows)
        states += room.cpu.take(rows) * cpu
        states += room.memory.take(rows) * memory
        return states

    def _measured(self, room: Room, ask: Ask, choice: int, rows: Ints, states: Ints) -> list[int]:
        keys = states.tolist()
        more = self._more.setdefault((ask, choice), {})
        for key, row in zip(keys, rows.tolist(), strict=True):
            if key not in more:
                more[key] = self.more(room, ask, choice, row)
        return [more[key] for key in keys]

    def more(self, room: Room, ask: Ask, choice: int, row: int) -> int:
        """How much more of a node would be fragments if a task were placed there, on the fullest devices that fit."""
        cpu, memory = int(room.cpu[row]), int(room.memory[row])
        free = room.devices[row].tolist()
        left, gpu = free.copy(), ask.gpu[choice]
        if gpu is not None:
            can, need = self._part(gpu, row)
            fit = [at for at, milli in enumerate(free) if can[at] and milli >= need[at]]
            fit.sort(key=lambda at: free[at])
            for at in fit[: gpu.devices]:
                left[at] -= need[at]
        return self._of(row, cpu - ask.cpu, memory - ask.memory, left) - self._of(row, cpu, memory, free)

    def _of(self, row: int, cpu: int, memory: int, free: list[int]) -> int:
        """The fragments of a node with this much free: milli-devices that a kind of work can't use, times its tasks."""
        if self._kinds is None:
            self._kinds = typical(self._census)
        idle, lost = sum(free), 0
        for kind in self._kinds:
            usable = 0
            if cpu >= kind.cpu and memory >= kind.memory:
                usable = max([self._usable(row, gpu, free) for gpu in kind.gpu])
            lost += kind.tasks * (idle - usable)
        return lost

    def _usable(self, row: int, gpu: DeviceAsk, free: list[int]) -> int:
        can, need = self._part(gpu, row)
        fit = [left for left, able, least in zip(free, can, need, strict=True) if able and left >= least]
        return sum(fit) if len(fit) >= gpu.devices else 0

    def _part(self, gpu: DeviceAsk, row: int) -> tuple[list[bool], list[int]]:
        """Which devices of a node can serve the ask, and what it takes of each."""
        known = self._parts.get((gpu, row))
        if known is None:
            usable, need = self._nodes.usable(gpu)
            known = self._parts[gpu, row] = usable[row].tolist(), need[row].tolist()
        return known
