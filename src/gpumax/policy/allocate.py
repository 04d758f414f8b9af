"""Allocate: give free room to waiting work in fair order. Nobody moves."""

from __future__ import annotations

from gpumax.policy.admit import barrier
from gpumax.policy.gang import Gang, Spot, total
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.reserve import Reservations
from gpumax.policy.world import World


def allocate(world: World, *, reserve: bool = True) -> None:
    """Place what fits; what doesn't stays in `world.waiting`. reserve: keep room for those who have waited for long."""
    placer = Placer(world.fits, world.scores)
    reservations = Reservations(world)
    if reserve:
        world.reserved.clear()
    order = Order(world.waiting)
    left = []
    while (gang := order.pop()) is not None:
        more = False
        may = not gang.incomplete and gang.workload.name not in world.ended
        spots = _find(world, placer, reservations, gang) if may else None
        if spots is not None:
            more = world.place(gang, spots)
        else:
            left.append(gang)
            if reserve:
                reservations.consider(gang)
        order.done(gang, again=more)
    world.waiting = left


def _find(world: World, placer: Placer, reservations: Reservations, gang: Gang) -> list[Spot] | None:
    """Places for the gang's next chunk that its queue, and those above, allow; they are in the ledger then."""
    if reservations.binding:
        return reservations.find(gang)
    for wants in world.variants(gang.chunk()):
        if barrier(gang.account, total(wants), preemptible=gang.workload.preemptible) is None:
            found = placer.place(world.ledger, wants)
            if found is not None:
                world.ledger, spots = found
                return spots
    return None
