"""Consolidate: move running work so that waiting work fits. Everything that is moved finds a place; nobody loses."""

from __future__ import annotations

from typing import ClassVar

from gpumax.model.decision import Cause
from gpumax.model.workload import ACTIVE
from gpumax.policy.admit import barrier
from gpumax.policy.branch import sign
from gpumax.policy.gang import Gang, Want
from gpumax.policy.gather import needy
from gpumax.policy.ground import Ground
from gpumax.policy.nodes import Bools
from gpumax.policy.rights import Rights
from gpumax.policy.runtime import preempt_ms, reclaim_ms, sides
from gpumax.policy.take import take
from gpumax.policy.tree import Account
from gpumax.policy.victims import Part, Tally
from gpumax.policy.world import World


def consolidate(world: World) -> None:
    """Serve waiting work by moves alone; what stays unserved stays in `world.waiting`."""
    if not world.held:
        return
    ground = Ground(world)
    gangs = [gang for gang in world.waiting if not gang.incomplete and ground.could_hold(gang.chunk())]
    take(world, lambda gang, wants: [Peace(ground, gang, wants), Shunting(ground, gang, wants)], gangs)


class Peace(Rights):
    """The rules of consolidate: preemptible work of any queue moves, past its minimum runtime, and goes on elsewhere.

    What queues hold stays the same, so shares say nothing here. The minimum runtime is that of preempt for work of the
    asker's own queue, that of reclaim for others: what protects from being evicted protects from being moved.
    """

    cause: ClassVar[Cause] = "consolidate"
    weighs: ClassVar[bool] = False
    moves: ClassVar[bool] = True

    def __init__(self, ground: Ground, gang: Gang, wants: list[Want]) -> None:
        super().__init__(gang, wants, ())
        self._ground = ground
        self._wants = wants
        runs = any(task.state in ACTIVE for task in gang.workload.tasks)
        self._own = gang.workload.name if runs else ""
        self._problem = (type(self), self.key(), sign(wants), self._own)

    def eligible(self, gang: Gang) -> bool:
        """Whatever its limits, and where it is non-preemptible its quota, allow; not what was tried in vain for others."""
        if barrier(gang.account, self.asked, fixed=gang.fixed) is not None:
            return False
        return self._problem not in self._ground.vain and self._ground.could_hold(self._wants)

    def give_up(self) -> None:
        """Nobody who asks the same needs to try."""
        if not needy(self._wants):  # whom others need may come after them
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


class Shunting(Peace):
    """The same where whoever moves may find no room before others have moved on: looked for where few could move."""

    shunts: ClassVar[bool] = True

    def eligible(self, gang: Gang) -> bool:
        """Where few run, of whom some could move and others could not."""
        return self._ground.shuntable() and super().eligible(gang)

    def key(self) -> object:
        """Others may move than elsewhere."""
        return ("in turn", super().key())

    def only(self) -> Bools | None:
        """Whoever stands on no node of a spread pool."""
        return self._ground.loose()
