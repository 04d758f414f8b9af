"""Allocations: within the limit or refused at once; within the guarantee always; between the two where there is room.

What is guaranteed and lent to others is waited for as long as it takes, even where they don't answer: it's told then for whom.
"""

from __future__ import annotations

from gpumax.broker.core.awaited import awaited
from gpumax.broker.core.desk import Desk
from gpumax.broker.core.orders import MemDeny, MemGrant, Pool, Trim
from gpumax.broker.core.residency import Residency, Short
from gpumax.broker.core.shapes import MIB
from gpumax.broker.core.state import Client, Group, Place, Request, State
from gpumax.broker.words import Reason

POOL_STEP = 256 * MIB


class Memory:
    def __init__(self, state: State, desk: Desk, residency: Residency) -> None:
        self.state = state
        self.desk = desk
        self.residency = residency

    def step(self) -> None:
        for group in self.state.groups.values():
            while group.requests and self._serve(group, group.requests[0]):
                group.requests.pop(0)
                self._give_up_room(group)

    def _serve(self, group: Group, ask: Request) -> bool:
        """True when it has been answered."""
        client = group.clients[ask.client]
        reason = self._refusal(group, ask)
        if reason is not Reason.NONE:
            return (self._late(ask) or not ask.trims) and self._deny(client, ask, reason)
        if group.place is not Place.IN:
            return False  # it comes in first: waiting requests count as wanting to
        right = group.guaranteed(ask)
        if self.state.now < self.state.quiet_until and not right:
            return False  # somebody of an earlier epoch may still say what it holds
        answered = self._seek_room(group, client, ask, right=right)
        if right and not answered:
            self._say_for_whom(group, ask)
        return answered

    def _seek_room(self, group: Group, client: Client, ask: Request, *, right: bool) -> bool:
        device = self.state.devices[ask.device]
        free = device.free
        if device.coming not in (None, group) and not right:
            free -= device.coming.lacks(ask.device)
        if free < ask.bytes:
            return self._make_room(group, client, ask, right=right)
        if device.empty < ask.bytes and (right or not self._late(ask)):
            return False  # who has no part of the device is about to be taken off it
        return self._grant(client, ask)

    def _refusal(self, group: Group, ask: Request) -> Reason:
        share = group.share_of(ask.device)
        most = share.limit if group.spec.swap else share.guarantee
        if group.claimed(ask.device) + ask.bytes > most:
            self._trim(group, ask)
            return Reason.LIMIT
        if ask.pinned and group.pinned(ask.device) + ask.bytes > share.guarantee:
            return Reason.PINNED
        return Reason.NONE

    def _trim(self, group: Group, ask: Request) -> None:
        """Others of the group may have budget that they don't use: the limit is the group's, to the byte."""
        if ask.trimmed:
            return
        ask.trimmed = True
        for other in group.clients.values():
            if other.id != ask.client and other.connected and ask.device in other.holdings:
                ask.trims.add(other.id)
                self.desk.say(Trim(other.id, ask.device))

    def _deny(self, client: Client, ask: Request, reason: Reason) -> bool:
        self.desk.say(MemDeny(client.id, ask.device, ask.bytes, reason, ask.request))
        return True

    def _grant(self, client: Client, ask: Request) -> bool:
        holding = client.holdings[ask.device]
        holding.claimed += ask.bytes
        holding.pinned += ask.bytes if ask.pinned else 0
        self.state.keep(client, ask.device, holding.resident + ask.bytes)
        self._pool(client, ask.device)
        self.desk.say(MemGrant(client.id, ask.device, ask.bytes, holding.claimed, ask.request))
        return True

    def _pool(self, client: Client, device: str) -> None:
        """Host memory is made ready early where groups may have to leave: writing it the first time is slow."""
        holding = client.holdings[device]
        if not client.group.spec.swap or not client.swaps:
            return
        wanted = -(-(holding.claimed - holding.pinned) // POOL_STEP) * POOL_STEP
        wanted = min(wanted, client.group.share_of(device).limit)
        limits = sum(g.share_of(device).limit for g in self.state.groups.values() if device in g.spec.memory)
        if wanted > holding.pool and limits > self.state.devices[device].spec.capacity:
            holding.pool = wanted
            self.desk.say(Pool(client.id, device, wanted))

    def _make_room(self, group: Group, client: Client, ask: Request, *, right: bool) -> bool:
        device = self.state.devices[ask.device]
        if device.coming not in (None, group):
            if not right or device.coming.by_right:
                return False
            self.residency.step_back(device.coming)
        short = {ask.device: ask.bytes - device.free}
        going = self.residency.victims(group, short, right=right)
        if going is None:
            return self._wait(group, client, ask, short, right=right)
        device.coming = group
        group.asked_room = True
        self.residency.dismiss(going)
        return False

    def _wait(self, group: Group, client: Client, ask: Request, short: Short, *, right: bool) -> bool:
        """Turns of others pass, so they are waited for. Owners may never rest, and the stuck never answer: but what they borrowed is the owner's."""
        if (
            self.residency.lent(group, short)
            if right
            else self.residency.reachable(group, short, owners=False)
        ):
            return False
        hopeless = not right and not self.residency.reachable(group, short, silent=True)
        return (hopeless or self._late(ask)) and self._deny(client, ask, Reason.ROOM)

    def _say_for_whom(self, group: Group, ask: Request) -> None:
        """Once it has taken longer than it should."""
        if ask.told or not self._late(ask):
            return
        found = awaited(self.state, group, ask.device)
        if not found:
            self.desk.wake(self.state.now + self.state.settings.heartbeat_ns)
            return
        ask.told = True
        what = f"{ask.bytes // MIB} MiB of {ask.device}, within its guarantee"
        self.desk.report("waits", group.name, f"it waits for {what}: {'; and for '.join(found)}")

    def _late(self, ask: Request) -> bool:
        if self.state.now >= ask.until:
            return True
        self.desk.wake(ask.until)
        return False

    def _give_up_room(self, group: Group) -> None:
        if group.asked_room and not group.requests:
            group.asked_room = False
            if group.place is not Place.COMING:
                self.residency.step_back(group)

    def forget(self, client: Client) -> None:
        """Its requests go with it, and nobody waits for its answers."""
        group = client.group
        group.requests = [r for r in group.requests if r.client != client.id]
        for ask in group.requests:
            ask.trims.discard(client.id)
        self._give_up_room(group)

    def returned(self, client: Client, device: str, size: int, *, pinned: bool) -> None:
        holding = client.holdings[device]
        size = min(size, holding.claimed)
        off = holding.claimed - holding.resident
        holding.claimed -= size
        if pinned:
            holding.pinned -= min(size, holding.pinned)
        holding.pinned = min(holding.pinned, holding.claimed)
        # What lies in host memory is what it says it gave back first only where nothing else is left on the device.
        keep = (
            max(min(holding.resident, holding.claimed - off), 0)
            if holding.moving is None
            else holding.resident
        )
        self.state.keep(client, device, min(keep, holding.claimed))
        for ask in client.group.requests:
            if ask.device == device:
                ask.trims.discard(client.id)
        self.residency.refresh(client.group)
