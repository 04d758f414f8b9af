"""Reservations: a gang that has waited for too long gets the earliest room that is known to come; others go around it.

Kept is the room of the first gang of a queue that waits for longer than `reserve_after`, MOST_KEPT of them a decision, in
fair order. Whoever comes after it may take what it doesn't need, or what it needs only when they have ended. It binds
this decision alone: the next one finds the same moment again, or an earlier one, as nobody has delayed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from gpumax.policy.admit import barrier, exceeds
from gpumax.policy.free import Room
from gpumax.policy.gang import Gang, Spot, Want, total
from gpumax.policy.held import summed
from gpumax.policy.kept import Kept
from gpumax.policy.ledger import Ledger
from gpumax.policy.place import Placer, awaited
from gpumax.policy.timeline import Timeline, end_ms
from gpumax.policy.tree import Account, Vector
from gpumax.policy.victims import Part
from gpumax.policy.world import World

MOST_KEPT: Final = 4
"""Reservations that one decision makes."""
MOST_SOUGHT: Final = 16
"""Gangs for which one decision looks for a moment."""


class Reservations:
    """The reservations of a decision while free room is given out."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._closed: set[Account] = {kept.gang.account for kept in world.kept}
        self._sought = 0
        self._grounds: dict[tuple[tuple[Kept, ...], bool], _Ground] = {}
        self._seen: list[Kept] = []

    def consider(self, gang: Gang) -> None:
        """A gang has found no room: keep the earliest room for it, where it waits at the head and has waited for long."""
        if gang.stage or gang.incomplete or gang.account in self._closed:
            return
        snapshot = self.world.snapshot
        waited_ms = snapshot.now_ms - gang.workload.submitted_ms
        if waited_ms <= snapshot.policy.reserve_after_ms or not self.world.census.timed():
            self._closed.add(gang.account)
            return
        if len(self.world.kept) >= MOST_KEPT or self._sought >= MOST_SOUGHT:
            return
        self._sought += 1
        found = _earliest(self.world, gang)
        if found is not None:
            self._closed.add(gang.account)
            self.world.kept = [*self.world.kept, found]

    def closed(self, account: Account) -> bool:
        """Whether nobody else of a queue is considered."""
        return account in self._closed

    @property
    def binding(self) -> bool:
        """Whether room is kept for anybody."""
        return bool(self.world.kept)

    def find(self, gang: Gang) -> list[Spot] | None:
        """Places for the gang's next chunk that delay nobody for whom room is kept; they are in the ledger then."""
        world, fixed = self.world, gang.fixed
        if world.kept is not self._seen:
            self._renew()
        for wants in world.variants(gang.chunk()):
            amounts = total(wants)
            if barrier(gang.account, amounts, fixed=fixed) is None:
                for crossed, end in self._ways(gang):
                    spots = self._within(gang, wants, amounts, crossed, end)
                    if spots is not None:
                        return spots
                self._blame(gang, wants)
        return None

    def _ways(self, gang: Gang) -> list[tuple[tuple[Kept, ...], int | None]]:
        """Whose moments it would outlive: if it starts now, and if it waits for others first, nobody knows how long."""
        others = [kept for kept in self.world.kept if kept.gang is not gang]
        end = end_ms(gang.workload, self.world.snapshot.now_ms)
        for_ever: tuple[tuple[Kept, ...], int | None] = (tuple(others), None)
        if end is None or gang.waits:
            return [for_ever]
        at_once = (tuple(kept for kept in others if kept.outlived(end)), end)
        return [at_once] if self.world.ledger.later is self.world.ledger.now else [at_once, for_ever]

    def _within(
        self, gang: Gang, wants: list[Want], amounts: Vector, crossed: tuple[Kept, ...], end: int | None
    ) -> list[Spot] | None:
        fixed = gang.fixed
        if any(kept.forbids(gang.account, amounts, fixed=fixed) for kept in crossed):
            return None
        ground = self._ground(crossed, waits=end is None)
        found = ground.placer.place(ground.ledger, wants)
        if found is None:
            return None
        spots = [_taken(self.world.ledger, spot) for spot in found[1]]
        counted = tuple(sum(spot.held.amounts[resource] for spot in spots) for resource in range(3))
        helds = [spot.held for spot in spots]
        for kept in crossed:
            kept.count(gang.account, counted, helds, fixed=fixed)
        rows = sorted({held.row for held in helds})
        for other in self._grounds.values():
            other.follow(self.world.ledger, rows)
        return spots

    def _ground(self, crossed: tuple[Kept, ...], *, waits: bool) -> _Ground:
        key = (crossed, waits)
        known = self._grounds.get(key)
        if known is None:
            known = self._grounds[key] = _Ground(self.world, crossed, waits=waits)
        return known

    def _blame(self, gang: Gang, wants: list[Want]) -> None:
        """Note whom it waits for, where it would fit if no room were kept."""
        others = [kept for kept in self.world.kept if kept.gang is not gang]
        if others and self._would_fit((), wants):
            alone = (kept for kept in others if not self._would_fit((kept,), wants))
            self.world.reserved[gang.workload.name] = next(alone, others[0])

    def _would_fit(self, crossed: tuple[Kept, ...], wants: list[Want]) -> bool:
        ground = self._ground(crossed, waits=True)
        if ground.placer.hopeless(wants):
            return False
        return ground.placer.place(ground.ledger.copy(), wants) is not None

    def _renew(self) -> None:
        """Look at the rooms anew: a reservation came, or is not needed any more."""
        self._seen = self.world.kept
        self._grounds.clear()
        timeline = Timeline(self.world)
        for kept in self.world.kept:
            _look(self.world, kept, timeline)


