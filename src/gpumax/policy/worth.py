"""How much of what nodes have free the work that typically comes can use: the FGD measure, for many nodes at once.

For each task (Weng et al., USENIX ATC 2023): nothing of a node where too few devices, another model or too few cores keep it away;
else the devices that have enough left for it. What one device gives to all tasks of one device together depends on three things: its
make, the node's free cores and its own free milli; so it is looked up in a table instead of summed over the tasks.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from gpumax.model.workload import DeviceAsk
from gpumax.policy.nodes import Ints, Nodes
from gpumax.units import MILLI

WIDTH: Final = MILLI + 1


class _Several:
    """Tasks of several devices that take the same of each. needs: by make."""

    def __init__(self, needs: Ints, width: int) -> None:
        self.needs = needs
        self._levels: Ints = np.zeros(0, np.int64)
        self._table: Ints = np.zeros((1, width + 1), np.int64)  # by level of cores, and by devices that fit

    def add(self, devices: int, cpu: int, times: int) -> None:
        """Count so many tasks."""
        self._levels, self._table, level = _with_level(self._levels, self._table, cpu)
        self._table[level:, devices:] += times

    def tasks(self, fitting: Ints, cpu: Ints) -> Ints:
        """How many of them nodes can host that have so many devices that fit, and so many cores."""
        level = np.searchsorted(self._levels, cpu, side="right")
        found: Ints = self._table.reshape(-1).take(level * self._table.shape[1] + fitting)
        return found


class Worth:
    """The measure, as a sum over all tasks that were added. tasks: how many."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        makes = np.stack((nodes.model, nodes.device_mib, nodes.healthy), axis=2).reshape(-1, 3)
        _, firsts, numbers = np.unique(makes, axis=0, return_index=True, return_inverse=True)
        self._firsts: Ints = firsts
        self._make: Ints = numbers.reshape(nodes.healthy.shape)
        self._levels: Ints = np.zeros(0, np.int64)
        self._table: Ints = np.zeros(
            (1, firsts.size, WIDTH), np.int64
        )  # by level of cores, make, and milli that are free
        self._several: dict[tuple[int, ...], _Several] = {}
        self._needs: dict[tuple[DeviceAsk, ...], Ints] = {}
        self.tasks = 0

    def add(self, asks: tuple[DeviceAsk, ...], cpu: int, times: int = 1) -> None:
        """Count so many tasks; of their alternatives those that are like the first but for the model."""
        self.tasks += times
        if not asks:
            return
        needs = self._need(asks)
        if asks[0].devices > 1:
            key = tuple(needs.tolist())
            several = self._several.setdefault(key, _Several(needs, self._make.shape[1]))
            several.add(asks[0].devices, cpu, times)
            return
        self._levels, self._table, level = _with_level(self._levels, self._table, cpu)
        if (needs == needs[0]).all():
            self._table[level:, :, needs[0] :] += times
            return
        for make, need in enumerate(needs.tolist()):
            self._table[level:, make, need:] += times

    def _need(self, asks: tuple[DeviceAsk, ...]) -> Ints:
        """What a task takes of one device of each make; more than there is where it is of no use."""
        known = self._needs.get(asks)
        if known is None:
            pairs = [self._nodes.usable(ask) for ask in asks if ask.devices == asks[0].devices]
            known = self._needs[asks] = np.min(
                [np.where(usable, need, WIDTH).reshape(-1)[self._firsts] for usable, need in pairs], axis=0
            )
        return known

    def of(self, rows: Ints, cpu: Ints, free: Ints) -> Ints:
        """Of these nodes, with so many cores and milli of each device free."""
        make = self._make.take(rows, axis=0)
        level = np.searchsorted(self._levels, cpu, side="right")
        at = (level[:, None] * self._firsts.size + make) * WIDTH + free
        total: Ints = (self._table.reshape(-1).take(at) * free).sum(axis=1)
        for several in self._several.values():
            fits = free >= several.needs.take(make)
            total += several.tasks(fits.sum(axis=1), cpu) * (free * fits).sum(axis=1)
        return total


def _with_level(levels: Ints, table: Ints, cpu: int) -> tuple[Ints, Ints, int]:
    """The table with a row for so many cores, and its number; row 0 is for less than anybody asks for."""
    at = int(np.searchsorted(levels, cpu))
    if at == levels.size or levels[at] != cpu:
        levels, table = np.insert(levels, at, cpu), np.insert(table, at + 1, table[at], axis=0)
    return levels, table, at + 1
