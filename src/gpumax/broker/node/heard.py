"""What a client says, as an event of the core. A message that can't be from it is refused, with why."""

from __future__ import annotations

from typing import Final

from gpumax.broker import messages as msg
from gpumax.broker.core import events as ev
from gpumax.broker.wire import Garbled, Header
from gpumax.broker.words import NO_LEASE, ErrorCode, HintKind, MemoryFlags, ReleaseFlags, SwapStatus

# As plain numbers: an enumeration makes a member of each result, and these are asked for with every lease.
DRAINED: Final = int(ReleaseFlags.DRAINED)
WANTS: Final = int(ReleaseFlags.WANTS)


def event(
    message: msg.Message, header: Header, client: int, devices: tuple[str, ...], now: int
) -> ev.Event | None:
    """None: nothing follows from it. Raises Garbled."""
    # By its very type: `isinstance`, which a match asks, takes as long as making the event, for each case that it isn't.
    if type(message) is msg.Acquire:
        return ev.Wanted(now, client)
    if type(message) is msg.Release:
        if not message.flags & DRAINED:
            return None  # it submits no more, and is still at work: its deadline runs on
        return ev.Released(now, client, message.lease, message.flags & WANTS != 0)
    if type(message) is msg.Heartbeat:
        pairs = zip(devices, message.usage, strict=False)
        return ev.Beat(now, client, {device: usage.pinned for device, usage in pairs})
    match message:
        case msg.MemRequest():
            pinned = bool(message.flags & MemoryFlags.PINNED)
            return ev.Asked(now, client, _device(message, devices), message.bytes, pinned, header.request)
        case msg.MemReturn():
            pinned = bool(message.flags & MemoryFlags.PINNED)
            return ev.Returned(now, client, _device(message, devices), message.bytes, pinned)
        case msg.SwappedOut() | msg.SwappedIn():
            swapped = ev.SwappedOut if isinstance(message, msg.SwappedOut) else ev.SwappedIn
            device, how = _device(message, devices), SwapStatus(message.status)
            return swapped(now, client, device, message.resident, how, message.copied)
        case msg.Hint():
            return ev.Hinted(now, client, _device(message, devices), HintKind(message.kind), message.bytes)
        case msg.Inventory():
            held = {
                d: (h.budget, h.pinned, h.resident) for d, h in zip(devices, message.holding, strict=False)
            }
            return ev.Inventory(now, client, message.lease != NO_LEASE, bool(message.flags & WANTS), held)
        case msg.Bye():
            return ev.Leaving(now, client)
        case msg.Error():
            return None
        case msg.Hello():
            raise Garbled("HELLO was said already", ErrorCode.STATE, message.type)
    raise Garbled(f"{message.type.name} is the broker's to say", ErrorCode.STATE, message.type)


def _device(
    message: msg.MemRequest | msg.MemReturn | msg.SwappedOut | msg.SwappedIn | msg.Hint,
    devices: tuple[str, ...],
) -> str:
    if message.device >= len(devices):
        raise Garbled(
            f"device {message.device}; this client has {len(devices)}", ErrorCode.UNKNOWN_DEVICE, message.type
        )
    return devices[message.device]
