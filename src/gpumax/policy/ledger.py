"""The scratch copy of the cluster's room that one decision writes on.

A what-if works on `copy()` and is thrown away; nothing is ever undone. Room is kept twice: `now`, and `later`, when
everything that is leaving has left; they are one object while nothing leaves. `now` never exceeds `later`: what is
promised to a task that waits for others to leave is nobody else's.
"""

from __future__ import annotations

from gpumax.model.workload import DeviceShare
from gpumax.policy.crowd import Crowd
from gpumax.policy.free import Room
from gpumax.policy.held import Held, together
from gpumax.policy.nodes import Nodes
from gpumax.policy.slices import added, all_fit
from gpumax.policy.ties import Tied, Ties


class Ledger:
    """Room now and later, and who is leaving.

    fresh: those that were placed on it and are tied to others; needy, firsts: those of them that need others around them,
    and those that would, but were the first of their kind.
    """

    def __init__(self, nodes: Nodes, ties: Ties | None = None, room: Room | None = None) -> None:
        """room: what is free, where it is known; all of the nodes unless it is given."""
        self.nodes = nodes
        self.now = Room(nodes, ties) if room is None else room
        self.later = self.now
        self.leaving: dict[int, tuple[Held, ...]] = {}
        self.fresh = None if ties is None else Crowd(ties)
        self.needy: tuple[Held, ...] = ()
        self.firsts: tuple[Held, ...] = ()
        self.moving: tuple[Held, ...] = ()
        self.promised: set[int] = set()  # rows on which somebody is placed to start when others have left
        self.stirred: set[int] = set()  # those of them on which somebody starts at once who came later

    def copy(self) -> Ledger:
        """A ledger to try things on."""
        other = object.__new__(Ledger)
        other.nodes = self.nodes
        other.now = self.now.copy()
        other.later = other.now if self.later is self.now else self.later.copy()
        other.leaving = dict(self.leaving)
        other.fresh = None if self.fresh is None else self.fresh.copy()
        other.needy, other.firsts, other.moving = self.needy, self.firsts, self.moving
        other.promised, other.stirred = set(self.promised), set(self.stirred)
        return other

    def on(self, now: Room, later: Room) -> Ledger:
        """A ledger of its own with other rooms."""
        other = object.__new__(Ledger)
        other.nodes, other.now, other.later, other.leaving = self.nodes, now, later, dict(self.leaving)
        other.fresh = None if self.fresh is None else self.fresh.copy()
        other.needy, other.firsts, other.moving = self.needy, self.firsts, self.moving
        other.promised, other.stirred = set(self.promised), set(self.stirred)
        return other

    def settle(self, helds: list[Held], leaving: list[Held]) -> None:
        """What tasks hold when the decision begins; `leaving` are among them."""
        self.now.take_all(helds)
        if self.later is not self.now:
            self.later.take_all(helds)
        for held in leaving:
            self.leave(held)

    def hold(self, held: Held) -> None:
        """A task that stays, or one that is placed to start now."""
        self.now.take(held)
        if self.later is not self.now:
            self.later.take(held)
        if held.tied is not None:
            self._enter(held, held.tied)
        if held.row in self.promised:
            self.stirred.add(held.row)

    def expect(self, held: Held) -> None:
        """A task that was placed, but moves: it keeps others away, and satisfies nobody before it is there."""
        if held.tied is not None and self.fresh is not None:
            self._miss(held)
            self.moving = (*self.moving, held)
            self._forget(held)

    def _miss(self, held: Held, sign: int = 1) -> None:
        for room in (self.now,) if self.later is self.now else (self.now, self.later):
            if held.tied is not None and room.crowd is not None:
                room.crowd.miss(held.tied, held.row, sign)

    def _forget(self, held: Held) -> None:
        """Ask no more whether it has around it whom it needs."""
        self.needy = tuple(other for other in self.needy if other is not held)
        self.firsts = tuple(other for other in self.firsts if other is not held)

    def free(self, held: Held, *, waited: bool = False) -> None:
        """Take back what `hold` gave; waited: what `promise` gave, which leaves `now` with less than there may be."""
        if any(other is held for other in self.moving):
            self._miss(held, -1)
            self.moving = tuple(other for other in self.moving if other is not held)
        if not waited:
            self.now.take(held, sign=-1)
        if self.later is not self.now:
            self.later.take(held, sign=-1)
        if held.tied is not None and self.fresh is not None:
            self.fresh.count(held.tied, held.row, -1)
            self._forget(held)

    def promise(self, held: Held) -> None:
        """A task that is placed to start when others have left."""
        self.later.take(held)
        self.now.cap(held.row, self.later)
        self.promised.add(held.row)
        if held.tied is not None:
            if self.now.crowd is not None and self.now is not self.later:
                self.now.crowd.expect(held.tied, held.row)
            self._enter(held, held.tied)

    def _enter(self, held: Held, tied: Tied) -> None:
        if self.fresh is not None:
            self.fresh.count(tied, held.row)
            crowd = self.later.crowd
            if tied.needs and crowd is not None:
                if crowd.first(tied, held.row):
                    self.firsts = (*self.firsts, held)
                else:
                    self.needy = (*self.needy, held)

    def kept(self) -> bool:
        """Whether everyone who was placed has around them whom they need, once all have left, and come one after the other."""
        return not any(map(self.lonely, self.needy)) and (not self.leaving or self._can_come())

    def _can_come(self) -> bool:
        """Whether those who need others could come one after the other: not that each has only those who need it in turn."""
        crowd, left = self.later.crowd, self.needy
        if crowd is None or len(left) < 2:
            return True
        crowd = crowd.copy()
        crowd.count_all([(held.tied, held.row) for held in left if held.tied is not None], -1)
        before = len(left) + 1
        while left and len(left) < before:
            before, rest = len(left), list[Held]()
            for held in left:
                if held.tied is not None and crowd.meets(held.tied, held.row):
                    crowd.count(held.tied, held.row)
                else:
                    rest.append(held)
            left = tuple(rest)
        return not left

    def lonely(self, held: Held) -> bool:
        """Whether somebody who was placed has not around it whom it needs, once all have left and come."""
        crowd = self.later.crowd
        return held.tied is not None and crowd is not None and crowd.lonely(held.tied, held.row)

    def leave(self, held: Held) -> None:
        """A task that holds its room now, and will be gone."""
        if self.later is self.now:
            self.later = self.now.copy()
        self.later.take(held, sign=-1)
        if held.tied is not None and self.now.crowd is not None:
            self.now.crowd.leave(held.tied, held.row)
        self.leaving[held.row] = (*self.leaving.get(held.row, ()), held)

    def stay(self, held: Held) -> None:
        """A task that was to leave stays after all; only on a ledger where its room was not given away."""
        self.later.take(held)
        self.now.cap(held.row, self.later)
        if held.tied is not None and self.now.crowd is not None:
            self.now.crowd.leave(held.tied, held.row, -1)
        self.leaving[held.row] = tuple(other for other in self.leaving[held.row] if other is not held)

    def could_stay(self, helds: list[Held]) -> bool:
        """Whether the room that leaving tasks free is still free, for all of them together."""
        if self.fresh is not None and any(self._in_the_way(held, self.fresh) for held in helds):
            return False
        if len(helds) == 1:
            return self._has_room(helds[0], 1)
        by_row: dict[int, list[Held]] = {}
        for held in helds:
            by_row.setdefault(held.row, []).append(held)
        return all(self._has_room(together(here), len(here)) for here in by_row.values())

    def _in_the_way(self, held: Held, fresh: Crowd) -> bool:
        """Whether somebody who was placed keeps a task away that was there before, or is the first of its kind but for it."""
        if held.tied is None:
            return False
        mine = {column for column, _ in held.tied.brings}
        return bool(fresh.shunned(held.tied, held.row)) or any(
            first.tied is not None and not mine.isdisjoint(first.tied.needs) for first in self.firsts
        )

    def _has_room(self, held: Held, tasks: int) -> bool:
        row, room = held.row, self.later
        return (
            room.cpu[row] >= held.cpu
            and room.memory[row] >= held.memory
            and room.tasks[row] >= tasks
            and all(
                room.extended[name][row] >= amount for name, amount in held.extended if name in room.extended
            )
            and all(
                room.devices[row, column] >= milli
                for column, milli in held.devices
                if self.nodes.healthy[row, column]
            )
            and (not held.slices or self._slices_fit(held))
        )

    def _slices_fit(self, held: Held) -> bool:
        """Whether slices still fit on the devices that they are on."""
        devices = self.nodes.sliced.by_row.get(held.row, ())
        return all_fit(devices, added(devices, self.later.slices.get(held.row, ()), held.slices))

    def shares(self, held: Held) -> tuple[DeviceShare, ...]:
        """A task's devices as an answer names them."""
        index = self.nodes.index
        if held.slices:
            found: dict[int, dict[str, int]] = {}
            for column, profile, count in held.slices:
                found.setdefault(int(index[held.row, column]), {})[profile] = count
            return tuple(DeviceShare(number, 0, slices) for number, slices in sorted(found.items()))
        return tuple(
            sorted(DeviceShare(int(index[held.row, column]), milli) for column, milli in held.devices)
        )