class _Ground:
    """The room for work that outlives these moments: what is free now and then. waits: also what others have yet to leave."""

    def __init__(self, world: World, crossed: tuple[Kept, ...], *, waits: bool) -> None:
        self._crossed = crossed
        self._waits = waits and world.ledger.later is not world.ledger.now
        now = _capped(world.ledger.now, crossed)
        later = _capped(world.ledger.later, crossed) if self._waits else now
        self.ledger = world.ledger.on(now, later)
        self.placer = Placer(world.fits, world.scores)

    def follow(self, ledger: Ledger, rows: list[int]) -> None:
        """Room on these nodes was taken."""
        for row in rows:
            self.ledger.now.cap(row, ledger.now)
            if self._waits:
                self.ledger.later.cap(row, ledger.later)
            for kept in self._crossed:
                self.ledger.now.cap(row, kept.room)
                if self._waits:
                    self.ledger.later.cap(row, kept.room)
        self._crowd(self.ledger.now, ledger.now)
        if self._waits:
            self._crowd(self.ledger.later, ledger.later)

    def _crowd(self, room: Room, whole: Room) -> None:
        """Who stands where, as it is now in the decision's own room."""
        if whole.crowd is None:
            return
        room.crowd = whole.crowd.copy()
        for kept in self._crossed:
            if kept.room.crowd is not None:
                room.crowd.cap(kept.room.crowd)


def _capped(room: Room, crossed: tuple[Kept, ...]) -> Room:
    if not crossed:
        return room.copy()
    for kept in crossed:
        room = room.capped(kept.room)
    return room


def _taken(ledger: Ledger, spot: Spot) -> Spot:
    """The same place on the ledger of the decision, with whom it really waits for."""
    if not spot.after:
        ledger.hold(spot.held)
        return spot
    ledger.promise(spot.held)
    return replace(spot, after=awaited(ledger, spot.held))


def _earliest(world: World, gang: Gang) -> Kept | None:
    """The earliest moment at which the gang fits beside those for whom room is kept already; None where none is known."""
    timeline = Timeline(world)
    moments = timeline.moments
    best = _at(world, gang, timeline, moments[-1]) if moments else None
    if best is None:
        return None
    first, last = 0, len(moments) - 1
    while first < last:
        middle = (first + last) // 2
        found = _at(world, gang, timeline, moments[middle])
        if found is None:
            first = middle + 1
        else:
            last, best = middle, found
    return best


def _at(world: World, gang: Gang, timeline: Timeline, moment: int) -> Kept | None:
    """The reservation at a moment, where the gang fits then and delays none that was made before."""
    room = timeline.room(world.ledger.later, moment)
    end = None if gang.workload.max_duration_ms is None else moment + gang.workload.max_duration_ms
    for other in world.kept:
        if other.moment <= moment:
            for spot in other.spots:
                room.take(spot.held)
        elif other.outlived(end):
            room = room.capped(other.room)
    fixed = gang.fixed
    for wants in world.variants(gang.chunk()):
        amounts = total(wants)
        found = Kept(gang, moment, [], amounts, room)
        _count(found, timeline, world.kept)
        if any(
            _exceeds(account.limit, found.held[account], amounts)
            or (fixed and _exceeds(account.quota, found.fixed[account], amounts))
            for account in gang.account.path
        ):
            continue
        placed = Placer(world.fits, world.scores).place(world.ledger.on(room, room), wants)
        if placed is not None:
            found.spots = placed[1]
            return found
    return None


