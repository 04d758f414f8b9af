"""Allocate: give free room to waiting work in fair order. Nobody moves."""

from __future__ import annotations

from collections.abc import Callable

from gpumax.policy.admit import barrier
from gpumax.policy.gang import Gang, Spot, total
from gpumax.policy.gather import needy
from gpumax.policy.order import Order
from gpumax.policy.place import Placer
from gpumax.policy.reserve import Reservations
from gpumax.policy.tree import Account, Vector
from gpumax.policy.world import World

Within = Callable[[Account, Vector], bool]
"""Whether a queue may hold so much more."""


def allocate(world: World, *, reserve: bool = True, within: Within | None = None) -> None:
    """Place what fits; what doesn't stays in `world.waiting`. reserve: keep room for those who have waited for long. within:
    whether a queue may hold so much more; None: as far as its limits go.

    Whom the decision before promised what others leave comes first: else those ahead of it would take that, and more would
    have to leave for it, and so on without end.
    """
    giving = _Giving(world, within)
    if reserve:
        world.reserved.clear()
    if world.promises:
        promised = [gang for gang in world.waiting if gang.promised()]
        others = [gang for gang in world.waiting if not gang.promised()]
        world.waiting = others + giving.out(promised, Gang.promised)
    world.waiting = giving.out(world.waiting, reserve=reserve)
    while world.ties is not None and giving.gave:
        # Who needs others around it is asked again when somebody has come.
        lonely = [gang for gang in world.waiting if needy(gang.chunk())]
        others = [gang for gang in world.waiting if not needy(gang.chunk())]
        world.waiting = others + giving.out(lonely, reserve=reserve)


class _Giving:
    """Gives out free room. gave: whether it did when it was asked last."""

    def __init__(self, world: World, within: Within | None) -> None:
        self._world = world
        self._within = within
        self._placer = Placer(world.fits, world.scores)
        self._reservations = Reservations(world)
        self.gave = False

    def out(
        self, gangs: list[Gang], may: Callable[[Gang], bool] = lambda _: True, *, reserve: bool = False
    ) -> list[Gang]:
        """Place these in fair order; who has more to place is left. may: whether a gang that got something may go on."""
        world, left = self._world, []
        self.gave = False
        order = Order(gangs)
        while (gang := order.pop()) is not None:
            more = False
            spots = (
                self._find(gang) if not gang.incomplete and gang.workload.name not in world.ended else None
            )
            if spots is not None:
                self.gave, more = True, world.place(gang, spots)
            if spots is None or (more and not may(gang)):
                left.append(gang)
                more = False
            if spots is None:
                if reserve:
                    self._reservations.consider(gang)
                if self._answers_for_others(gang, reserve=reserve):
                    left += order.alike(gang)
            order.done(gang, again=more)
        return left

    def _answers_for_others(self, gang: Gang, *, reserve: bool) -> bool:
        """Whether those who ask the same after a gang that was refused are refused as well: room only shrinks, and queues only fill up.

        Not where each has a story of its own: for how long it would run counts where room is kept, and so does who is near it.
        """
        world, kept = self._world, self._reservations
        if gang.incomplete or gang.workload.name in world.ended:
            return False
        if kept.binding or (reserve and not kept.closed(gang.account)):
            return False
        return world.ties is None or not needy(gang.chunk())

    def _find(self, gang: Gang) -> list[Spot] | None:
        """Places for the gang's next chunk that its queue, and those above, allow; they are in the ledger then."""
        if self._within is not None and not self._within(gang.account, gang.asked()):
            return None
        if self._reservations.binding:
            return self._reservations.find(gang)
        for wants in self._world.variants(gang.chunk()):
            if barrier(gang.account, total(wants), fixed=gang.fixed) is None:
                found = self._placer.place(self._world.ledger, wants)
                if found is not None:
                    self._world.ledger, spots = found
                    return spots
        return None
