"""Allocate: give free room to waiting work in fair order. Nobody moves."""

from __future__ import annotations

from gpumax.policy.admit import barrier
from gpumax.policy.gang import total
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.world import World


def allocate(world: World) -> None:
    """Place what fits; what doesn't stays in `world.waiting`."""
    placer = Placer(world.fits, world.scores)
    order = Order(world.waiting)
    left = []
    while (gang := order.pop()) is not None:
        chunk = gang.chunk()
        more = False
        found = None
        if (
            not gang.incomplete
            and barrier(gang.account, total(chunk), preemptible=gang.workload.preemptible) is None
        ):
            found = placer.place(world.ledger, chunk)
        if found is None:
            left.append(gang)
        else:
            world.ledger, spots = found
            more = world.place(gang, spots)
        order.done(gang, again=more)
    world.waiting = left
