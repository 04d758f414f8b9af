"""The one door: `handle(event)` gives the orders that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gpumax.broker.core import admission
from gpumax.broker.core import events as ev
from gpumax.broker.core.desk import Desk
from gpumax.broker.core.memory import Memory
from gpumax.broker.core.orders import Config, Ended, Order, Refuse, RefuseGroup, Welcome
from gpumax.broker.core.residency import Residency
from gpumax.broker.core.shapes import WHOLE, DeviceSpec, GroupSpec, Recovered, Settings
from gpumax.broker.core.state import Client, Device, Group, Holding, Moving, Place, Request, State, Tier
from gpumax.broker.core.turns import Turns
from gpumax.broker.words import ErrorCode, HintKind, Reason, SwapStatus

# By type, which is looked up several times with every lease.
BEFALLS: Final = frozenset({ev.Left, ev.Died, ev.PageSeen, ev.Checkpointed, ev.Restored, ev.Found})
"""What isn't said by a process, but seen of it."""

OF_NO_CLIENT: Final = frozenset(
    {ev.Tick, ev.GroupAdded, ev.GroupChanged, ev.GroupRemoved, ev.Outside, ev.Joined, ev.Reclaimed}
)
"""Of nobody who has to be there."""

MOVES_NO_MEMORY: Final = frozenset({ev.Tick, ev.Wanted, ev.Released, ev.Beat, ev.Hinted})
"""Where all are resident and nobody asks for memory, these leave it so."""


