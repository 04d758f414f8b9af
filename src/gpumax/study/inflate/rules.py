"""Rules of the FGD paper that look at one node at a time: a new one is one class with a score.

Scores are whole numbers from 0 to 100, as in the scheduler that the paper was measured on: what they round away is a tie, and of
equal nodes the first one is taken. Sizes that the paper's machines have at most bring free amounts to parts of 1.
"""

from __future__ import annotations

from collections import defaultdict
from random import Random
from typing import ClassVar, Final

import numpy as np

from gpumax.model.trace import Arrival
from gpumax.policy.nodes import Ints
from gpumax.study.inflate.draw import milli
from gpumax.study.inflate.field import Field, Shape, shape_of
from gpumax.units import MILLI

MOST_CPU: Final = 128_000
MOST_GPU: Final = 8 * MILLI
TOP: Final = 100
NOWHERE: Final = np.iinfo(np.int64).min
"""The score of a node without room."""


class Rule:
    """Takes the first of the nodes with the highest score, and there the fullest devices that fit."""

    name: ClassVar[str]

    def __init__(self, field: Field, arrivals: tuple[Arrival, ...], seed: int) -> None:
        """arrivals: what typically comes."""
        self.field = field
        self.arrivals = arrivals
        self.chance = Random(f"{seed} {self.name}")  # noqa: S311  # a study's chance comes from its seed
        self._known: dict[Shape, tuple[int, Ints]] = {}
        self._all: Ints = np.arange(len(field.nodes.nodes))

    def place(self, arrival: Arrival) -> int | None:
        """Place an arrival; the milli-devices that it asked for and got, None where it fits nowhere."""
        shape = self.shape(arrival)
        row = self.node(shape)
        if row is None:
            return None
        held = self.field.take(shape, row, self.devices(shape, row))
        return self.worth(arrival, held)

    def shape(self, arrival: Arrival) -> Shape:
        """What is placed for an arrival."""
        return shape_of(arrival)

    def worth(self, arrival: Arrival, held: int) -> int:
        """How much of what it holds an arrival asked for."""
        return held

    def node(self, shape: Shape) -> int | None:
        """The node that a shape goes to."""
        scores = self.scores(shape)
        row = int(scores.argmax())
        return None if scores[row] == NOWHERE else row

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        """The devices that a shape takes there."""
        return self.field.fullest(shape, row)

    def scores(self, shape: Shape) -> Ints:
        """The score of every node; only nodes that changed since the last look are looked at again."""
        touched = self.field.room.touched
        known = self._known.get(shape)
        if known is None:
            scores, rows = np.full(self._all.size, NOWHERE, np.int64), self._all
        else:
            seen, scores = known
            rows = np.array(list(dict.fromkeys(touched[seen:])), np.int64)
        if rows.size:
            scores[rows] = NOWHERE
            rows = rows[self.field.fitting(shape, rows)]
            if rows.size:
                scores[rows] = self.score(shape, rows)
        self._known[shape] = (len(touched), scores)
        return scores

    def score(self, shape: Shape, rows: Ints) -> Ints:
        """How good these nodes are, all of which have room; unless a rule says otherwise all are alike."""
        return np.zeros(rows.size, np.int64)


class BestFit(Rule):
    """The least that is left of cores and GPUs together, each as a part of the largest machine."""

    name = "bestfit"

    def score(self, shape: Shape, rows: Ints) -> Ints:
        room, need = self.field.room, self.field.usable(shape)[1]
        gpus = room.gpus[rows] - need[rows].min(axis=1) * shape.devices
        left = (room.cpu[rows] - shape.cpu) / MOST_CPU * 0.5 + gpus / MOST_GPU * 0.5
        scores: Ints = ((1.0 - left) * TOP).astype(np.int64)
        return scores


class BestFitWhole(BestFit):
    """The same where there are no fractions: whoever asks for part of a device gets all of it."""

    name = "bestfit-whole"

    def shape(self, arrival: Arrival) -> Shape:
        return shape_of(arrival)._replace(milli=MILLI, gpu_memory=0) if arrival.devices else shape_of(arrival)

    def worth(self, arrival: Arrival, held: int) -> int:
        return milli(arrival)


class DotProduct(Rule):
    """The smallest product of what is free and what is asked for: machines whose plenty is needed least."""

    name = "dotprod"

    def score(self, shape: Shape, rows: Ints) -> Ints:
        room, need = self.field.room, self.field.usable(shape)[1]
        gpu = need[rows].min(axis=1) * shape.devices
        product = room.cpu[rows] / MOST_CPU * (shape.cpu / MOST_CPU) + room.gpus[rows] / MOST_GPU * (
            gpu / MOST_GPU
        )
        scores: Ints = (TOP * (1.0 - product / 2)).astype(np.int64)
        return scores


class Packing(Rule):
    """Shared devices before idle ones on machines in use, and these before empty machines, small ones first."""

    name = "packing"

    def score(self, shape: Shape, rows: Ints) -> Ints:
        if not shape.devices:
            return np.zeros(rows.size, np.int64)
        free = self.field.room.devices[rows]
        idle = (free == MILLI).sum(axis=1)
        serving = self.field.serving(shape, rows)
        fullest = np.sort(np.where(serving, free, MILLI + 1), axis=1)[:, : shape.devices]
        broken = (fullest == MILLI).sum(axis=1)
        shared = np.maximum(TOP - (fullest * 100 // MILLI).sum(axis=1) // 10, TOP // 2)
        used = np.maximum(TOP // 2 - broken, TOP // 3)
        empty = np.maximum(TOP // 3 - idle, idle)
        scores: Ints = np.where(idle == self.field.columns[rows], empty, np.where(broken > 0, used, shared))
        return scores


class Clustering(Rule):
    """Work of one size together: machines that hold only its size, then those that hold it too, then empty ones."""

    name = "clustering"

    def __init__(self, field: Field, arrivals: tuple[Arrival, ...], seed: int) -> None:
        super().__init__(field, arrivals, seed)
        self._holds: defaultdict[int, set[int]] = defaultdict(set)

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if shape.devices:
            self._holds[row].add(_size(shape))
        return super().devices(shape, row)

    def score(self, shape: Shape, rows: Ints) -> Ints:
        if not shape.devices:
            return np.zeros(rows.size, np.int64)
        quarter = TOP // 4
        fuller = quarter * (MOST_GPU - self.field.room.gpus[rows]) // MOST_GPU
        kinds = [self._holds[row] for row in rows.tolist()]
        size = _size(shape)
        steps = [(3 if len(held) == 1 else 2) if size in held else (0 if held else 1) for held in kinds]
        return fuller + quarter * np.array(steps, np.int64)


def _size(shape: Shape) -> int:
    """What Clustering tells apart: parts of a device (0), and how many devices."""
    return 0 if shape.part else shape.devices


class Chance(Rule):
    """Any node, and any device of it."""

    name = "random"

    def node(self, shape: Shape) -> int | None:
        rows = (self.scores(shape) != NOWHERE).nonzero()[0]
        return int(rows[self.chance.randrange(rows.size)]) if rows.size else None

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if not shape.part:
            return super().devices(shape, row)
        fits = self.field.serving(shape, np.array([row]))[0].nonzero()[0].tolist()
        return (self.chance.choice(fits),)

    def score(self, shape: Shape, rows: Ints) -> Ints:
        return np.zeros(rows.size, np.int64)
