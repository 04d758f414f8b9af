"""Who sees to it that containers have no more than their parts: the broker of the node, told of each part."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from gpumax.apps.gpu.keeper import Keeper
from gpumax.broker.control import Control, Group
from gpumax.devices.uuids import Sharable, sharable
from gpumax.engines.kubernetes.grants import Amount, Grant
from gpumax.errors import Conflict, Refused, Unreachable
from gpumax.ports.devices import Devices
from gpumax.units import MIB, MILLI


class Held(NamedTuple):
    """What a container needs to be held to its part. limit: bytes of each device; context: those that each context counts."""

    name: str
    limit: int
    socket: Path
    swap: bool
    context: int = 0


class Holder:
    """swap: whether memory may be moved to the node's own, so that limits above what is asked for mean something."""

    def __init__(self, devices: Devices, keeper: Keeper, *, swap: bool = False) -> None:
        self._devices = devices
        self._keeper = keeper
        self._control = Control(keeper.directory)
        self._swap = swap

    def hold(self, key: str, grant: Grant) -> Held | None:
        """Have a group for a part, once more if there is one. None where it's whole devices, or such as no driver knows."""
        there = {each.number: each for each in sharable(self._devices)}
        if not grant.devices.keys() <= there.keys() or all(
            part.milli >= MILLI for part in grant.devices.values()
        ):
            return None
        group = self._group(key, grant, there)
        control = self._keeper.begin(tuple(there.values()))
        try:
            socket = control.add(group)
        except Conflict:
            socket = _anew(control, group)
        context = max(there[index].context for index in grant.devices)
        return Held(group.name, group.limit, socket, group.swap, context)

    def free(self, key: str) -> None:
        """Of a part, and of those of its containers."""
        self._remove({name for name in self._names() if name == key or name.startswith(f"{key}-")})

    def keep(self, keys: Collection[str]) -> None:
        """All others go."""
        self._remove(self._names() - set(keys))

    def _names(self) -> set[str]:
        try:
            return {group.name for group in self._control.groups()}
        except Unreachable:
            return set()  # it's told by the next sweep

    def _remove(self, names: Collection[str]) -> None:
        for name in sorted(names):
            self._control.remove(name)

    def _group(self, key: str, grant: Grant, there: dict[int, Sharable]) -> Group:
        parts = [(part, there[index]) for index, part in sorted(grant.devices.items())]
        guaranteed = min(_guaranteed(part, device) for part, device in parts)
        swap = self._swap and grant.limit is not None
        limit = (
            max(guaranteed, min(_grown(grant.limit, device) for _, device in parts)) if swap else guaranteed
        )
        share = min(max(part.milli, 1) for part, _ in parts) / MILLI
        uuids = tuple(device.uuid for _, device in parts)
        return Group(key, uuids, guaranteed, limit, share, swap=swap, users="any")


def _anew(control: Control, group: Group) -> Path:
    """The same claim with another part: on other devices it's another group."""
    try:
        control.configure(group)
    except Refused:
        control.remove(group.name)
    return control.add(group)


def _guaranteed(part: Amount, device: Sharable) -> int:
    """What the driver takes of a device is taken of all parts alike."""
    asked = part.memory_mib * MIB or device.whole * part.milli // MILLI
    return min(asked * device.bytes // device.whole, device.bytes)


def _grown(limit: Amount | None, device: Sharable) -> int:
    if limit is None:
        return 0
    return min(max(device.bytes * limit.milli // MILLI, limit.memory_mib * MIB), device.bytes)
