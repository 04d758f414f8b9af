"""What the broker knows: devices, groups, clients, and who holds what. Plain data; only the broker changes it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from gpumax.broker.core.gang import Gang
from gpumax.broker.core.shapes import WHOLE, DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.words import Mode


class Place(Enum):
    """Where a group's memory is."""

    IN = "in"
    OUT = "out"
    LEAVING = "leaving"
    COMING = "coming"


class Tier(Enum):
    """Where the driver has the process: on its devices, or off them altogether."""

    ON = "on"
    GOING = "going"
    OFF = "off"
    RETURNING = "returning"
    LOST = "lost"
    """The driver has given it up."""


class Moving(Enum):
    OUT = "out"
    IN = "in"


@dataclass(slots=True, eq=False)
class Holding:
    """What one process has of one device. `resident` is what is kept for it there, at least what it really uses."""

    claimed: int = 0
    pinned: int = 0
    resident: int = 0
    read_only: int = 0
    discardable: int = 0
    moving: Moving | None = None
    pool: int = 0

    @property
    def movable(self) -> int:
        return self.resident - min(self.pinned, self.resident)

    @property
    def copies(self) -> int:
        return max(self.movable - self.read_only - self.discardable, 0)


@dataclass(slots=True, eq=False)
class Client:
    id: int
    group: Group
    pid: int
    holdings: dict[str, Holding]
    swaps: bool = True
    checkpoints: bool = False
    connected: bool = True
    wants: bool = False
    leased: bool = False
    generation: int = 0
    fenced: bool = False
    paused: bool = False
    """It has moved its memory out by itself: until it asks again it lacks nothing."""
    leaving: bool = False
    """It has said that it ends: nobody waits for it."""
    last_beat: int = 0
    tier: Tier = Tier.ON
    awaiting_inventory: bool = False
    booked: bool = False
    """What it held before is known: from its earlier connection, or from its pages."""
    interrupted: bool = False
    """It's taken off, or was, without having rested: it comes back once it gives a sign of life."""
    again_at: int = 0
    """The driver couldn't take it off, and isn't asked again before."""
    reported: bool = False
    """That it gives no sign of life, or can't be brought back, has been told."""

    def lacks(self, device: str) -> int:
        holding = self.holdings.get(device)
        return 0 if self.paused or self.leaving or holding is None else holding.claimed - holding.resident

    @property
    def is_through(self) -> bool:
        """It ends, and there is nothing of it that would have to be moved."""
        return self.leaving and not any(h.resident for h in self.holdings.values())

    @property
    def standing(self) -> str:
        """Its lease in a word."""
        if self.tier is not Tier.ON:
            return "lost" if self.tier is Tier.LOST else "away"
        if self.fenced:
            return "fenced"
        if self.leased and self.group.lease is not None:
            return "revoked" if self.group.lease.revoked else "granted"
        return "waits" if self.wants else "none"


@dataclass(slots=True, eq=False)
class Swaps:
    """What a group has swapped: how often, and how many bytes were copied for it."""

    out: int = 0
    back: int = 0
    bytes_out: int = 0
    bytes_back: int = 0


@dataclass(slots=True, eq=False)
class Request:
    """A MEM_REQUEST that waits."""

    client: int
    device: str
    bytes: int
    pinned: bool
    request: int
    until: int
    mark: int
    """How far its group had come on the device when it asked: whoever works while it waits, waits no longer for it."""
    trims: set[int] = field(default_factory=set)
    """Siblings that were asked for what they don't use and haven't answered."""
    trimmed: bool = False
    told: bool = False
    """That it waits for somebody who doesn't make way has been told."""


class Lease(msgspec.Struct, eq=False):
    id: int
    started: int
    slice_end: int
    revoked: bool = False
    revoked_at: int = 0
    """When its turn was over; 0: it wasn't its turn that ended."""
    deadline: int = 0
    looked_at: int = 0
    reported: bool = False


