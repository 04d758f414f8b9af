"""Which groups there are on a node: asked for, kept in files, and removed when those for whom they are there have ended."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import msgspec

from gpumax.broker.control import NAME, WANTED_NAME, Group, key, uuid
from gpumax.broker.core.broker import Broker
from gpumax.broker.core.events import GroupAdded
from gpumax.broker.core.orders import Report
from gpumax.broker.core.shapes import WHOLE, DeviceSpec, GroupSpec, MemoryShare, Settings
from gpumax.broker.node import process
from gpumax.broker.node.kept import Kept, Owner, Record
from gpumax.broker.node.server import Server
from gpumax.broker.node.sockets import Users
from gpumax.broker.words import Mode
from gpumax.errors import BadFile, Conflict, Fault, Refused

MOST_BYTES: Final = 1 << 60
_MODES: Final = {"fair": Mode.FAIR, "strict": Mode.STRICT}


class Groups:
    def __init__(self, server: Server, kept: Kept, report: Callable[[Report], None]) -> None:
        self._server = server
        self._kept = kept
        self._report = report
        self._records: dict[str, Record] = {}

    @property
    def empty(self) -> bool:
        return not self._records

    async def start(self, settings: Settings, devices: Iterable[DeviceSpec]) -> None:
        """Begin with what an earlier broker left. What can't be any more is told, and dropped."""
        records, lost = self._kept.read()
        for name in lost:
            self._report(
                Report("lost", name.removesuffix(".json"), "its file can't be read, and was put aside")
            )
        there = Broker(settings, devices, epoch=0, now=0)
        begun: dict[str, tuple[GroupSpec, Users]] = {}
        for record in records:
            spec = spec_of(record.group)
            why = there.objection(spec)
            if why:
                self._report(Report("lost", spec.name, f"{why}; it was here before the broker began"))
                self._kept.remove(spec.name)
                continue
            there.handle(GroupAdded(0, spec))
            self._records[spec.name] = record
            begun[spec.name] = (spec, users_of(record.group))
        await self._server.start(begun)
        self.sweep()

    def add(self, group: Group, owner: int | None) -> Path:
        """owner: the process for which it is there; None: it stays until it's removed. Refused, in words, where it can't be."""
        self.sweep()
        spec = spec_of(group)
        owners = () if owner is None else _alive(owner)
        known = self._records.get(group.name)
        if known is None:
            self._server.add(spec, users_of(group))
        elif known.group != group:
            raise Conflict(f"group {group.name} is there already, with {_difference(known.group, group)}")
        elif owner is not None and known.owners:
            owners = (*known.owners, *owners)
        else:
            owners = ()
        record = Record(group, owners)
        self._kept.write(record)
        self._records[group.name] = record
        return self._server.path(group.name)

    def configure(self, group: Group) -> None:
        """What the broker and its files say of a group from now on. Refused, in words, where it can't be."""
        self.sweep()
        known = self._records.get(group.name)
        if known is None:
            raise Refused(
                f"group {group.name} isn't here; wanted one of {', '.join(sorted(self._records)) or 'none'}"
            )
        if group.users != known.group.users:
            raise Refused(f"group {group.name}: whose processes may connect doesn't change while it's here")
        self._server.configure(spec_of(group))
        record = Record(group, known.owners)
        self._kept.write(record)
        self._records[group.name] = record

    def all(self) -> tuple[Group, ...]:
        """As they were asked for."""
        self.sweep()
        return tuple(record.group for record in self._records.values())

    def remove(self, name: str) -> None:
        if self._records.pop(name, None) is not None:
            self._kept.remove(name)
            self._server.remove(name)

    def sweep(self) -> None:
        """Remove groups whose owners have ended, once nobody uses them."""
        for name, record in list(self._records.items()):
            if not record.owners or any(process.started(o.pid) == o.started for o in record.owners):
                continue
            if not self._server.used(name):
                self.remove(name)


def _alive(pid: int) -> tuple[Owner, ...]:
    began = process.started(pid)
    return () if began is None else (Owner(pid, began),)


def users_of(group: Group) -> Users:
    if group.users == "any":
        return None
    return frozenset(group.users or (os.geteuid(),))


def spec_of(group: Group) -> GroupSpec:
    """What the core reads. BadFile, with every fault."""
    faults = []
    if not NAME.fullmatch(group.name):
        faults.append(Fault("name", None, _cut(group.name), WANTED_NAME))
    share = round(group.share * WHOLE) if 0 < group.share <= 1 else 0
    if not share:
        faults.append(Fault("share", None, f"{group.share:g}", "a part of a device's time: 0.001 to 1"))
    if not 0 <= group.guaranteed <= MOST_BYTES:
        faults.append(Fault("guaranteed", None, f"{group.guaranteed}", "bytes of each device"))
    elif group.limit and not group.guaranteed <= group.limit <= MOST_BYTES:
        faults.append(
            Fault("limit", None, f"{group.limit}", f"at least what is guaranteed, {group.guaranteed} bytes")
        )
    keys = {each: key(each) for each in group.devices}
    faults += [
        Fault("devices", None, _cut(each), "a UUID like GPU-00112233-4455-6677-8899-aabbccddeeff")
        for each, found in keys.items()
        if found is None
    ]
    if faults:
        raise BadFile(faults)
    memory = MemoryShare(group.guaranteed, group.limit or group.guaranteed)
    return GroupSpec(
        group.name, {uuid(each): memory for each in keys.values() if each is not None}, share, _MODES[group.mode],
        group.priority, group.swap,
    )  # fmt: skip


def _cut(text: str) -> str:
    return repr(text[:80])


def _difference(there: Group, asked: Group) -> str:
    """What of a group that is there is another than was asked for."""
    fields = msgspec.structs.asdict(there)
    wanted = msgspec.structs.asdict(asked)
    return ", ".join(
        f"{name} {fields[name]} (asked for: {wanted[name]})"
        for name in fields
        if fields[name] != wanted[name]
    )
