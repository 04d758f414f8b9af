"""Time: who may submit, for how long. One lease at a time on a device, charged from its grant until it has drained.

Fair: each frame is split by share among those who want the device; who got more than its part of one gets less of the next.
Strict: each frame brings exactly the share; what others left idle brings nothing. A group takes all of its devices at once or
none: while its turn has come and one of them is taken, nobody behind it gets the others, so it neither holds while it waits
nor starves. Nor does it begin before all of its processes have come; for those who don't, nobody waits for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Final, NamedTuple

from gpumax.broker.core.desk import Desk
from gpumax.broker.core.gathering import Gathering
from gpumax.broker.core.orders import Checkpoint, End, Ended, Fence, Grant, Look, Revoke
from gpumax.broker.core.shapes import SECOND, WHOLE, GroupSpec, Stuck
from gpumax.broker.core.state import Client, Group, Lease, Place, State, Tier
from gpumax.broker.words import Reason

AWAY_CARRY_NS = 120 * SECOND
"""Strict: how much time of its share may wait for a group whose memory is out."""

NOBODY: Final[Set[str]] = frozenset()
NEVER: Final = 1 << 63
MISSED = 4 * WHOLE
"""Whoever is so many thousandths of its part of a frame behind goes before others."""


class Level(NamedTuple):
    """Of the fair groups that want a device, in charged time over share: see `State.served`."""

    mark: int
    """Where each is to be when the frame ends."""
    part: int
    """How far a frame brings each."""


class Turns:
    def __init__(self, state: State, desk: Desk) -> None:
        self.state = state
        self.desk = desk
        self.gathering = Gathering(state, desk)
        self.next_frame = 0
        """When `refill` has something to do next."""

    def refill(self) -> None:
        """Strict groups get their part of each frame. Who didn't ask for it loses it; who couldn't have it keeps it."""
        s = self.state
        number = s.now // s.settings.frame_ns
        self.next_frame = (number + 1) * s.settings.frame_ns
        for group in s.groups.values():
            if not group.rationed or number <= group.frame:
                continue
            part = s.settings.frame_ns * group.spec.share // WHOLE
            most = part
            if group.backlogged:
                carry = SECOND if group.place is Place.IN else AWAY_CARRY_NS
                most += carry * group.spec.share // WHOLE
            group.tokens = min(group.tokens + (number - group.frame) * part, max(most, group.tokens))
            group.frame = number

    def tokens(self, group: Group) -> int:
        return group.tokens - self.state.running(group)

    def eligible(self, group: Group) -> bool:
        """Whether its share allows it to begin now."""
        if not group.rationed:
            return True
        s = self.state.settings
        return self.tokens(group) >= min(s.shortest_slice_ns, s.frame_ns * group.spec.share // WHOLE)

    def complete(self, group: Group) -> bool:
        """Whether all of its processes are there, and can be spoken to."""
        for c in group.clients.values():
            if c.leaving:
                continue
            if not c.connected or c.fenced or c.tier is not Tier.ON or c.awaiting_inventory:
                return False
        return bool(group.clients) and group.gang.whole

    def ready(self, group: Group) -> bool:
        return (
            group.backlogged
            and group.place is Place.IN
            and not (group.lease and group.lease.revoked)
            and (not group.rationed or self.eligible(group))
            and self.complete(group)
        )

    def notice(self, group: Group) -> None:
        """A group has begun or ceased to want the device."""
        wants = group.wants
        if wants == group.backlogged:
            return
        group.last_used = self.state.now
        group.backlogged = wants
        if not wants:
            self.state.backlog.pop(group.name, None)
            return
        self.state.backlog[group.name] = group
        for name in group.devices:
            here = self._here(name)
            if group.served.get(name, 0) < here:
                group.served[name] = here

    def _here(self, name: str) -> int:
        """Where those are who share a device: a newcomer is owed nothing for the time before it came."""
        s = self.state
        device = s.devices[name]
        here = device.virtual
        for group in device.holders:
            if group.lease and s.now > group.lease.slice_end:  # it's alone
                here = max(here, s.served(group, name))
        return here

    def marks(self, able: list[Group]) -> dict[str, int]:
        """By device: how far whoever is furthest behind there has come, of those who can go or are under way."""
        marks: dict[str, int] = {}
        for group in able:
            for name in group.devices:
                served = self.state.served(group, name)
                marks[name] = min(marks.get(name, served), served)
        return marks

    def lag(self, group: Group, marks: dict[str, int]) -> int:
        """How far it is ahead of its share, on the device where it's furthest ahead of others who want it.

        Whoever is served moves ahead of those who wait beside it, on each device that they share, and they don't: so
        nobody who can go waits for ever, whatever devices others need besides.
        """
        return max((self.state.served(group, d) - marks[d] for d in group.devices), default=0)

    def levels(self, able: list[Group]) -> dict[str, Level]:
        """By device. What strict groups have left of their time is theirs first."""
        s, frame = self.state, self.state.settings.frame_ns
        levels: dict[str, Level] = {}
        for name in {name for group in able if not group.rationed for name in group.devices}:
            shares = far = 0
            least = NEVER
            for group in able:
                if not group.rationed and name in group.devices:
                    served = s.served(group, name)
                    shares += group.spec.share
                    far += served * group.spec.share
                    if served < least:
                        least = served
            left, others = frame - s.now % frame, 0
            for group in s.backlog.values():
                if group.rationed and name in group.devices:
                    left -= max(self.tokens(group), 0)
                    others += group.spec.share
            part = frame * max(WHOLE - others, 0) // shares
            mark = (far + max(left, 0) * WHOLE) // shares
            if 2 * (mark - least) < part:  # nothing is left of this frame that is worth a turn
                mark += part
            levels[name] = Level(mark, max(part, 1))
        return levels

    def behind(self, group: Group, levels: Mapping[str, Level]) -> int:
        """What it has to get before the frame ends, in thousandths of its part of one, where that is least.

        Whoever waits falls behind on each device on which others are served: so nobody who can go waits for ever.
        """
        if group.rationed:
            return self.tokens(group) * WHOLE * WHOLE // (group.spec.share * self.state.settings.frame_ns)
        least = NEVER
        for name in group.devices:
            mark, part = levels[name]
            behind = (mark - self.state.served(group, name)) * WHOLE // part
            if behind < least:
                least = behind
        return least

    def order(self, group: Group, levels: Mapping[str, Level]) -> tuple[bool, int, int, str]:
        """Strict ones first. Then who has missed several frames; then who hasn't had its turn in this one.

        These always in the same order, so that a frame is like the one before it and a second like any other; who has
        long turns first, because short ones are what others' long kernels may delay at less loss.
        """
        behind = self.behind(group, levels)
        if behind >= MISSED:
            return not group.rationed, 0, -behind, group.name
        if 2 * behind >= WHOLE:
            return not group.rationed, 1, -group.spec.share, group.name
        return not group.rationed, 2, -behind, group.name

    def step(self) -> None:
        s = self.state
        if s.gathering:
            self.gathering.step()
        waiting = []
        for group in s.backlog.values():
            if group.lease is None:
                if self.ready(group):
                    waiting.append(group)
                elif group.rationed and not self.eligible(group):
                    self.desk.wake(self.next_frame)
        awaited = self._grant_all(waiting) if waiting else NOBODY
        if s.leased:
            for group in list(s.leased.values()):
                self._watch(group, awaited)

    def _grant_all(self, waiting: list[Group]) -> Set[str]:
        """Grants to those whose turn it is. Devices that somebody waits for, which others have."""
        s = self.state
        if s.now < s.quiet_until:
            self.desk.wake(s.quiet_until)
            return NOBODY
        taken = {name for group in s.leased.values() for name in group.devices}
        if taken and not any(taken.isdisjoint(group.devices) for group in waiting):
            return {name for group in waiting for name in group.devices}
        awaited: set[str] = set()
        levels = self.levels([*s.leased.values(), *waiting]) if len(s.backlog) > 1 or s.leased else {}
        if len(waiting) > 1:
            waiting = sorted(waiting, key=lambda g: self.order(g, levels))
        for group in waiting:
            for name in group.devices:
                if s.devices[name].holders or name in awaited:
                    awaited.update(group.devices)
                    break
            else:
                self._grant(group, levels)
        return awaited

    def _grant(self, group: Group, levels: Mapping[str, Level]) -> None:
        s = self.state
        length = self._slice(group, levels)
        lease = s.begin(group, length)
        for name in group.devices:
            device = s.devices[name]
            device.holders.append(group)
            device.virtual = max(device.virtual, group.served.get(name, 0))
        for client in group.clients.values():
            if not client.leaving:
                self.tell(client, lease)

    def tell(self, client: Client, lease: Lease) -> None:
        client.leased = True
        client.generation += 1
        self.desk.say(Grant(client.id, lease.id, client.generation, max(lease.slice_end - self.state.now, 0)))

    def _slice(self, group: Group, levels: Mapping[str, Level]) -> int:
        """What it is behind, but no more than twice its part at once: others would be kept from theirs."""
        s = self.state.settings
        if not levels and not group.rationed:
            return s.frame_ns
        part = s.frame_ns if group.rationed else min(levels[d].part for d in group.devices)
        behind = min(self.behind(group, levels), 2 * WHOLE)
        length = behind * part // WHOLE * group.spec.share // WHOLE
        return length if group.rationed else max(length, s.shortest_slice_ns)

    def _watch(self, group: Group, awaited: Set[str]) -> None:
        """One who holds a lease: is its turn over?"""
        s = self.state
        lease = group.lease
        assert lease is not None
        if lease.revoked:
            self._overdue(group, lease)
            return
        late = []
        for client in group.clients.values():
            if not client.leased:
                if client.wants and client.connected and not client.fenced:
                    late.append(client)
            elif not client.connected:
                if s.now >= s.quiet_until:
                    self.revoke(group, Reason.SHUTDOWN)
                    return
                self.desk.wake(s.quiet_until)
        for client in late:
            self.tell(client, lease)
        end = s.now + self.tokens(group) if group.rationed else NEVER
        if awaited and not awaited.isdisjoint(group.devices):
            end = min(end, lease.slice_end)
        if end == NEVER:
            return
        due = self._early(group, lease, end)
        if s.now >= due:
            self.revoke(group, Reason.TURN)
        else:
            self.desk.wake(due)

    def _early(self, group: Group, lease: Lease, end: int) -> int:
        """When to revoke it so that it has drained by then; it has half of its turn to submit all the same."""
        return max(end - group.drain_ns, min(end, (lease.started + end) // 2))

    def revoke(self, group: Group, reason: Reason) -> None:
        s = self.state
        lease = group.lease
        if lease is None or lease.revoked:
            return
        lease.revoked = True
        lease.revoked_at = s.now if reason is Reason.TURN else 0
        lease.deadline = s.now + s.settings.grace_ns
        self.desk.wake(lease.deadline)
        for client in group.clients.values():
            if client.leased:
                self.tell_revoked(client, lease, reason)

    def tell_revoked(self, client: Client, lease: Lease, reason: Reason) -> None:
        self.desk.say(Revoke(client.id, lease.id, client.generation, lease.deadline, reason))

    def released(self, client: Client, lease: int, wants: bool) -> None:
        """It has drained. What it says of another lease than its own is old, and only tells that it lives."""
        group = client.group
        if client.fenced:
            client.fenced = False
            self.desk.say(Ended(client.id, client.generation))
        elif group.lease is None or lease != group.lease.id or not client.leased:
            return
        else:
            client.leased = False
            self.desk.say(Ended(client.id, client.generation))
        client.wants = wants
        self.settle(group)

    def change(self, group: Group, spec: GroupSpec) -> None:
        """Another share from now on: what was used before is charged by the old one."""
        s = self.state
        if group.lease is not None:
            self._charge(group, group.lease)
            group.lease.started = s.now
        if group.rationed and group.spec.share != spec.share:
            group.tokens = min(group.tokens, s.settings.frame_ns * spec.share // WHOLE)
        group.become(spec)
        if not group.rationed:
            group.tokens = 0
        group.frame = max(group.frame, s.now // s.settings.frame_ns)

    def _charge(self, group: Group, lease: Lease) -> None:
        took = self.state.now - lease.started
        far = took * WHOLE // group.spec.share
        for name in group.devices:
            group.served[name] = group.served.get(name, 0) + far
        if group.rationed:
            group.tokens -= took

    def settle(self, group: Group) -> None:
        """Ends the lease once nobody has a part of it any more, and charges it."""
        s = self.state
        lease = group.lease
        if lease is not None and not group.at_work:
            self._charge(group, lease)
            if lease.revoked_at:
                group.drain_ns += (min(s.now - lease.revoked_at, s.settings.frame_ns) - group.drain_ns) // 4
            for name in group.devices:
                s.devices[name].holders.remove(group)
            group.last_used = s.now
            s.end(group)
        self.notice(group)

    def _overdue(self, group: Group, lease: Lease) -> None:
        """Its deadline has passed. A long kernel is waited for, and charged; whoever gives no sign of life is looked at."""
        s = self.state
        if s.now < lease.deadline:
            self.desk.wake(lease.deadline)
            return
        patience = lease.deadline + s.settings.stuck_ns
        again = max(lease.looked_at + s.settings.heartbeat_ns, lease.deadline)
        for client in [c for c in group.clients.values() if c.leased]:
            silent_at = client.last_beat + 2 * s.settings.heartbeat_ns + 1
            suspect = not client.connected or s.now >= min(silent_at, patience)
            if not suspect:
                self.desk.wake(min(silent_at, patience))
            elif s.now >= again:
                lease.looked_at = s.now
                self.desk.say(Look(client.id))
                self.desk.wake(s.now + s.settings.heartbeat_ns)
            else:
                self.desk.wake(again)

    def seen(self, client: Client, inflight: int) -> None:
        """Its page says REVOKED since the deadline was set. With no call under way it can't submit: the lease is over."""
        lease = client.group.lease
        if lease is None or not lease.revoked or self.state.now < lease.deadline or not client.leased:
            return
        if inflight == 0:
            self.fence(client)
        elif client.tier is Tier.ON and client.checkpoints and self.state.now >= client.again_at:
            client.tier, client.interrupted = Tier.GOING, True
            self.desk.say(Checkpoint(client.id, self.state.settings.grace_ns))
        elif self.state.settings.stuck is Stuck.END:
            self.desk.say(End(client.id, "it holds a device and neither drains nor answers"))
        elif not lease.reported:
            lease.reported = True
            self.desk.report(
                "stuck", client.group.name,
                f"process {client.pid} holds its devices and doesn't answer; `kill -9 {client.pid}` ends it",
            )  # fmt: skip

    def fence(self, client: Client) -> None:
        client.leased = client.wants = False  # it's owed nothing for the time in which it didn't answer
        client.fenced = True
        self.desk.say(Fence(client.id, client.generation))
        self.desk.report(
            "fenced", client.group.name,
            f"process {client.pid} didn't drain in time and can't submit any more; others go on",
        )  # fmt: skip
        self.settle(client.group)
