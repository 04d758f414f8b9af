"""What those who go leave beyond what was asked for: it is given out in the same decision."""

from __future__ import annotations

from collections.abc import Callable

from gpumax.policy.allocate import allocate
from gpumax.policy.ask import Ask
from gpumax.policy.gang import Gang
from gpumax.policy.pool import pool_of
from gpumax.policy.tree import Account, Vector
from gpumax.policy.world import World
from gpumax.units import UNLIMITED


def give_out(world: World, rows: list[int], full: Callable[[Account, Vector], bool]) -> None:
    """Place whoever fits on these nodes, where room has changed, or in queues that gave, and extras of gangs that were placed;
    the others were tried already. full: whether a queue may not hold so much more.
    """
    room, givers = world.ledger.later, _bounded_givers(world)

    def fits(ask: Ask) -> bool:
        # Whom others kept away may fit elsewhere, now that they have gone.
        return ask.filter.tied is not None or any(
            world.fits.fitting(room, ask, at)[rows].any() for at in range(len(ask.gpu))
        )

    able = {ask: fits(ask) for ask in {want.ask for gang in world.waiting for want in gang.chunk()}}

    def may(gang: Gang) -> bool:
        if gang.placed or not givers.isdisjoint(gang.account.path):
            return True
        return any(able[want.ask] for want in gang.chunk())

    others = [gang for gang in world.waiting if not may(gang)]
    world.waiting = [gang for gang in world.waiting if may(gang)]
    if world.waiting:
        allocate(world, reserve=False, within=lambda account, amounts: not full(account, amounts))
    world.waiting += others


def _bounded_givers(world: World) -> set[Account]:
    """The queues with a limit of which work has to stop: they may hold more again."""
    stopping = (part for part, going in pool_of(world).going.items() if not going.moved)
    return {
        account
        for account in {above for part in stopping for above in part.account.path}
        if min(account.limit) < UNLIMITED
    }
