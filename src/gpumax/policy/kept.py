"""Room that is kept for a gang from a moment on."""

from __future__ import annotations

from gpumax.policy.admit import exceeds
from gpumax.policy.free import Room
from gpumax.policy.gang import Gang, Spot
from gpumax.policy.held import Held
from gpumax.policy.tree import Account, Vector


class Kept:
    """One reservation.

    room: what is free at the moment, this gang's places taken; held, fixed: what the queues on its path hold then, it
    included, and what non-preemptible work of it.
    """

    __slots__ = ("amounts", "fixed", "gang", "held", "moment", "room", "spots")

    def __init__(self, gang: Gang, moment: int, spots: list[Spot], amounts: Vector, room: Room) -> None:
        self.gang = gang
        self.moment = moment
        self.spots = spots
        self.amounts = amounts
        self.room = room
        self.held: dict[Account, list[int]] = {}
        self.fixed: dict[Account, list[int]] = {}

    def outlived(self, end: int | None) -> bool:
        """Whether work that ends then, or nobody knows when, would still run at the moment."""
        return end is None or end > self.moment

    def beyond_quota(self, account: Account) -> bool:
        """Whether a queue on its path holds more than its quota at the moment, of what the gang asks for."""
        rows = zip(account.quota, self.held[account], self.amounts, strict=True)
        return any(amount > 0 and held > quota for quota, held, amount in rows)

    def forbids(self, account: Account, amounts: Vector, *, fixed: bool) -> bool:
        """Whether more work of a queue would leave too little of a limit, or of a quota, to the gang at its moment."""
        return any(
            exceeds(above.limit, held, amounts)
            or (fixed and exceeds(above.quota, self.fixed[above], amounts))
            for above, held in self.held.items()
            if above in account.path
        )

    def count(self, account: Account, amounts: Vector, helds: list[Held], *, fixed: bool) -> None:
        """Work that will still be there takes its room, and counts in its queues."""
        for held in helds:
            self.room.take(held)
        for above in account.path:
            if above in self.held:
                sums = (self.held[above], self.fixed[above]) if fixed else (self.held[above],)
                for each in sums:
                    each[:] = [before + more for before, more in zip(each, amounts, strict=True)]
