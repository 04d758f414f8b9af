"""Consolidate: move running work so that waiting work fits. Everything that is moved finds a place; nobody loses."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from gpumax.model.decision import Cause
from gpumax.model.workload import ACTIVE
from gpumax.policy.admit import barrier
from gpumax.policy.ask import Ask
from gpumax.policy.branch import sign
from gpumax.policy.gang import Gang, Want
from gpumax.policy.ledger import Bools, Room
from gpumax.policy.pool import pool_of
from gpumax.policy.rights import Rights
from gpumax.policy.runtime import preempt_ms, reclaim_ms, sides
from gpumax.policy.take import take
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally
from gpumax.policy.world import World
from gpumax.units import MILLI


def consolidate(world: World) -> None:
    """Serve waiting work by moves alone; what stays unserved stays in `world.waiting`."""
    if not world.held:
        return
    ground = _Ground(world)
    gangs = [gang for gang in world.waiting if not gang.incomplete and ground.could_hold(gang.chunk())]
    take(world, lambda gang, wants: Peace(ground, gang, wants), gangs)


class _Ground:
    """What all attempts of one pass know: who could be moved at all, and what was tried in vain."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.vain: set[object] = set()
        self.timed = any(
            queue.reclaim_min_runtime_ms or queue.preempt_min_runtime_ms for queue in world.snapshot.queues
        )
        self._movable: Bools | None = None
        self._free = [0, 0, 0]  # what is free in all
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

    def _can_move(self, part: Part, homes: dict[Ask, bool], spread: Bools) -> bool:
        for task in part.tasks:
            ask = self.world.asks.of(part.workload, task)
            if ask not in homes:
                homes[ask] = self._has_home(ask)
            if not homes[ask]:
                return False
        return not any(spread[held.row] for held in part.helds)

    def _has_home(self, ask: Ask) -> bool:
        room, fits = self.world.ledger.now, self.world.fits
        return any(fits.fitting(room, ask, at).any() for at in range(len(ask.gpu)))


def _least_milli(ask: Ask) -> int:
    """At least what an ask takes of devices; of memory nobody knows before it is placed, nor of slices."""
    sizes = [0 if gpu is None or gpu.memory_mib else gpu.devices * min(gpu.milli, MILLI) for gpu in ask.gpu]
    return min(sizes)


class Peace(Rights):
    """The rules of consolidate: preemptible work of any queue moves, past its minimum runtime, and goes on elsewhere.

    What queues hold stays the same, so shares say nothing here. The minimum runtime is that of preempt for work of the
    asker's own queue, that of reclaim for others: what protects from being evicted protects from being moved.
    """

    cause: ClassVar[Cause] = "consolidate"
    weighs: ClassVar[bool] = False
    moves: ClassVar[bool] = True

    def __init__(self, ground: _Ground, gang: Gang, wants: list[Want]) -> None:
        super().__init__(gang, wants, ())
        self._ground = ground
        self._wants = wants
        runs = any(task.state in ACTIVE for task in gang.workload.tasks)
        self._own = gang.workload.name if runs else ""
        self._problem = (self.key(), sign(wants), self._own)

    def eligible(self, gang: Gang) -> bool:
        """Whatever its limits, and where it is non-preemptible its quota, allow; not what was tried in vain for others."""
        if barrier(gang.account, self.asked, preemptible=gang.workload.preemptible) is not None:
            return False
        return self._problem not in self._ground.vain and self._ground.could_hold(self._wants)

    def give_up(self) -> None:
        """Nobody who asks the same needs to try."""
        self._ground.vain.add(self._problem)

    def key(self) -> object:
        """Only minimum runtimes make a difference between queues."""
        return self.asker.index if self._ground.timed else -1

    def only(self) -> Bools | None:
        """Who can be moved at all."""
        return self._ground.movable()

    def bound(self, account: Account, resource: int) -> int:
        """Its limit, which no move touches."""
        return account.limit[resource]

    def narrowed(self) -> tuple[Account | None, ...]:
        """Anywhere."""
        return (None,)

    def may_be_asked(self, account: Account, kinds: tuple[int, ...]) -> bool:
        """Work of any queue."""
        return True

    def protected_ms(self, victim: Account) -> int:
        """As from preempt in the asker's own queue, else as from reclaim."""
        return preempt_ms(victim) if victim is self.asker else reclaim_ms(sides(self.asker, victim)[1])

    def may_go(self, tally: Tally, part: Part) -> bool:
        """Everything but the asker's own work, which what waits is to join."""
        return part.workload.name != self._own

    def may_give(self, tally: Tally, account: Account) -> bool:
        """Always."""
        return True

    def height(self, tally: Tally, account: Account, more: float) -> float:
        """Nobody ends lower."""
        return 0.0
