"""Allocate: give free room to waiting work in fair order. Nobody moves."""

from __future__ import annotations

from gpumax.policy.admit import barrier
from gpumax.policy.gang import Gang, Spot, total
from gpumax.policy.ledger import Ledger
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.world import World


def allocate(world: World) -> None:
    """Place what fits; what doesn't stays in `world.waiting`."""
    placer = Placer(world.fits, world.scores)
    order = Order(world.waiting)
    left = []
    while (gang := order.pop()) is not None:
        more = False
        may = not gang.incomplete and gang.workload.name not in world.ended
        found = _find(world, placer, gang) if may else None
        if found is None:
            left.append(gang)
        else:
            world.ledger, spots = found
            more = world.place(gang, spots)
        order.done(gang, again=more)
    world.waiting = left


def _find(world: World, placer: Placer, gang: Gang) -> tuple[Ledger, list[Spot]] | None:
    """Places for the gang's next chunk that its queue, and those above, allow."""
    for wants in world.variants(gang.chunk()):
        if barrier(gang.account, total(wants), preemptible=gang.workload.preemptible) is None:
            found = placer.place(world.ledger, wants)
            if found is not None:
                return found
    return None
