"""The fragmentation measure of the FGD paper: how much of what is free the work that typically comes can't use.

Weng et al., Beware of Fragmentation (USENIX ATC 2023). Of a node, for each typical shape: all that is free where too few devices,
another model or too few cores keep it away, or where it asks for no device; else the devices that have too little left for it.
Memory is not looked at, as in the paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from gpumax.policy.nodes import Ints
from gpumax.policy.worth import Worth
from gpumax.study.inflate.field import Field, Shape, request

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


class Measure:
    """The measure for the nodes of a field, as they are and as they would be."""

    def __init__(self, field: Field, shapes: dict[Shape, int]) -> None:
        self._field = field
        self._worth = Worth(field.nodes)
        for shape, times in shapes.items():
            self._worth.add(request(shape).gpu, shape.cpu, times)

    def fragments(self, rows: Ints) -> Floats:
        """Of each of these nodes, in milli-devices."""
        return self.after(rows, 0, np.zeros((rows.size, 1), np.int64))

    def after(self, rows: Ints, cpu: int, taken: Ints) -> Floats:
        """The fragments of these nodes once so many cores and milli of each device are taken."""
        room = self._field.room
        return self._of(rows, room.cpu[rows] - cpu, room.devices[rows] - taken)

    def after_each(self, rows: Ints, cpu: int, need: Ints) -> Floats:
        """The same for each device of which alone so many milli are taken; only where it has them."""
        room, width = self._field.room, need.shape[1]
        each = np.eye(width, dtype=np.int64) * need[:, :, None]
        left = np.maximum(room.devices[rows][:, None] - each, 0).reshape(-1, width)
        many = np.repeat(rows, width)
        return self._of(many, room.cpu[many] - cpu, left).reshape(-1, width)

    def _of(self, rows: Ints, cpu: Ints, free: Ints) -> Floats:
        tasks = max(self._worth.tasks, 1)
        found: Floats = (free.sum(axis=1) * tasks - self._worth.of(rows, cpu, free)) / tasks
        return found
