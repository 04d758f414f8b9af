"""Devices by the name under which a driver knows them, for whoever shares their memory and time out."""

from __future__ import annotations

from typing import NamedTuple

from gpumax.ports.devices import Devices
from gpumax.units import MIB


class Sharable(NamedTuple):
    number: int
    """The device's index."""
    uuid: str
    bytes: int
    """What can be given out of its memory."""
    whole: int
    """All of its memory."""
    name: str
    context: int = 0
    """Bytes of it that count for each context of a program in a part, for GPUMAX_CONTEXT."""


def sharable(devices: Devices) -> tuple[Sharable, ...]:
    """Those that work and that a driver knows."""
    known = devices.uuids()
    return tuple(
        Sharable(
            each.index,
            known[each.index],
            _usable(each.memory_mib * MIB, virtual=devices.virtual),
            each.memory_mib * MIB,
            each.model,
            0 if devices.virtual else context_bytes(each.memory_mib * MIB),
        )
        for each in devices.read()
        if each.healthy and each.index in known and each.memory_mib
    )


def _usable(total: int, *, virtual: bool) -> int:
    """The driver keeps some for itself: on a real device a twentieth is left to it, at most 2 GiB."""
    return total if virtual else total - min(total // 20, 2 << 30)


def context_bytes(whole: int) -> int:
    """What a context is taken for that nobody has measured: parts that left it out would promise more than there is."""
    return min(whole // 16, 512 * MIB)
