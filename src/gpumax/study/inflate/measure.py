"""The fragmentation measure of the FGD paper: how much of what is free the work that typically comes can't use.

Weng et al., Beware of Fragmentation (USENIX ATC 2023). Of a node, for each typical shape: all that is free where too few devices,
another model or too few cores keep it away, or where it asks for no device; else the devices that have too little left for it.
Memory is not looked at, as in the paper. What one device gives to all shapes of one device together depends on three things: its
make, the node's free cores and its own free milli; so the measure is looked up in a table instead of summed over the shapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpumax.policy.nodes import Ints
from gpumax.study.inflate.field import Field, Shape
from gpumax.units import MILLI

Floats = npt.NDArray[np.float64]

POPULAR: Final = 0.95
"""The typical shapes are the most frequent ones that make up so much of all arrivals."""


def typical(shapes: Iterable[Shape]) -> dict[Shape, int]:
    """The typical shapes and how often each comes. Node memory tells no shapes apart."""
    counts = Counter(shape._replace(memory=0) for shape in shapes)
    rows = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    sums = list(accumulate(count for _, count in rows))
    enough = next((at for at, total in enumerate(sums) if total >= POPULAR * sums[-1]), -1) + 1
    return dict(rows[:enough])


class Several(NamedTuple):
    """A typical shape of several devices. need: milli of one device, by make; more than there is where it is of no use."""

    times: int
    cpu: int
    devices: int
    need: Ints


class Measure:
    """The measure for the nodes of a field."""

    def __init__(self, field: Field, shapes: dict[Shape, int]) -> None:
        self._total = sum(shapes.values())
        self._field = field
        nodes = field.nodes
        makes = np.stack((nodes.model, nodes.device_mib, nodes.healthy), axis=2).reshape(-1, 3)
        _, firsts, numbers = np.unique(makes, axis=0, return_index=True, return_inverse=True)
        self._make: Ints = numbers.reshape(nodes.healthy.shape)
        alone = {shape: times for shape, times in shapes.items() if shape.devices == 1}
        self._levels = np.unique([shape.cpu for shape in alone]).astype(np.int64)
        table = np.zeros((len(firsts), self._levels.size + 1, MILLI + 1), np.int64)
        for shape, times in alone.items():
            level = int(np.searchsorted(self._levels, shape.cpu)) + 1
            for make, need in enumerate(self._needs(shape, firsts).tolist()):
                table[make, level:, need:] += times
        table *= np.arange(MILLI + 1)
        self._table: Ints = table.reshape(-1)
        self._several = [
            Several(times, shape.cpu, shape.devices, self._needs(shape, firsts))
            for shape, times in sorted(shapes.items()) if shape.devices > 1
        ]  # fmt: skip

    def _needs(self, shape: Shape, firsts: Ints) -> Ints:
        """What a shape takes of one device of each make; firsts: where in all devices one of each make stands."""
        usable, need = self._field.usable(shape)
        needs: Ints = np.where(usable.reshape(-1)[firsts], need.reshape(-1)[firsts], MILLI + 1)
        return needs

    def fragments(self, rows: Ints) -> Floats:
        """Of each of these nodes, in milli-devices."""
        return self.after(rows, 0, np.zeros((rows.size, 1), np.int64))

    def after(self, rows: Ints, cpu: int, taken: Ints) -> Floats:
        """The fragments of these nodes once so many cores and milli of each device are taken."""
        room = self._field.room
        left, free = room.cpu[rows] - cpu, room.devices[rows] - taken
        worth, _ = self._worth(rows, left, free)
        usable = worth.sum(axis=1) + self._of_several(rows, left, free)
        found: Floats = (free.sum(axis=1) * self._total - usable) / self._total
        return found

    def after_each(self, rows: Ints, cpu: int, need: Ints) -> Floats:
        """The same for each device of which alone so many milli are taken; only where it has them."""
        room = self._field.room
        left, free = room.cpu[rows] - cpu, room.devices[rows]
        worth, base = self._worth(rows, left, free)
        rest = np.maximum(free - need, 0)
        usable = worth.sum(axis=1)[:, None] - worth + self._table.take(base + rest)
        for several in self._several:
            least = several.need[self._make[rows]]
            had, has = free >= least, rest >= least
            count = had.sum(axis=1)[:, None] - had + has
            total = (free * had).sum(axis=1)[:, None] - free * had + rest * has
            able = (left >= several.cpu)[:, None] & (count >= several.devices)
            usable += several.times * np.where(able, total, 0)
        found: Floats = ((free.sum(axis=1)[:, None] - need) * self._total - usable) / self._total
        return found

    def _worth(self, rows: Ints, cpu: Ints, free: Ints) -> tuple[Ints, Ints]:
        """What each device gives to shapes of one device, and where in the table its column begins."""
        level = np.searchsorted(self._levels, cpu, side="right")
        base: Ints = (self._make[rows] * (self._levels.size + 1) + level[:, None]) * (MILLI + 1)
        return self._table.take(base + free), base

    def _of_several(self, rows: Ints, cpu: Ints, free: Ints) -> Ints:
        """What nodes give to shapes of several devices."""
        total: Ints = np.zeros(rows.size, np.int64)
        for several in self._several:
            fits = free >= several.need[self._make[rows]]
            able = (cpu >= several.cpu) & (fits.sum(axis=1) >= several.devices)
            total += several.times * np.where(able, (free * fits).sum(axis=1), 0)
        return total
