"""Who could be moved at all: what all attempts of one pass know that let running work find new places."""

from __future__ import annotations

from typing import Final

import numpy as np

from gpumax.policy.ask import Ask
from gpumax.policy.free import Room
from gpumax.policy.gang import Want
from gpumax.policy.nodes import Bools
from gpumax.policy.pool import pool_of
from gpumax.policy.victims import Part
from gpumax.policy.world import World
from gpumax.units import MILLI

FEW: Final = 16
"""Parts up to which moves in turn are looked for."""


class Ground:
    """What all attempts of one pass know: who could be moved at all, and what was tried in vain."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.vain: set[object] = set()
        self.timed = any(
            queue.reclaim_min_runtime_ms or queue.preempt_min_runtime_ms for queue in world.snapshot.queues
        )
        self._movable: Bools | None = None
        self._free: list[int] = []  # what is free in all
        self._stamp: tuple[Room, int] | None = None  # as of this room, after so many changes

    def could_hold(self, wants: list[Want]) -> bool:
        """Whether what is asked for is free in all, however it is scattered: nobody stops, so nothing else can serve."""
        room = self.world.ledger.later
        stamp = (room, len(room.touched))
        if self._stamp != stamp:
            is_open = self.world.nodes.open
            self._free = [int(free[is_open].sum()) for free in (room.gpus, room.cpu, room.memory)]
            self._stamp = stamp
        free = self._free
        return (
            sum([want.ask.cpu for want in wants]) <= free[1]
            and sum([want.ask.memory for want in wants]) <= free[2]
            and sum([_least_milli(want.ask) for want in wants]) <= free[0]
        )

    def movable(self) -> Bools:
        """The parts of which every task would find room elsewhere by itself, and that stand on no node of a spread pool.

        Looked up once: free room only shrinks while a pass goes on.
        """
        if self._movable is None:
            pool, spread = pool_of(self.world), self.world.scores.spread
            homes: dict[Ask, bool] = {}
            self._movable = np.array([self._can_move(part, homes, spread) for part in pool.parts], np.bool_)
        return self._movable

    def shuntable(self) -> bool:
        """Whether so few run that those may be looked at, too, who would find room elsewhere only once others have moved on."""
        if len(pool_of(self.world).parts) > FEW:
            return False
        movable = self.movable()
        return bool(movable.any()) and bool((self.loose() & ~movable).any())

    def loose(self) -> Bools:
        """The parts that stand on no node of a spread pool, whether or not they would find room elsewhere now."""
        spread = self.world.scores.spread
        return np.array([_is_loose(part, spread) for part in pool_of(self.world).parts], np.bool_)

    def _can_move(self, part: Part, homes: dict[Ask, bool], spread: Bools) -> bool:
        for task in part.tasks:
            ask = self.world.asks.of(part.workload, task)
            if ask not in homes:
                homes[ask] = self._has_home(ask)
            if not homes[ask]:
                return False
        return _is_loose(part, spread)

    def _has_home(self, ask: Ask) -> bool:
        room, fits = self.world.ledger.now, self.world.fits
        # Who keeps it away may move, too.
        return any(fits.roomy(room, ask, at).any() for at in range(len(ask.gpu)))


def _is_loose(part: Part, spread: Bools) -> bool:
    return not any(spread[held.row] for held in part.helds)


def _least_milli(ask: Ask) -> int:
    """At least what an ask takes of devices; of memory nobody knows before it is placed, nor of slices."""
    sizes = [0 if gpu is None or gpu.memory_mib else gpu.devices * min(gpu.milli, MILLI) for gpu in ask.gpu]
    return min(sizes)
