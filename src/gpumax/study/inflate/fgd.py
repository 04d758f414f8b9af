"""Fragmentation gradient descent: where the fewest fragments come to be."""

from __future__ import annotations

import numpy as np

from gpumax.model.trace import Arrival
from gpumax.policy.nodes import Ints
from gpumax.study.inflate.field import Field, Shape, shape_of
from gpumax.study.inflate.measure import Floats, Measure, typical
from gpumax.study.inflate.rules import TOP, Rule
from gpumax.units import MILLI


class Fgd(Rule):
    """The rule of the paper: its score is a whole number, and most nodes are equal by it."""

    name = "fgd"

    def __init__(self, field: Field, arrivals: tuple[Arrival, ...], seed: int) -> None:
        super().__init__(field, arrivals, seed)
        self._measure = Measure(field, typical(map(shape_of, arrivals)))

    def score(self, shape: Shape, rows: Ints) -> Ints:
        if shape.part:
            best: Ints = self._each(shape, rows).max(axis=1)
            return best
        before = self._measure.fragments(rows)
        return _scored(before - self._measure.after(rows, shape.cpu, self._taken(shape, rows)))

    def devices(self, shape: Shape, row: int) -> tuple[int, ...]:
        if shape.part:
            return (int(self._each(shape, np.array([row]))[0].argmax()),)
        return super().devices(shape, row)

    def _each(self, shape: Shape, rows: Ints) -> Ints:
        """The score of each device; -1 where the shape doesn't fit."""
        need = self.field.usable(shape)[1][rows]
        before = self._measure.fragments(rows)[:, None]
        scores = _scored(before - self._measure.after_each(rows, shape.cpu, need))
        return np.where(self.field.serving(shape, rows), scores, -1)

    def _taken(self, shape: Shape, rows: Ints) -> Ints:
        """What it takes of each device: of the fullest that fit."""
        fits = self.field.serving(shape, rows)
        free = np.where(fits, self.field.room.devices[rows], MILLI + 1)
        ranks = free.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        taken: Ints = np.where(fits & (ranks < shape.devices), self.field.usable(shape)[1][rows], 0)
        return taken


def _scored(fewer: Floats) -> Ints:
    """The score of so many milli-devices of fragments less."""
    scores: Ints = (TOP / (1.0 + np.exp(-fewer / MILLI))).astype(np.int64)
    return scores