@dataclass(slots=True, eq=False)
class Group:
    spec: GroupSpec
    name: str = field(init=False)
    devices: tuple[str, ...] = field(init=False)
    clients: dict[int, Client] = field(default_factory=dict)
    gang: Gang = field(default_factory=Gang)
    lease: Lease | None = None
    place: Place = Place.IN
    since: int = 0
    """When it last became resident."""
    last_used: int = 0
    retry_at: int = 0
    room_since: int = 0
    """Off its devices: since when nobody else wants the room that it would take; 0: somebody does."""
    requests: list[Request] = field(default_factory=list)
    served: dict[str, int] = field(default_factory=dict)
    """By device: time charged, divided by the share; who has least is furthest behind."""
    tokens: int = 0
    """Strict: nanoseconds of its share that it hasn't used."""
    frame: int = 0
    drain_ns: int = 0
    """How long it took of late from the end of its turn until it had drained."""
    backlogged: bool = False
    coming_since: int = 0
    lost_before: dict[str, int] = field(default_factory=dict)
    """By device: `lost_ns` when it began to come in."""
    asked_room: bool = False
    removed: bool = False
    swaps: Swaps = field(default_factory=Swaps)

    rationed: bool = field(init=False)
    """Strict, of less than a whole device: its time is dealt out by frames."""

    def __post_init__(self) -> None:
        self.name, self.devices = self.spec.name, self.spec.devices
        self.become(self.spec)

    def become(self, spec: GroupSpec) -> None:
        self.spec = spec
        self.rationed = spec.mode is Mode.STRICT and spec.share < WHOLE

    # These two are asked with every lease: a loop costs a third of what `any` does.

    @property
    def wants(self) -> bool:
        """Whether any of its processes waits to submit, or submits."""
        for client in self.clients.values():  # noqa: SIM110
            if client.wants:
                return True
        return False

    @property
    def at_work(self) -> bool:
        """Whether any of its processes has a part of its lease."""
        for client in self.clients.values():  # noqa: SIM110
            if client.leased:
                return True
        return False

    def claimed(self, device: str) -> int:
        return sum(c.holdings[device].claimed for c in self.clients.values() if device in c.holdings)

    def pinned(self, device: str) -> int:
        return sum(c.holdings[device].pinned for c in self.clients.values() if device in c.holdings)

    def resident(self, device: str) -> int:
        return sum(c.holdings[device].resident for c in self.clients.values() if device in c.holdings)

    def lacks(self, device: str) -> int:
        """What is out and wanted on the device."""
        return sum(c.lacks(device) for c in self.clients.values())

    def movable(self, device: str) -> int:
        return sum(c.holdings[device].movable for c in self.clients.values() if device in c.holdings)

    def copies(self, device: str) -> int:
        """Bytes that have to be copied for it to leave: what is read-only has a good copy already, what may be thrown away needs none."""
        return sum(c.holdings[device].copies for c in self.clients.values() if device in c.holdings)

    def share_of(self, device: str) -> MemoryShare:
        return self.spec.memory[device]

    def guaranteed(self, ask: Request) -> bool:
        """Whether a request is within the guarantee: it's always to be had."""
        return self.claimed(ask.device) + ask.bytes <= self.share_of(ask.device).guarantee

    @property
    def by_right(self) -> bool:
        return all(self.claimed(d) <= self.share_of(d).guarantee for d in self.devices)

    @property
    def in_motion(self) -> bool:
        return any(h.moving for c in self.clients.values() for h in c.holdings.values()) or any(
            c.tier in (Tier.GOING, Tier.RETURNING) for c in self.clients.values()
        )

    @property
    def gone(self) -> bool:
        """Whether one of its processes can't be brought back, or not before it gives a sign of life."""
        return any(c.interrupted or c.tier is Tier.LOST for c in self.clients.values())

    @property
    def answers(self) -> bool:
        """Whether all of its processes can be spoken to."""
        return all((c.connected and not c.fenced) or c.is_through for c in self.clients.values())


@dataclass(slots=True, eq=False)
class Device:
    spec: DeviceSpec
    holders: list[Group] = field(default_factory=list)
    """Who may submit. Never more than one, but for what an earlier broker left behind."""
    coming: Group | None = None
    """For whom room is being made."""
    ghosts: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By client that is gone: bytes that the driver may still hold, and until when to believe so."""
    outsiders: dict[int, int] = field(default_factory=dict)
    """By process that has no part of it: bytes that it uses, and the driver is to take off while others need the room."""
    used: int = 0
    virtual: int = 0
    """`served` of whoever was granted last: where newcomers begin."""
    switch_ns: int = 0
    """What bringing somebody in has cost of late, measured."""
    lost_ns: int = 0
    """How long nobody could work because somebody's memory was on its way."""
    switches: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=6))
    """The last ones: when they began, and `lost_ns` then."""
    serial: bool = False

    @property
    def free(self) -> int:
        return self.spec.capacity - self.used - sum(size for size, _ in self.ghosts.values())

    @property
    def empty(self) -> int:
        """What of the free memory isn't used by those who have no part of it."""
        return self.free - sum(self.outsiders.values())


@dataclass(slots=True, eq=False)
class State:
    settings: Settings
    devices: dict[str, Device]
    epoch: int
    now: int
    quiet_until: int = 0
    """Nothing new is granted before: those of an earlier epoch may still come back."""
    groups: dict[str, Group] = field(default_factory=dict)
    clients: dict[int, Client] = field(default_factory=dict)
    next_lease: int = 1
    backlog: dict[str, Group] = field(default_factory=dict)
    """Groups that want to submit, and `leased`, those that may: all that most events have to look at."""
    leased: dict[str, Group] = field(default_factory=dict)
    gathering: dict[str, Group] = field(default_factory=dict)
    """Groups of which somebody has come, and not everybody."""

    def begin(self, group: Group, length: int) -> Lease:
        group.lease = Lease(self.next_lease, self.now, self.now + length)
        self.leased[group.name] = group
        self.next_lease += 1
        return group.lease

    def end(self, group: Group) -> None:
        group.lease = None
        self.leased.pop(group.name, None)

    @property
    def settled(self) -> bool:
        """Whether everybody is resident, nobody asks for memory, and the driver has that of the dead back."""
        return not any(d.ghosts or d.coming for d in self.devices.values()) and not any(
            g.requests or g.place is not Place.IN for g in self.groups.values()
        )

    def keep(self, client: Client, device: str, resident: int) -> None:
        """Keep so much of the device for this process."""
        holding = client.holdings[device]
        self.devices[device].used += resident - holding.resident
        holding.resident = resident

    def quantum(self, device: Device, group: Group) -> int:
        """How long whoever came in may stay, so that coming and going cost about a tenth."""
        s, name = self.settings, device.spec.name
        moved = group.claimed(name) + group.copies(name)
        cost = device.switch_ns or moved * 1_000_000_000 // s.link_bytes_per_s
        return min(max(s.quantum_factor * cost, s.shortest_quantum_ns), s.longest_quantum_ns)

    def running(self, group: Group) -> int:
        return self.now - group.lease.started if group.lease else 0

    def served(self, group: Group, device: str) -> int:
        """Charged time over share, what is being used right now included."""
        before, lease = group.served.get(device, 0), group.lease
        return before if lease is None else before + (self.now - lease.started) * WHOLE // group.spec.share

    def come(self, group: Group, device: str) -> int:
        """The same as it was when the group asked for memory of the device, if it waits for some."""
        served = self.served(group, device)
        return min([served, *(ask.mark for ask in group.requests if ask.device == device)])
