"""Placement `dense`: of the nodes that fit, one on which the fewest GPUs come to be of no use.

GPUs that are free are of no use in two ways, and both are counted. What typically comes may not fit what is left of a node: that is
the FGD measure (`worth`). And nothing may be left beside them: work that needs many cores for each of its GPUs belongs where there
are many, and work that needs few where there are few. How many cores and how much memory a GPU needs is what all work of the
snapshot asks for, work without GPUs included, for each GPU that it asks for; of a node so many GPUs are of use as are free and as its
cores and its memory suffice for. That a task makes use of GPUs that others could not use counts for it, but only a step for each of
its GPUs: else work that needs few cores would be scattered over all empty nodes that have few.

What gets lost is counted in steps: within one, the order of nodes decides. Counted exactly, work would be scattered over nodes that
are nearly alike, and none would ever be filled.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import DeviceAsk, Request
from gpumax.policy.ask import Ask
from gpumax.policy.fragments import MIXER
from gpumax.policy.free import Room
from gpumax.policy.nodes import Ints, Nodes
from gpumax.policy.worth import WIDTH, Worth
from gpumax.units import MILLI

STEP: Final = MILLI // 5
"""Milli-devices that are taken for equal. Half of it or twice as much give nearly the same results (docs: packing)."""


class Demand:
    """What work asks for together: milli-devices, millicores, MiB; and what it could use of nodes."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._sizes: dict[DeviceAsk, int] = {}
        self.gpu = self.cpu = self.memory = 0
        self.worth = Worth(nodes)

    def add(self, request: Request, times: int = 1) -> None:
        """Count what so many tasks ask for; the first of a task's alternatives stands for all."""
        if request.gpu:
            self.gpu += times * self._size(request.gpu[0])
        self.cpu += times * request.cpu_milli
        self.memory += times * request.memory_mib
        self.worth.add(request.gpu, request.cpu_milli, times)

    def _size(self, ask: DeviceAsk) -> int:
        """Milli-devices; what asks for memory counts as on the largest device."""
        known = self._sizes.get(ask)
        if known is None:
            each = min(self._nodes.usable(ask)[1].min(initial=MILLI), MILLI)
            known = self._sizes[ask] = ask.devices * int(each)
        return known


def demand(snapshot: Snapshot, nodes: Nodes) -> Demand:
    """What all work of a snapshot asks for, whether it runs or waits."""
    requests = [task.request for workload in snapshot.workloads for task in workload.tasks]
    # By identity first: thousands of tasks share a few requests.
    numbers, total = Counter(map(id, requests)), Demand(nodes)
    for key, request in dict(zip(map(id, requests), requests, strict=True)).items():
        total.add(request, numbers[key])
    return total


class Dense:
    """The rule for the nodes of one decision."""

    def __init__(self, snapshot: Snapshot, nodes: Nodes) -> None:
        self._nodes = nodes
        self._snapshot = snapshot
        self._demand: Demand | None = None
        # States are told apart by a sum that wraps around.
        width = nodes.healthy.shape[1]
        weights = np.cumprod(np.full(3 * width + 2, MIXER, np.int64))
        self._device, self._cpu, self._memory = weights[:width], weights[-1], weights[-2]
        self._make: Ints = (
            nodes.model @ weights[width : 2 * width] + nodes.device_mib @ weights[2 * width : -2]
        )

    @property
    def demand(self) -> Demand:
        """What typically comes; counted when somebody asks."""
        if self._demand is None:
            self._demand = demand(self._snapshot, self._nodes)
        return self._demand

    def best(self, room: Room, ask: Ask, gpu: DeviceAsk | None, rows: Ints) -> int:
        """One of these nodes, all of which fit; the first of those that are equal."""
        rows = self._distinct(room, rows)
        cpu, memory, free = room.cpu.take(rows), room.memory.take(rows), room.devices.take(rows, axis=0)
        taken = np.zeros((1, 1), np.int64) if gpu is None else self._taken(gpu, rows, free)
        held, left = taken.sum(axis=1), free - taken
        gpus = room.gpus.take(rows)
        lost = self._idle(gpus - held, cpu - ask.cpu, memory - ask.memory) - self._idle(gpus, cpu, memory)
        lost = np.maximum(lost, -held * STEP // MILLI)
        worth = self.demand.worth
        less = worth.of(rows, cpu, free) - worth.of(rows, cpu - ask.cpu, left)
        tasks = worth.tasks
        # A task can't but take what it asks for: that is no loss.
        steps = -((tasks * (held - lost) - less) // (tasks * STEP))
        return int(rows[steps.argmin()])

    def _distinct(self, room: Room, rows: Ints) -> Ints:
        """The first of all nodes that are in one state. That two are taken for one costs a choice between equals at worst."""
        states = room.devices.take(rows, axis=0) @ self._device + self._make.take(rows)
        states += room.cpu.take(rows) * self._cpu
        states += room.memory.take(rows) * self._memory
        firsts: Ints = np.unique(states, return_index=True)[1]
        return rows[np.sort(firsts)]

    def _taken(self, gpu: DeviceAsk, rows: Ints, free: Ints) -> Ints:
        """The milli-devices that an ask takes of each device of these nodes: of the fullest that fit."""
        usable, need = (each.take(rows, axis=0) for each in self._nodes.usable(gpu))
        able = np.where(usable & (free >= need), free, WIDTH)
        if gpu.devices == 1:
            first = able.argmin(axis=1)[:, None]
            return np.where(np.arange(free.shape[1]) == first, need, 0)
        ranks = able.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        return np.where(ranks < gpu.devices, need, 0)

    def _idle(self, gpus: Ints, cpu: Ints, memory: Ints) -> Ints:
        """Milli-devices that are free and of no use."""
        total, used = self.demand, gpus
        for free, asked in ((cpu, total.cpu), (memory, total.memory)):
            if asked:
                used = np.minimum(used, free * total.gpu // asked)
        return gpus - used
