"""What others may see of a broker: its devices, its groups, and why one waits. JSON by msgspec; read, never kept."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gpumax.broker.core.awaited import awaited, stuck
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.shapes import SECOND, WHOLE
from gpumax.broker.core.state import Client, Device, Group, Place, Tier


class Unfenced(msgspec.Struct, frozen=True):
    """A process that uses more of a device than it has declared, or that never declared anything."""

    pid: int
    bytes: int
    why: str
    away: bool = False
    """The driver has it off the device, because others need the room."""


class DeviceStatus(msgspec.Struct, frozen=True):
    uuid: str
    name: str
    bytes: int
    """That may be given out."""
    used: int
    """Kept for somebody, or not yet back from the dead."""
    state: str
    """`idle`, `busy` (somebody may submit), `swaps` (somebody comes in)."""
    unfenced: tuple[Unfenced, ...] = ()
    holder: str | None = None
    serial: bool = False


class HoldingStatus(msgspec.Struct, frozen=True):
    resident: int
    swapped: int
    pinned: int
    budget: int


class ClientStatus(msgspec.Struct, frozen=True):
    pid: int
    client: int
    lease: str
    """`none`, `waits`, `granted`, `revoked`, `fenced`, `away` (the driver has taken it off its devices, or is about to, or to bring it back), `lost` (the
    driver can't bring it back)."""
    devices: dict[str, HoldingStatus]


class Swaps(msgspec.Struct, frozen=True):
    """Of a group since this broker began."""

    out: int = 0
    in_: int = msgspec.field(default=0, name="in")
    bytes_out: int = 0
    bytes_in: int = 0


class GroupStatus(msgspec.Struct, frozen=True):
    """`guaranteed` and `limit`: bytes a device, the largest where they differ."""

    name: str
    mode: str
    share: float
    guaranteed: int
    limit: int
    swap: bool
    clients: tuple[ClientStatus, ...]
    swaps: Swaps
    waits: str | None = None
    devices: tuple[str, ...] = ()
    """Of which it has a part, whether or not a process is there."""
    hangs: str | None = None
    """Which of its processes neither goes on nor rests, in words."""


class Status(msgspec.Struct, frozen=True):
    epoch: int
    devices: tuple[DeviceStatus, ...]
    groups: tuple[GroupStatus, ...]


def status(
    broker: Broker, unfenced: Mapping[str, tuple[Unfenced, ...]] | None = None, now: int | None = None
) -> Status:
    """now: by the broker's clock; None: when something happened last. Who says nothing is seen by it."""
    s = broker.state
    return Status(
        s.epoch,
        tuple(_device(device, (unfenced or {}).get(name, ())) for name, device in s.devices.items()),
        tuple(_group(broker, group, now) for group in s.groups.values()),
    )


def _device(device: Device, unfenced: tuple[Unfenced, ...]) -> DeviceStatus:
    holder = device.holders[0].name if device.holders else None
    state = "swaps" if device.coming is not None else "idle" if holder is None else "busy"
    spec = device.spec
    used = spec.capacity - device.free
    return DeviceStatus(spec.name, spec.model, spec.capacity, used, state, unfenced, holder, device.serial)


def _group(broker: Broker, group: Group, now: int | None) -> GroupStatus:
    spec = group.spec
    return GroupStatus(
        spec.name,
        spec.mode.name.lower(),
        spec.share / WHOLE,
        max(memory.guarantee for memory in spec.memory.values()),
        max(memory.limit for memory in spec.memory.values()),
        spec.swap,
        tuple(_client(client) for client in group.clients.values()),
        Swaps(group.swaps.out, group.swaps.back, group.swaps.bytes_out, group.swaps.bytes_back),
        waits(broker, group, now),
        spec.devices,
        hangs(broker, group, now),
    )


def _client(client: Client) -> ClientStatus:
    holdings = {
        name: HoldingStatus(h.resident, h.claimed - h.resident, h.pinned, h.claimed)
        for name, h in client.holdings.items()
    }
    return ClientStatus(client.pid, client.id, client.standing, holdings)


def hangs(broker: Broker, group: Group, now: int | None = None) -> str | None:
    """Which of its processes neither goes on nor rests; None: all do."""
    found = [
        f"process {c.pid} {why}"
        for c in group.clients.values()
        if (why := stuck(broker.state, group, c, now))
    ]
    return "; ".join(found) or None


def waits(broker: Broker, group: Group, now: int | None = None) -> str | None:
    """Why a group that wants to work, or to allocate, doesn't; None: it works, or rests."""
    if not group.requests and (group.lease or not group.backlogged):
        return None
    s = broker.state
    if s.now < s.quiet_until:
        return "the broker has come back, and waits for those who may still be submitting"
    lost = next((c for c in group.clients.values() if c.tier is Tier.LOST), None)
    if lost is not None:
        return f"process {lost.pid} was taken off its devices, and the driver can't bring it back; end it"
    absent = next(
        (c for c in group.clients.values() if not c.leaving and (not c.connected or c.fenced)), None
    )
    if absent is not None:
        return f"process {absent.pid} doesn't answer"
    if not group.gang.whole:
        return f"{len(group.gang.came)} of {group.gang.ranks} processes are there; it waits for the others for {s.settings.gang_wait_ns // SECOND} s"
    if group.requests:
        ask = group.requests[0]
        who = awaited(s, group, ask.device, now) if group.guaranteed(ask) else []
        what = f"{ask.bytes >> 20} MiB on {ask.device}"
        return f"{what}, within its guarantee: {'; '.join(who)}" if who else f"{what}: others have the room"
    if group.place is not Place.IN:
        who = [each for d in group.devices if group.lacks(d) for each in awaited(s, group, d, now)]
        return "; ".join([_room(broker, group), *(who if group.by_right else [])])
    if group.rationed and not broker.turns.eligible(group):
        return "its share of this frame is used"
    held = [d for d in group.devices if s.devices[d].holders]
    return f"its turn: {s.devices[held[0]].holders[0].name} has {held[0]}" if held else "its turn comes"


def _room(broker: Broker, group: Group) -> str:
    off = [str(c.pid) for c in group.clients.values() if c.tier is not Tier.ON]
    if off and group.place is Place.COMING:
        return f"the driver brings process {', '.join(off)} back to its devices"
    if off:
        return f"the driver has process {', '.join(off)} off its devices, until there is room"
    if group.place is Place.COMING:
        return "its memory comes in"
    if group.place is Place.LEAVING:
        return "its memory makes way"
    there = sorted(
        {g.name for g in broker.state.groups.values() if g is not group and any(g.resident(d) for d in group.devices)}
    )  # fmt: skip
    return f"its memory is out: {', '.join(there)} {'have' if len(there) > 1 else 'has'} the room" if there else (
        "its memory is out"
    )  # fmt: skip