class Broker:
    """Devices of one node and the groups that share them. `recovered`: what an earlier broker's pages show."""

    def __init__(
        self, settings: Settings, devices: Iterable[DeviceSpec], *, epoch: int, now: int,
        specs: Iterable[GroupSpec] = (), recovered: Iterable[Recovered] = (), restarted: bool = False,
    ) -> None:  # fmt: skip
        self.state = State(settings, {d.name: Device(d) for d in devices}, epoch, now)
        self.desk = Desk()
        self.moved = True
        """Whether the last event may have changed what anybody has of a device."""
        self._settled = False
        self.turns = Turns(self.state, self.desk)
        self.residency = Residency(self.state, self.desk, self.turns)
        self.second = self.residency.second
        self.memory = Memory(self.state, self.desk, self.residency)
        self._doors: dict[type, Callable[[Any], None]] = {
            ev.Tick: lambda _: None, ev.GroupAdded: self._group_added, ev.GroupRemoved: self._group_removed,
            ev.GroupChanged: self._group_changed, ev.Outside: self._outside,
            ev.Joined: self._joined, ev.Inventory: self._inventory, ev.Wanted: self._wanted,
            ev.Released: self._released, ev.Asked: self._asked, ev.Returned: self._returned,
            ev.SwappedOut: self._swapped, ev.SwappedIn: self._swapped, ev.Hinted: self._hinted,
            ev.Beat: self._beat, ev.Leaving: self._leaving, ev.Left: self._left, ev.Died: self._died, ev.Reclaimed: self._reclaimed,
            ev.PageSeen: self._page_seen, ev.Checkpointed: self.second.checkpointed,
            ev.Restored: self.second.restored, ev.Found: self.second.found,
        }  # fmt: skip
        for spec in specs:
            self._group_added(ev.GroupAdded(now, spec))
        if restarted:
            self.state.quiet_until = now + 2 * settings.heartbeat_ns
        for page in recovered:
            self._recover(page)

    def handle(self, event: ev.Event) -> list[Order]:
        s, turns, kind = self.state, self.turns, type(event)
        if event.now > s.now:
            if not self._settled:
                self._wait(event.now - s.now)
            s.now = event.now
        if s.now >= turns.next_frame:
            turns.refill()
        if self._is_heard(kind, event):
            self._doors[kind](event)
        self.moved = not self._settled or kind not in MOVES_NO_MEMORY
        if self.moved:
            self._bury()
            self._place()
        turns.step()
        if not self._settled or s.now < s.quiet_until:
            self._arm()
        return self.desk.collect(s.now)

    def _wait(self, passed: int) -> None:
        """Time in which devices had nobody because somebody's memory was on its way."""
        for device in self.state.devices.values():
            if device.coming is not None and not device.holders:
                device.lost_ns += passed

    def _place(self) -> None:
        """Room that one step makes another may use; what they leave undone waits for an event or a Wake."""
        for _ in range(2):
            self.desk.forget_wakes()
            self._settled = self.state.settled
            if self._settled:
                return
            self.memory.step()
            self.residency.step()
            self.memory.step()
        self._settled = self.state.settled

    def _is_heard(self, kind: type[ev.Event], event: Any) -> bool:
        """Whether it's of somebody who is there: nothing is said on a connection that has ended."""
        if kind in OF_NO_CLIENT:
            return True
        client = self.state.clients.get(event.client)
        return client is not None and (client.connected or kind in BEFALLS)

    def _bury(self) -> None:
        for device in self.state.devices.values():
            for client, (_, until) in list(device.ghosts.items()):
                if self.state.now >= until:
                    del device.ghosts[client]

    def _arm(self) -> None:
        for device in self.state.devices.values():
            for _, until in device.ghosts.values():
                self.desk.wake(until)
        for group in self.state.groups.values():
            if group.retry_at > self.state.now:
                self.desk.wake(group.retry_at)
        if self.state.now < self.state.quiet_until:
            self.desk.wake(self.state.quiet_until)

    # groups

    def _group_added(self, event: ev.GroupAdded) -> None:
        text = self.objection(event.spec)
        if text:
            self.desk.say(RefuseGroup(event.spec.name, text))
            return
        group = Group(event.spec, since=self.state.now, last_used=self.state.now)
        group.frame = self.state.now // self.state.settings.frame_ns
        group.tokens = self.state.settings.frame_ns * event.spec.share // WHOLE
        self.state.groups[group.name] = group
        for name in group.devices:
            self.residency.calm(self.state.devices[name])

    def objection(self, spec: GroupSpec) -> str:
        """Why a group can't be had here; empty: it can."""
        if spec.name in self.state.groups:
            return f"group {spec.name} is there already"
        return admission.objection(self.state, spec)

    def objection_to_change(self, spec: GroupSpec) -> str:
        """Why a group that is there can't become this; empty: it can."""
        group = self.state.groups.get(spec.name)
        if group is None or group.removed:
            return f"group {spec.name} isn't known here"
        return admission.objection(self.state, spec) or admission.objection_to_change(group, spec)

    def _group_changed(self, event: ev.GroupChanged) -> None:
        text = self.objection_to_change(event.spec)
        if text:
            self.desk.say(RefuseGroup(event.spec.name, text))
            return
        group = self.state.groups[event.spec.name]
        self.turns.change(group, event.spec)
        for name in group.devices:
            self.residency.calm(self.state.devices[name])
        for client in group.clients.values():
            self.desk.say(Config(client.id))

    def _group_removed(self, event: ev.GroupRemoved) -> None:
        group = self.state.groups.get(event.name)
        if group is None:
            return
        group.removed = True
        for client in list(group.clients.values()):
            self.desk.say(Refuse(client.id, ErrorCode.NOT_ALLOWED, f"group {group.name} has ended"))
        self._drop_if_empty(group)

    def _outside(self, event: ev.Outside) -> None:
        for name, device in self.state.devices.items():
            device.outsiders = dict(event.used.get(name, {}))

    def _drop_if_empty(self, group: Group) -> None:
        if group.removed and not group.clients:
            self.residency.step_back(group)
            del self.state.groups[group.name]
            self.state.backlog.pop(group.name, None)
            for name in group.devices:
                self.residency.calm(self.state.devices[name])

    # clients come and go

    def _recover(self, page: Recovered) -> None:
        group = self.state.groups.get(page.group)
        if group is None:
            return
        client = Client(page.client, group, page.pid, {}, connected=False, last_beat=self.state.now)
        group.clients[client.id] = client
        self.state.clients[client.id] = client
        self._adopt(client, {d: h for d, h in page.holdings.items() if d in group.spec.memory})
        if page.away:
            client.tier, group.place = Tier.GOING, Place.OUT
        if page.leased:
            group.gang.begun = True
            self._take_over_lease(client)

    def _adopt(self, client: Client, holdings: Mapping[str, tuple[int, int, int]]) -> None:
        """What a page or a client says that it holds, as far as there can be so much. What is beyond, nobody granted."""
        group = client.group
        for name, (budget, pinned, resident) in holdings.items():
            holding = client.holdings.setdefault(name, Holding())
            left = group.share_of(name).limit - (group.claimed(name) - holding.claimed)
            holding.claimed = min(budget, max(left, 0))
            holding.pinned = min(pinned, holding.claimed)
            if client.tier is not Tier.OFF:
                there = holding.resident + max(self.state.devices[name].free, 0)
                self.state.keep(client, name, min(max(min(resident, holding.claimed), holding.pinned), there))
                holding.pinned = min(holding.pinned, holding.resident)
            if holding.resident < holding.claimed and group.place is Place.IN:
                group.place = Place.OUT

    def _take_over_lease(self, client: Client) -> None:
        """It was granted by an earlier broker and holds on: it counts, and nobody else gets these devices."""
        s, group = self.state, client.group
        if group.lease is None:
            s.begin(group, 0)
            for name in group.devices:
                s.devices[name].holders.append(group)
        client.leased = client.wants = True
        self.turns.notice(group)
        if any(len(s.devices[d].holders) > 1 for d in group.devices):
            self.turns.revoke(group, Reason.TURN)

    def _joined(self, event: ev.Joined) -> None:
        s = self.state
        group = s.groups.get(event.group)
        if group is None or group.removed:
            self.desk.say(
                Refuse(event.client, ErrorCode.NOT_ALLOWED, f"group {event.group} isn't known here")
            )
            return
        unknown = [d for d in event.devices if d not in group.spec.memory]
        if unknown or not event.devices:
            text = f"device {unknown[0]} isn't of group {group.name}" if unknown else "no device"
            self.desk.say(Refuse(event.client, ErrorCode.UNKNOWN_DEVICE, text))
            return
        client = Client(event.client, group, event.pid, {d: Holding() for d in event.devices})
        known = [c for c in group.clients.values() if c.pid == event.pid]
        known.sort(key=lambda c: (c.id == event.client, c.id))
        if event.reconnects and known:
            self._follow(known.pop(), client)
        for old in known:
            if event.reconnects or not old.connected:
                self._died(ev.Died(s.now, old.id))  # another program in the same process: exec
        client.swaps = event.swaps
        client.checkpoints = event.checkpoints and s.settings.cold_ns > 0
        client.last_beat = s.now
        client.awaiting_inventory = event.reconnects
        group.clients[client.id] = client
        s.clients[client.id] = client
        self.turns.gathering.arrived(group, event.ranks, event.rank or -event.pid)
        self.desk.say(Welcome(client.id))

    def _follow(self, known: Client, client: Client) -> None:
        """The same process on a new connection: what it had is still its own."""
        if known.connected:  # the end of its old connection is still on its way
            self._disconnect(known)
        client.holdings = known.holdings | {
            d: client.holdings[d] for d in client.holdings if d not in known.holdings
        }
        client.leased, client.generation = known.leased, known.generation
        client.wants, client.tier, client.fenced = known.wants, known.tier, known.fenced
        client.interrupted, client.again_at = known.interrupted, known.again_at
        client.booked = True
        for holding in client.holdings.values():
            holding.moving = None
        del self.state.clients[known.id]
        del known.group.clients[known.id]

    def _inventory(self, event: ev.Inventory) -> None:
        client = self.state.clients[event.client]
        if not client.awaiting_inventory:
            return
        client.awaiting_inventory = False
        client.fenced = False
        group = client.group
        self._adopt(
            client,
            {d: self._believed(client, d, h) for d, h in event.holdings.items() if d in group.spec.memory},
        )
        client.wants = event.wants or event.leased
        if event.leased and not client.leased and self._may_be_leased(group):
            self._take_over_lease(client)
        elif not event.leased and client.leased:
            client.leased = False
        if client.leased and group.lease is not None:
            if group.lease.revoked:
                self.turns.tell_revoked(client, group.lease, Reason.TURN)
            else:
                self.turns.tell(client, group.lease)
        else:
            self.desk.say(Ended(client.id, client.generation))
        self.turns.settle(group)
        self.residency.refresh(group)

    def _believed(self, client: Client, device: str, said: tuple[int, int, int]) -> tuple[int, int, int]:
        """Its books bound what a process says: whatever was granted stood in them before it was told."""
        known = client.holdings.get(device)
        if known is None or not client.booked:
            return said
        return min(said[0], known.claimed), said[1], min(said[2], known.resident)

    def _may_be_leased(self, group: Group) -> bool:
        """Only before anything new is granted can a lease that no page tells of be its devices' only one."""
        s = self.state
        free = all(not s.devices[d].holders or group in s.devices[d].holders for d in group.devices)
        return group.lease is not None or (free and s.now < s.quiet_until)

    def _wanted(self, event: ev.Wanted) -> None:
        client = self.state.clients[event.client]
        client.wants = True
        if client.paused or client.leaving:
            self.residency.resume(client)
            self._settled = False
        self.turns.notice(client.group)

    def _released(self, event: ev.Released) -> None:
        client = self.state.clients[event.client]
        client.last_beat = self.state.now
        self.turns.released(client, event.lease, event.wants)

    def _leaving(self, event: ev.Leaving) -> None:
        """It may still be at work: what it holds of a lease ends with it, or when it drains."""
        client = self.state.clients[event.client]
        client.wants, client.leaving = False, True
        self.memory.forget(client)
        self.turns.notice(client.group)

    def _left(self, event: ev.Left) -> None:
        client = self.state.clients[event.client]
        others = client.group.clients.values()
        if any(c.pid == client.pid and c.id > client.id and c.connected for c in others):
            self._died(ev.Died(self.state.now, client.id))  # exec: another program in the same process
            return
        self._disconnect(client)

    def _disconnect(self, client: Client) -> None:
        client.connected = False
        client.wants = False
        self.memory.forget(client)
        for holding in client.holdings.values():
            holding.moving = None
        if client.leased:
            self.turns.revoke(client.group, Reason.SHUTDOWN)
        self.turns.notice(client.group)

    def _died(self, event: ev.Died) -> None:
        s = self.state
        client = s.clients.pop(event.client)
        group = client.group
        self.memory.forget(client)
        until = s.now + s.settings.burial_ns
        for name, holding in client.holdings.items():
            size = holding.resident
            s.keep(client, name, 0)
            if size:
                s.devices[name].ghosts[client.id] = (size, until)
        del group.clients[client.id]
        client.leased = False
        self.turns.settle(group)
        if not group.clients:
            self.residency.step_back(group)
            group.place = Place.IN
            self.turns.gathering.dispersed(group)
        self.residency.refresh(group)
        self._drop_if_empty(group)

    def _reclaimed(self, event: ev.Reclaimed) -> None:
        for device in self.state.devices.values():
            device.ghosts.pop(event.client, None)

    # memory

    def _asked(self, event: ev.Asked) -> None:
        client = self.state.clients[event.client]
        if event.device not in client.holdings:
            self.desk.say(Refuse(client.id, ErrorCode.UNKNOWN_DEVICE, f"no share of device {event.device}"))
            return
        until = self.state.now + self.state.settings.memory_wait_ns
        mark = self.state.served(client.group, event.device)
        client.group.requests.append(
            Request(client.id, event.device, event.bytes, event.pinned, event.request, until, mark)
        )

    def _returned(self, event: ev.Returned) -> None:
        client = self.state.clients[event.client]
        if event.device in client.holdings:
            self.memory.returned(client, event.device, event.bytes, pinned=event.pinned)

    def _swapped(self, event: ev.SwappedOut | ev.SwappedIn) -> None:
        client = self.state.clients[event.client]
        holding = client.holdings.get(event.device)
        out = isinstance(event, ev.SwappedOut)
        if holding is not None and out and event.status is SwapStatus.PAUSED:
            self.residency.pause(client, event.device, event.resident)
            return
        if holding is None or holding.moving is not (Moving.OUT if out else Moving.IN):
            return  # the end of a swap that the driver interrupted is no answer to what was asked since
        client.last_beat = self.state.now
        failed = event.status in (SwapStatus.BUSY, SwapStatus.FAILED)
        whole = out or failed or event.resident >= holding.resident
        if event.status is not SwapStatus.PROGRESS:
            count_swap(client.group, event, back=event.resident >= holding.claimed)
        if whole and event.status is not SwapStatus.PROGRESS:
            holding.moving = None
        if out:
            # It may have less than was kept for it, never more: more would be memory that nobody granted.
            self.state.keep(client, event.device, min(holding.resident, max(event.resident, 0)))
            if event.status is SwapStatus.DONE:
                holding.pinned = min(max(holding.pinned, holding.resident), holding.claimed)
        if failed:
            client.group.retry_at = self.state.now + self.state.settings.retry_ns
            if not out:
                self.state.keep(client, event.device, min(holding.resident, max(event.resident, 0)))
            elif client.group.place is Place.LEAVING and not client.group.in_motion:
                client.group.place = Place.OUT
                self.residency.refresh(client.group)

    def _hinted(self, event: ev.Hinted) -> None:
        holding = self.state.clients[event.client].holdings.get(event.device)
        if holding is not None and event.kind is HintKind.READ_ONLY:
            holding.read_only = min(event.bytes, holding.claimed)
        elif holding is not None:
            holding.discardable = min(event.bytes, holding.claimed)

    # signs of life, and the second tier

    def _beat(self, event: ev.Beat) -> None:
        client = self.state.clients[event.client]
        client.last_beat = self.state.now
        self.second.lives(client)
        for name, size in event.pinned.items():
            holding = client.holdings.get(name)
            if holding is not None:
                holding.pinned = min(size, holding.claimed)

    def _page_seen(self, event: ev.PageSeen) -> None:
        self.turns.seen(self.state.clients[event.client], event.inflight)


def count_swap(group: Group, event: ev.SwappedOut | ev.SwappedIn, *, back: bool) -> None:
    """`copied` adds up from piece to piece of an order, so only its end counts; `back`: nothing is out any more."""
    done = event.status is SwapStatus.DONE
    if isinstance(event, ev.SwappedOut):
        group.swaps.out += done
        group.swaps.bytes_out += event.copied
    else:
        group.swaps.back += done and back
        group.swaps.bytes_back += event.copied