def _exceeds(bounds: Vector, used: list[int], amounts: Vector) -> bool:
    return any(amount > 0 and held > bound for bound, held, amount in zip(bounds, used, amounts, strict=True))


def _count(kept: Kept, timeline: Timeline, others: Iterable[Kept]) -> None:
    """What the queues on a gang's path hold at its moment, it included, and those for whom room is kept from before."""
    coming = [other for other in others if other is not kept and other.moment <= kept.moment]
    for account in kept.gang.account.path:
        for fixed, sums in ((False, kept.held), (True, kept.fixed)):
            held = timeline.held(account, kept.moment, fixed=fixed)
            for other in (kept, *coming):
                if account in other.gang.account.path and (other.gang.fixed or not fixed):
                    held = [before + more for before, more in zip(held, other.amounts, strict=True)]
            sums[account] = held


def _look(world: World, kept: Kept, timeline: Timeline) -> None:
    """What is free at the moment of a reservation, and what its queues hold, as things stand."""
    kept.room = timeline.room(world.ledger.later, kept.moment)
    for other in world.kept:
        if other.moment <= kept.moment or other is kept:
            for spot in other.spots:
                kept.room.take(spot.held)
    _count(kept, timeline, world.kept)


def delayed(
    world: World, gang: Gang, ledger: Ledger, spots: list[Spot], moved: dict[Part, list[Spot]]
) -> Kept | None:
    """A reservation that would come to nothing if the gang took these places, which are in the ledger.

    moved: who would go for that, with the new places of those who move.
    """
    if not world.kept:
        return None
    gone = {task.name for part in moved for task in part.tasks}
    timeline = Timeline(world, gone, max(kept.moment for kept in world.kept))
    waits = gang.waits or any(spot.after for spot in spots)
    end = None if waits else end_ms(gang.workload, world.snapshot.now_ms)
    others = [kept for kept in world.kept if kept.gang is not gang and not gives_way(kept, gang)]
    for kept in others:
        room = timeline.room(ledger.later, kept.moment)
        stays = kept.outlived(end)
        mine = [] if stays else [spot.held for spot in spots]
        for held in mine:
            room.take(held, sign=-1)
        for other in others:
            if other.moment <= kept.moment or other is kept:
                for spot in other.spots:
                    room.take(spot.held)
        if any(_overfull(room, spot) for spot in kept.spots):
            return kept
        if stays and _forbidden(kept, timeline, others, gang, spots, moved):
            return kept
    return None


def gives_way(kept: Kept, gang: Gang) -> bool:
    """Whether a reservation is no reason to keep a gang from what is its own.

    The gang's chunk stays within the quota of its queue, and of each above it up to the common one; of a queue on the other side
    of that, the quota would be exceeded by what room is kept for.
    """
    asked = total(gang.chunk())
    theirs = kept.gang.account.path
    mine = [account for account in gang.account.path if account not in theirs]
    beyond = [account for account in theirs if account not in gang.account.path]
    return (
        bool(mine)
        and not any(exceeds(account.quota, account.allocated, asked) for account in mine)
        and any(kept.beyond_quota(account) for account in beyond)
    )


def renounce(world: World, gang: Gang) -> None:
    """A gang takes what is its own: reservations that had to give way to it may have come to nothing, and are made anew."""
    left = [kept for kept in world.kept if kept.gang is gang or not gives_way(kept, gang)]
    if len(left) < len(world.kept):
        world.kept, world.released = left, True


def _forbidden(
    kept: Kept,
    timeline: Timeline,
    others: list[Kept],
    gang: Gang,
    spots: list[Spot],
    moved: dict[Part, list[Spot]],
) -> bool:
    """Whether places would leave too little of a limit, or of a quota, once those who stop have stopped."""
    then = Kept(kept.gang, kept.moment, kept.spots, kept.amounts, kept.room)
    _count(then, timeline, [other for other in others if other is not kept])
    for part in moved:
        if not moved[part]:
            then.count(part.account, tuple(-amount for amount in part.amounts), [], fixed=False)
    return then.forbids(gang.account, summed([spot.held for spot in spots]), fixed=gang.fixed)


def _overfull(room: Room, spot: Spot) -> bool:
    held, row = spot.held, spot.held.row
    return bool(
        room.cpu[row] < 0
        or room.memory[row] < 0
        or room.tasks[row] < 0
        or any(room.extended[name][row] < 0 for name, _ in held.extended if name in room.extended)
        or any(room.devices[row, column] < 0 for column, _ in held.devices)
        or (held.slices and not room.sound(row))
        or (held.tied is not None and room.crowd is not None and room.crowd.clashes(held.tied, row))
    )
