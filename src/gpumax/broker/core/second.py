"""The second tier: the driver takes whole processes off their devices, with what of them can't be swapped, and brings them back.

It's the last way to make room: for those who ask, when all that can be swapped isn't enough; of those who have rested for long, or
who give no sign of life. What was taken off comes back before it's granted anything, and as soon as nobody else wants the room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpumax.broker.core import events as ev
from gpumax.broker.core.desk import Desk
from gpumax.broker.core.events import Outcome
from gpumax.broker.core.orders import Checkpoint, End, Ended, Restore
from gpumax.broker.core.shapes import Stuck
from gpumax.broker.core.state import Client, Group, Place, State, Tier
from gpumax.broker.core.turns import Turns

if TYPE_CHECKING:
    from gpumax.broker.core.residency import Residency


class Second:
    def __init__(self, state: State, desk: Desk, turns: Turns, residency: Residency) -> None:
        self.state = state
        self.desk = desk
        self.turns = turns
        self.residency = residency

    # who goes

    def make_room(self, group: Group, name: str, lack: int, could: list[Group]) -> None:
        """What those can swap who could isn't enough: somebody goes as a whole, if that is enough then. One at a time."""
        sharing = [g for g in self.state.groups.values() if g is not group and g.resident(name)]
        if any(c.tier is Tier.GOING for g in sharing for c in g.clients.values()):
            return
        silent = [g for g in sharing if self._may_be_taken(g)]
        cold = [g for g in sharing if g not in silent and self._is_cold(g)]
        gain = sum(g.movable(name) for g in could if g not in silent and g not in cold)
        if gain + sum(g.resident(name) for g in (*silent, *cold)) < lack:
            return
        for each in silent:
            self._overdue(each)
        cold.sort(key=lambda g: (g.by_right, g.spec.priority, g.last_used, g.name))
        if not silent and cold:
            self._take_off(cold[0], swaps=cold[0] in could)

    def _take_off(self, group: Group, *, swaps: bool) -> None:
        """Its memory first, as far as that can be swapped: that is faster, and copied to memory that is ready for it."""
        if swaps:
            self.residency.dismiss([group])
            return
        group.place = Place.OUT
        for client in group.clients.values():
            self._order(client, rests=True)

    def _order(self, client: Client, *, rests: bool) -> None:
        client.tier, client.interrupted = Tier.GOING, not rests
        self.desk.say(Checkpoint(client.id, self.state.settings.grace_ns, rests))

    def _is_cold(self, group: Group) -> bool:
        """Whether it has rested for so long that the driver may take all of it off the device."""
        s = self.state
        idle = not group.backlogged and group.lease is None and not group.requests
        able = group.spec.swap and all(c.checkpoints and c.tier is Tier.ON for c in group.clients.values())
        still = group.place in (Place.IN, Place.OUT) and group.answers and not group.in_motion
        if not (idle and able and still):
            return False
        until = max(group.last_used, group.since) + s.settings.cold_ns
        until = max([until, *(c.again_at for c in group.clients.values())])
        if s.now < until:
            self.desk.wake(until)
        return s.now >= until

    # those who give no sign of life

    def _silent_at(self, client: Client) -> int:
        return client.last_beat + self.state.settings.silence_ns + 1

    def _silent(self, group: Group) -> list[Client]:
        """Its processes that hold room, and haven't been heard of for long."""
        held = [c for c in group.clients.values() if any(h.resident for h in c.holdings.values())]
        later = [at for c in held if (at := self._silent_at(c)) > self.state.now]
        if later:
            self.desk.wake(min(later))
        return [c for c in held if self._silent_at(c) <= self.state.now]

    def _may_be_taken(self, group: Group) -> bool:
        """Whether it can't be asked to swap, though it may lose its room: it has borrowed it, or rests."""
        still = group.place in (Place.IN, Place.OUT) and group.lease is None and not group.in_motion
        if group.answers or not still or not group.spec.swap:
            return False
        return bool((not group.by_right or self.residency.rests(group)) and self._silent(group))

    def _overdue(self, group: Group) -> None:
        """The driver takes them off where it can; else what becomes of them is the administrator's to say."""
        for client in self._silent(group):
            if client.tier is not Tier.ON:
                continue
            if client.checkpoints and self.state.now >= client.again_at:
                self._order(client, rests=False)
            elif not client.reported:
                client.reported = True
                self._stuck(client)

    def _stuck(self, client: Client) -> None:
        if self.state.settings.stuck is Stuck.END:
            self.desk.say(End(client.id, "others need its memory, and it doesn't answer"))
            return
        text = f"process {client.pid} has memory that others need, and doesn't answer; `kill -9 {client.pid}` ends it"
        self.desk.report("stuck", client.group.name, text)

    def lives(self, client: Client) -> None:
        """A sign of life. What the driver interrupted wants to go on, whatever it was at."""
        client.reported = False
        if client.interrupted and client.tier is Tier.OFF:
            client.interrupted, client.wants = False, True
            self.turns.notice(client.group)

    # what comes of it

    def checkpointed(self, event: ev.Checkpointed) -> None:
        client = self.state.clients[event.client]
        if client.tier is not Tier.GOING:
            return
        if event.how is Outcome.DONE:
            self._is_off(client)
            why = "doesn't answer" if client.interrupted else "rests"
            self._tell(
                "checkpointed", client, f"was taken off its devices: it {why}, and others need the room"
            )
        elif event.how is Outcome.LOST:
            self._lost(client, event.why)
        else:
            client.tier, client.interrupted = Tier.ON, False
            client.again_at = self.state.now + self.state.settings.stuck_ns
            if event.how is Outcome.REFUSED:
                client.checkpoints = False  # what failed once may have left it worse
                self._tell("checkpoint", client, f"can't be taken off its devices: {event.why}")
            self.residency.refresh(client.group)

    def _is_off(self, client: Client) -> None:
        client.tier = Tier.OFF
        for name, holding in client.holdings.items():
            holding.moving = None
            self.state.keep(client, name, 0)
        client.group.place, client.group.room_since = Place.OUT, 0
        self._end_lease(client)

    def _end_lease(self, client: Client) -> None:
        """Locked as it is, it submits nothing; when it comes back it finds that it has to ask."""
        if client.leased:
            client.leased = client.wants = False
            self.desk.say(Ended(client.id, client.generation))
            self.turns.settle(client.group)

    def _lost(self, client: Client, why: str) -> None:
        client.tier, client.group.place = Tier.LOST, Place.OUT
        self._end_lease(client)
        for name in client.group.devices:
            if self.state.devices[name].coming is client.group:
                self.state.devices[name].coming = None
        self._tell("lost", client, f"can't be brought back to its devices: {why}; end it")

    def restored(self, event: ev.Restored) -> None:
        client = self.state.clients[event.client]
        if client.tier is not Tier.RETURNING:
            return
        if event.how is Outcome.DONE:
            self._is_back(client)
        elif event.how is Outcome.LOST:
            self._lost(client, event.why)
        else:
            client.tier = Tier.OFF
            for name in client.holdings:
                self.state.keep(client, name, 0)
            client.group.retry_at = self.state.now + self.state.settings.retry_ns
            if not client.reported:
                client.reported = True
                self._tell("restore", client, f"couldn't be brought back yet: {event.why}; it's tried again")
            self.residency.step_back(client.group)

    def _is_back(self, client: Client) -> None:
        """Its orders of before may be half done, so it's told what it may have of each device."""
        client.tier, client.interrupted = Tier.ON, False
        self._tell("restored", client, "is on its devices again")
        for name, holding in client.holdings.items():
            if holding.resident and client.connected and not client.awaiting_inventory:
                self.residency.swap_in(client, name)
        self.residency.refresh(client.group)

    def found(self, event: ev.Found) -> None:
        """What an earlier broker, or one of its helpers, had begun when it was killed."""
        client = self.state.clients[event.client]
        if event.how is Outcome.LOST:
            self._lost(client, "the driver has given it up")
        elif event.how is Outcome.DONE and client.tier is not Tier.OFF:
            client.interrupted = client.interrupted and client.tier is Tier.GOING
            self._is_off(client)
        elif event.how is Outcome.BUSY and client.tier is not Tier.ON:
            self._is_there(client)

    def _is_there(self, client: Client) -> None:
        for name, holding in client.holdings.items():
            more = min(holding.claimed - holding.resident, max(self.state.devices[name].free, 0))
            self.state.keep(client, name, holding.resident + more)
        self._is_back(client)

    def _tell(self, kind: str, client: Client, what: str) -> None:
        self.desk.report(kind, client.group.name, f"process {client.pid} {what}")

    # who comes back

    def step(self, *, wanted: bool) -> None:
        """wanted: somebody waits for room."""
        waits = wanted or any(g.requests or g.place is Place.COMING for g in self.state.groups.values())
        for group in self.state.groups.values():
            if group.place is Place.LEAVING and group.in_motion:
                self._overdue(group)
            if any(c.tier is Tier.OFF for c in group.clients.values()):
                self._bring_back(group, waits=waits)

    def _bring_back(self, group: Group, *, waits: bool) -> None:
        """Nobody can know of everything that a process waits for, so it's away no longer than others want the room."""
        ready = group.place is Place.OUT and not group.in_motion and not group.gone
        if waits or not ready or self.residency.missing(group):
            group.room_since = 0
            return
        group.room_since = group.room_since or self.state.now
        at = max(group.room_since + self.state.settings.idle_ns, group.retry_at)
        if self.state.now < at:
            self.desk.wake(at)
        elif group.answers:
            self.residency.bring(group)
        else:
            self._bring_unasked(group)

    def _bring_unasked(self, group: Group) -> None:
        """Who has no connection, as of a group that has ended, needs none to be brought back by the driver."""
        for client in [c for c in group.clients.values() if c.tier is Tier.OFF]:
            for name, holding in client.holdings.items():
                self.state.keep(client, name, holding.claimed)
            client.tier = Tier.RETURNING
            self.desk.say(Restore(client.id))
