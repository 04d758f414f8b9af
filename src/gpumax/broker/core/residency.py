"""Memory: whose is on the device, and who makes room for whom.

A group within its guarantee is resident by right. What is beyond a guarantee is borrowed: it takes turns with other
borrowers, and leaves at once when an owner asks. Room is made for one group at a time on a device, on all of its devices or on
none, and is kept for it while others leave; those who leave wait for nobody, so nobody waits in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gpumax.broker.core.desk import Desk
from gpumax.broker.core.orders import Restore, SwapIn, SwapOut
from gpumax.broker.core.second import Second
from gpumax.broker.core.shapes import WHOLE
from gpumax.broker.core.state import Client, Device, Group, Moving, Place, State, Tier
from gpumax.broker.core.turns import NEVER, Turns
from gpumax.broker.words import Reason

Short = Mapping[str, int]
"""Bytes that are missing, by device; devices with enough aren't in it."""


class Residency:
    def __init__(self, state: State, desk: Desk, turns: Turns) -> None:
        self.state = state
        self.desk = desk
        self.turns = turns
        self.second = Second(state, desk, turns, self)

    def step(self) -> None:
        for group in list(self.state.groups.values()):
            if group.place not in (Place.LEAVING, Place.COMING):
                continue
            if not group.answers:
                self.step_back(group)
            elif group.place is Place.LEAVING:
                self._go_on_leaving(group)
            else:
                self._go_on_coming(group)
        if self.state.now < self.state.quiet_until:
            return
        kept: set[str] = set()
        outside = list(self._outside())
        marks, asked = self.turns.marks(outside), self._asked() if outside else {}
        for group in sorted(outside, key=lambda g: self._urgency(g, marks)):
            if not group.by_right and any(
                asked.get(d, NEVER) < self.state.served(group, d) for d in group.devices
            ):
                continue
            if kept.isdisjoint(group.devices) and not self.bring(group):
                kept.update(group.devices)
        self.second.step(wanted=bool(outside))

    def _outside(self) -> Iterable[Group]:
        for group in self.state.groups.values():
            wants = (group.backlogged and group.gang.whole and self.turns.eligible(group)) or group.requests
            ready = group.place is Place.OUT and group.answers and not group.in_motion and not group.gone
            if ready and wants and self.state.now >= group.retry_at:
                yield group

    def _asked(self) -> dict[str, int]:
        """By device: how far the first had come that is in and asks for room that turns give. Who is further doesn't take it before."""
        asked: dict[str, int] = {}
        for group in self.state.groups.values():
            for ask in group.requests[:1] if group.place is Place.IN else ():
                short = {ask.device: ask.bytes - self.state.devices[ask.device].free}
                if not group.guaranteed(ask) and self.reachable(group, short, owners=False):
                    asked[ask.device] = min(asked.get(ask.device, ask.mark), ask.mark)
        return asked

    def _urgency(self, group: Group, marks: dict[str, int]) -> tuple[bool, int, int, str]:
        return (
            not group.by_right,
            -group.spec.priority if group.by_right else 0,
            self.turns.lag(group, marks),
            group.name,
        )

    def missing(self, group: Group) -> Short:
        """What a group lacks to be resident, beyond what is free."""
        short = {}
        for name in group.devices:
            lack = group.lacks(name) - self.state.devices[name].free
            if lack > 0:
                short[name] = lack
        return short

    def bring(self, group: Group) -> bool:
        """Begin to bring a group in. False: its turn will come, and nobody behind it may take the room before."""
        devices = [self.state.devices[d] for d in group.devices]
        if any(d.coming not in (None, group) for d in devices):
            return False
        short = self.missing(group)
        if short:
            going = self.victims(group, short, right=group.by_right)
            if going is None:
                return not self._may_fit_later(group, short)
            self.dismiss(going)
        for device in devices:
            device.coming = group
        group.place = Place.COMING
        group.coming_since = self.state.now
        group.lost_before = {d.spec.name: d.lost_ns for d in devices}
        self._go_on_coming(group)
        return True

    def _may_fit_later(self, group: Group, short: Short) -> bool:
        """Whether turns alone stand in its way, so that room should be kept for it."""
        self.desk.wake(self.state.now + self.state.settings.frame_ns)
        return self.reachable(group, short)

    def reachable(self, group: Group, short: Short, *, owners: bool = True, silent: bool = False) -> bool:
        """Whether there would be room if every borrower left, and every owner that rests. silent: those who don't answer now, too."""
        for name, lack in short.items():
            others = [g for g in self.state.groups.values() if g is not group and (silent or g.answers)]
            could = sum(could_free(g, name, owners) for g in others)
            could += sum(size for size, _ in self.state.devices[name].ghosts.values())
            if could < lack:
                return False
        return True

    def lent(self, group: Group, short: Short) -> bool:
        """Whether those who have borrowed hold what a group lacks, so that it comes once they answer, or have ended."""
        for name, lack in short.items():
            others = [g for g in self.state.groups.values() if g is not group]
            could = sum(g.movable(name) for g in others if not g.by_right and may_ever_leave(g))
            could += sum(size for size, _ in self.state.devices[name].ghosts.values())
            if could < lack:
                return False
        return True

    def victims(self, group: Group, short: Short, *, right: bool) -> list[Group] | None:
        """Who leaves, so that a group gets what it's short of on all of its devices; None: not now."""
        leaving: dict[str, int] = {}
        for g in self.state.groups.values():
            if g.place is Place.LEAVING and g.answers:
                for name in short:
                    leaving[name] = leaving.get(name, 0) + g.movable(name)
        chosen: list[Group] = []
        for name, lack in short.items():
            left = lack - leaving.get(name, 0) - sum(g.movable(name) for g in chosen)
            if left <= 0:
                continue
            could = [g for g in self._candidates(group, name, right=right) if g not in chosen]
            picked = fewest(could, name, left)
            if picked is None:
                self.second.make_room(group, name, left, could)
                return None
            chosen += picked
        return chosen

    def _candidates(self, group: Group, name: str, *, right: bool) -> list[Group]:
        could = [
            g
            for g in self.state.groups.values()
            if g.movable(name) and self._may_leave(g, group, name, right)
        ]
        return sorted(
            could, key=lambda g: (*rank(g), g.backlogged, not is_cheap(g, name), g.last_used, g.name)
        )

    def _may_leave(self, victim: Group, group: Group, name: str, right: bool) -> bool:
        s = self.state
        if victim is group or not may_ever_leave(victim) or victim.place not in (Place.IN, Place.OUT):
            return False
        if not victim.answers or victim.in_motion or s.now < victim.retry_at:
            return False
        if victim.place is Place.OUT:
            return True
        if victim.by_right and not self.rests(victim):
            return False
        if right:
            return True
        return self._stayed_enough(victim, group, name)

    def rests(self, group: Group) -> bool:
        since = max(group.last_used, group.since)
        if group.backlogged or group.lease:
            return False
        if self.state.now - since < self.state.settings.idle_ns:
            self.desk.wake(since + self.state.settings.idle_ns)
            return False
        return True

    def _stayed_enough(self, victim: Group, group: Group, name: str) -> bool:
        """A stay shorter than the swap costs more than it gives; see `quantum`."""
        s, device = self.state, self.state.devices[name]
        quantum = s.quantum(device, victim)
        swap = quantum // s.settings.quantum_factor
        until = victim.since + (swap if not victim.backlogged else quantum)
        if device.serial and victim.backlogged:
            until = victim.since + s.settings.serial_ns
        elif device.serial:  # a moment between two kernels is no rest that is worth a swap
            until = max(until, victim.last_used + swap)
        if s.now < until:
            self.desk.wake(until)
            return False
        if victim.backlogged and s.served(victim, name) < s.come(group, name):
            self.desk.wake(s.now + s.settings.frame_ns)
            return False
        return True

    def dismiss(self, going: list[Group]) -> None:
        for group in going:
            group.place = Place.LEAVING
            self.turns.revoke(group, Reason.MEMORY)
            self._go_on_leaving(group)

    def _go_on_leaving(self, group: Group) -> None:
        """Once its lease is over, everything that can be moved goes; it's out when all of it has gone."""
        if group.lease is not None:
            return
        if not group.in_motion:
            moved = False
            for client in group.clients.values():
                for name, holding in client.holdings.items():
                    if holding.movable:
                        holding.moving = Moving.OUT
                        moved = True
                        self.desk.say(SwapOut(client.id, name, min(holding.pinned, holding.resident)))
            if not moved:
                group.place = Place.OUT
                self.refresh(group)

    def refresh(self, group: Group) -> None:
        """A group that is out and lacks nothing is in."""
        if group.place is Place.OUT and not group.in_motion:
            whole = not any(group.lacks(name) for name in group.devices)
            if whole and all(c.tier is Tier.ON for c in group.clients.values()):
                group.place = Place.IN
                group.since = self.state.now

    def _go_on_coming(self, group: Group) -> None:
        devices = [self.state.devices[d] for d in group.devices]
        if not self.allot(group) or group.in_motion:
            return
        off = [c for c in group.clients.values() if c.tier is Tier.OFF]
        if off:
            for client in off:
                client.tier = Tier.RETURNING
                self.desk.say(Restore(client.id))
            return
        group.place = Place.IN
        group.since = self.state.now
        for device in devices:
            device.coming = None
            self._learn(device, group)
            # What it's owed for waiting is a few turns: one that couldn't be brought in for long keeps nobody out for as long.
            owed = 4 * self.state.quantum(device, group) * WHOLE // group.spec.share
            served = group.served.get(device.spec.name, 0)
            group.served[device.spec.name] = max(served, device.virtual - owed)

    def pause(self, client: Client, name: str, resident: int) -> None:
        """It has moved its memory out by itself. The others of its group go on without."""
        client.paused = True
        holding = client.holdings[name]
        self.state.keep(client, name, min(holding.resident, max(resident, 0)))
        self.refresh(client.group)

    def resume(self, client: Client) -> None:
        """It asks again, so its group is whole only with what it has."""
        client.paused = client.leaving = False
        group = client.group
        if group.place is Place.IN and any(client.lacks(name) for name in client.holdings):
            group.place = Place.OUT
            self.turns.revoke(group, Reason.MEMORY)

    def allot(self, group: Group) -> bool:
        """Hand on what has become free, in pieces that are worth it. True when nothing is missing any more."""
        whole = True
        for client in group.clients.values():
            for name, holding in client.holdings.items():
                lack = client.lacks(name)
                if lack <= 0:
                    continue
                give = min(lack, max(self.state.devices[name].free, 0))
                if give < lack:
                    whole = False
                    if give < self.state.settings.chunk_bytes:
                        continue
                if give > 0 and client.tier is not Tier.GOING:
                    self.state.keep(client, name, holding.resident + give)
                    self.swap_in(client, name)
        if not whole:
            self._make_more_room(group)
        return whole

    def swap_in(self, client: Client, name: str) -> None:
        if client.tier is Tier.ON:
            holding = client.holdings[name]
            holding.moving = Moving.IN
            self.desk.say(SwapIn(client.id, name, holding.resident))

    def _make_more_room(self, group: Group) -> None:
        """Somebody who was to leave couldn't, or less came of it: others go, or the group steps back and waits again."""
        short = self.missing(group)
        going = self.victims(group, short, right=group.by_right) if short else []
        if going:
            self.dismiss(going)
        elif going is None and not group.in_motion:
            self.step_back(group)

    def step_back(self, group: Group) -> None:
        for name in group.devices:
            if self.state.devices[name].coming is group:
                self.state.devices[name].coming = None
        if group.place in (Place.COMING, Place.LEAVING):
            group.place = Place.OUT
            self.refresh(group)
        self.desk.wake(self.state.now + self.state.settings.frame_ns)

    def _learn(self, device: Device, group: Group) -> None:
        """What it cost, and whether swapping eats what it gives: then whoever is in stays far longer."""
        now, began = self.state.now, group.coming_since
        took = now - began
        device.switch_ns = took if not device.switch_ns else (3 * device.switch_ns + took) // 4
        device.switches.append((began, group.lost_before.get(device.spec.name, device.lost_ns)))
        if len(device.switches) < (device.switches.maxlen or 0) or device.serial:
            return
        # Others that work while memory moves lose nothing by it: time counts in which nobody could.
        first, before = device.switches[0]
        lost, window = device.lost_ns - before, now - first
        if lost * 5 > window * 2:
            device.serial = True
            share = lost * 100 // max(window, 1)
            self.desk.report(
                "thrash", group.name,
                f"{share} % of the time of {device.spec.name} was lost to swapping; its groups now run one after another",
            )  # fmt: skip

    def calm(self, device: Device) -> None:
        """Who shares the device has changed: swapping is judged anew."""
        if device.serial:
            device.serial = False
            self.desk.report("calm", "", f"{device.spec.name}: groups take turns again")
        device.switches.clear()


