"""The one door: a scenario is filled up under one rule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from time import perf_counter
from typing import ClassVar, Final, Protocol

import numpy as np

from gpumax.errors import BadFile, Fault
from gpumax.model.study import Arrived, Effort, Run, Scenario, Use
from gpumax.model.trace import Arrival
from gpumax.study.inflate.draw import drawn, milli, shuffled
from gpumax.study.inflate.fgd import Fgd
from gpumax.study.inflate.field import Field, shape_of
from gpumax.study.inflate.measure import Measure, typical
from gpumax.study.inflate.product import Gpumax, GpumaxPack
from gpumax.study.inflate.rules import BestFit, BestFitWhole, Chance, Clustering, DotProduct, Packing
from gpumax.units import MILLI

Progress = Callable[[float], None]


class Filler(Protocol):
    """What fills a field. `arrivals`: what typically comes, for rules that look at it."""

    name: ClassVar[str]

    def __init__(self, field: Field, arrivals: tuple[Arrival, ...], seed: int) -> None: ...

    def place(self, arrival: Arrival) -> int | None:
        """Place an arrival; the milli-devices that it asked for and got, None where it fits nowhere."""


RULES: Final[dict[str, type[Filler]]] = {
    rule.name: rule
    for rule in (
        Fgd, BestFit, DotProduct, Packing, Clustering, Chance, BestFitWhole, Gpumax, GpumaxPack,
    )
}  # fmt: skip
"""What may fill a cluster, by the name that a scenario calls it."""

HOUR_MS: Final = 3_600_000


def inflate(scenario: Scenario, policy: str, seed: int, progress: Progress) -> Run:
    """What came of it: arrivals come one by one in an order drawn from the seed, one attempt each, and nobody leaves.

    By percent of the capacity that was asked for so far: means over the arrivals that round to it, or what was before where none
    does. progress may raise KeyboardInterrupt; the run then says what came until then.
    """
    rule = RULES.get(policy)
    if rule is None:
        raise BadFile([Fault("policies", None, policy, f"some of {', '.join(RULES)}")])
    field = Field(shuffled(scenario.nodes, seed))
    arrivals = drawn(scenario.arrivals, field.capacity * scenario.arrived // MILLI, seed)
    filling = _Filling(
        field, rule(field, scenario.arrivals, seed), Measure(field, typical(map(shape_of, scenario.arrivals)))
    )
    finished = filling.fill(arrivals, progress)
    return filling.run(arrivals, policy, seed, scenario.arrived * 100 // MILLI if finished else None)


class _Filling:
    """A cluster being filled, and the means so far."""

    def __init__(self, field: Field, rule: Filler, measure: Measure) -> None:
        self._field, self._rule, self._measure = field, rule, measure
        self._each = measure.fragments(np.arange(len(field.nodes.nodes)))
        self._seen = 0
        self._asked = self._given = self._placed = 0
        self._allocated: defaultdict[int, list[float]] = defaultdict(list)
        self._fragments: defaultdict[int, list[float]] = defaultdict(list)
        self._effort = Effort(0, 0.0, 0.0)

    def fill(self, arrivals: list[Arrival], progress: Progress) -> bool:
        """Whether all of them had their attempt."""
        step = max(len(arrivals) // 100, 1)
        for at, arrival in enumerate(arrivals):
            if at % step == 0:
                try:
                    progress(at / len(arrivals))
                except KeyboardInterrupt:
                    return False
            self._attempt(arrival)
        return True

    def _attempt(self, arrival: Arrival) -> None:
        begun = perf_counter()
        got = self._rule.place(arrival)
        self._count(perf_counter() - begun)
        self._asked += milli(arrival)
        if got is not None:
            self._given += got
            self._placed += arrival.devices > 0
        self._look()
        capacity = self._field.capacity
        percent = round(100 * self._asked / capacity)
        self._allocated[percent].append(self._given / capacity)
        self._fragments[percent].append(float(self._each.sum()) / capacity)

    def _look(self) -> None:
        """The fragments of the nodes that changed."""
        touched = self._field.room.touched
        if len(touched) > self._seen:
            rows = np.array(touched[self._seen :], np.int64)
            self._each[rows] = self._measure.fragments(rows)
            self._seen = len(touched)

    def _count(self, seconds: float) -> None:
        was = self._effort
        self._effort = Effort(was.cycles + 1, was.seconds + seconds, max(was.seconds_max, seconds))

    def run(self, arrivals: list[Arrival], policy: str, seed: int, last: int | None) -> Run:
        """What came of it. last: the percent at which it ends; None where it was interrupted."""
        field = self._field
        hours = sum(milli(arrival) * arrival.duration_ms for arrival in arrivals) / MILLI / HOUR_MS
        empty = Field(field.nodes.nodes)
        every = np.arange(len(field.nodes.nodes))
        never = {shape for shape in set(map(shape_of, arrivals)) if not empty.fitting(shape, every).any()}
        held = (field.room.devices < MILLI) & field.nodes.healthy
        return Run(
            policy=policy,
            seed=seed,
            gpus=field.capacity // MILLI,
            arrived=Arrived(len(arrivals), hours, sum(shape_of(arrival) in never for arrival in arrivals)),
            use=Use(self._given / field.capacity, float(held.sum()) * MILLI / field.capacity),
            allocation=_means(self._allocated, last),
            fragments=_means(self._fragments, last),
            placed=self._placed,
            finished=last is not None,
            scheduler=self._effort,
        )


def _means(rows: dict[int, list[float]], last: int | None) -> dict[str, float]:
    """By percent, without gaps."""
    found, value = {}, 0.0
    for percent in range(max(last or 0, *rows, 0) + 1):
        if percent in rows:
            value = sum(rows[percent]) / len(rows[percent])
        found[str(percent)] = value
    return found
