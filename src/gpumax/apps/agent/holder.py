"""Who sees to it that containers have no more than their parts: the broker of the node, told of each part."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

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
    """Memory may be moved to the node's own as far as there is some for it: a part that can't have that is held to what it is guaranteed, and `tell` hears why.

    tell: is called with the key of a part and words, once for each; from any thread.
    """

    def __init__(
        self, devices: Devices, keeper: Keeper, tell: Callable[[str, str], None] = lambda *_: None
    ) -> None:
        self._devices = devices
        self._keeper = keeper
        self._control = Control(keeper.directory)
        self._tell = tell
        self._told: set[str] = set()

    def hold(self, key: str, grant: Grant) -> Held | None:
        """Have a group for a part, once more if there is one. None where it's whole devices, or such as no driver knows."""
        there = {each.number: each for each in sharable(self._devices)}
        if not grant.devices.keys() <= there.keys() or all(
            part.milli >= MILLI for part in grant.devices.values()
        ):
            return None
        control = self._keeper.begin(tuple(there.values()))
        group, socket = self._had(control, self._group(key, grant, there))
        context = max(there[index].context for index in grant.devices)
        return Held(group.name, group.limit, socket, group.swap, context)

    def _had(self, control: Control, wanted: Group) -> tuple[Group, Path]:
        """The group as it can be had. What is there already stays, whatever else has become possible: its processes go by it."""
        stays = replace(wanted, limit=wanted.guaranteed, swap=False)
        if wanted.swap and stays in control.groups():
            return stays, control.add(stays)
        try:
            return wanted, _added(control, wanted)
        except Refused as error:
            if not wanted.swap:
                raise
            socket = _added(control, stays)
            if wanted.name not in self._told:
                self._told.add(wanted.name)
                self._tell(
                    wanted.name,
                    f"its memory can't be moved to the node's, so it has what it is guaranteed: {error}",
                )
            return stays, socket

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
            self._told.discard(name)

    def _group(self, key: str, grant: Grant, there: dict[int, Sharable]) -> Group:
        parts = [(part, there[index]) for index, part in sorted(grant.devices.items())]
        guaranteed = min(_guaranteed(part, device) for part, device in parts)
        # Only what can be moved away may be lent.
        swap = grant.swap or grant.limit is not None
        limit = max(guaranteed, min(_grown(grant.limit, device) for _, device in parts))
        share = min(max(part.milli, 1) for part, _ in parts) / MILLI
        uuids = tuple(device.uuid for _, device in parts)
        # Containers run as whomever their images say, and whoever reaches a part's socket is in its container: the folder is mounted there alone.
        return Group(
            key, uuids, guaranteed, limit, share, "strict" if grant.strict else "fair", swap=swap, users="any"
        )


def _added(control: Control, group: Group) -> Path:
    """Have a group, whatever the same claim had before: on other devices it's another one."""
    try:
        return control.add(group)
    except Conflict:
        pass
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