def fewest(could: list[Group], name: str, lack: int) -> list[Group] | None:
    """The first ones that are enough, less those that aren't needed; or one alone that is, of no higher priority."""
    picked: list[Group] = []
    got = 0
    for group in could:
        if got >= lack:
            break
        picked.append(group)
        got += group.movable(name)
    if got < lack:
        return None
    for group in list(picked):
        if got - group.movable(name) >= lack:
            picked.remove(group)
            got -= group.movable(name)
    if len(picked) > 1:
        most = max(rank(g) for g in picked)
        alone = [g for g in could if g.movable(name) >= lack and rank(g) <= most]
        cost = sum(g.copies(name) for g in picked)
        if alone and (not any(is_cheap(g, name) for g in picked) or alone[0].copies(name) <= cost):
            return [alone[0]]
    return picked


def rank(group: Group) -> tuple[bool, int]:
    """Who goes before whom, whatever it costs."""
    return group.by_right, group.spec.priority


def is_cheap(group: Group, name: str) -> bool:
    """Whether hardly anything has to be copied for it to leave."""
    return group.copies(name) * 10 <= group.movable(name)


def may_ever_leave(group: Group) -> bool:
    return group.spec.swap and all(c.swaps for c in group.clients.values())


def could_free(group: Group, name: str, owners: bool) -> int:
    """What a group would leave if its turn were over; with `owners`, also if it rested for long enough."""
    if not group.spec.swap:
        return 0
    if group.by_right and (group.backlogged or not owners):
        return 0
    if owners and all(may_be_taken_off(c) for c in group.clients.values()):
        return group.resident(name)
    return group.movable(name)


def may_be_taken_off(client: Client) -> bool:
    """As far as is known: who comes back from an earlier broker hasn't said it yet."""
    return client.checkpoints or client.tier is not Tier.ON or not client.connected
