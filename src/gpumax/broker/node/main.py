"""The broker as a process of its own, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from gpumax.broker.control import Device, key, uuid
from gpumax.broker.core.orders import Report
from gpumax.broker.core.shapes import DeviceSpec, Settings
from gpumax.broker.heir import Heir
from gpumax.broker.node.alone import alone
from gpumax.broker.node.burial import Burial
from gpumax.broker.node.door import Door
from gpumax.broker.node.groups import Groups
from gpumax.broker.node.kept import Kept
from gpumax.broker.node.server import Server
from gpumax.broker.node.unfenced import Readings, Watch

LOOK_S: Final = 1.0
"""How often it's looked whether groups are still for anybody."""
_log: Final = logging.getLogger("gpumax.broker")


class Wishes(NamedTuple):
    """idle_s: after so long without a group it ends; None: never."""

    directory: Path
    devices: tuple[Device, ...]
    settings: Settings
    idle_s: float | None = None
    readings: Callable[[], Readings] | None = None
    """What the driver says that processes use; None: nobody looks for those who are unfenced."""
    exclusive: bool = False
    """Begin only where no other broker of this machine gives out any of the devices."""
    heir: bool = False
    """Have a process beside it that takes over where it's killed."""
    takes_off: bool = False
    """Have the driver take processes off the devices that use them without a part in them, while others need the room."""


async def serve(wishes: Wishes) -> None:
    """Run until SIGTERM or SIGINT, or for want of groups. Conflict where another one has the directory."""
    _open_many()
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    doors: list[Door] = []

    def report(told: Report) -> None:
        _log.warning("%s: %s", told.group or "broker", told.text)
        for door in doors:
            door.note(told)

    keys = {name: each for each in wishes.devices if (name := key(each.uuid)) is not None}
    devices = [DeviceSpec(uuid(name), each.bytes, each.name) for name, each in keys.items()]
    server = Server(wishes.directory, devices, wishes.settings, report=report)
    groups = Groups(server, Kept(wishes.directory / "groups"), report)
    doors.append(Door(wishes.directory, server, groups))
    server.claim()
    claims = alone(each.uuid for each in keys.values()) if wishes.exclusive else []
    try:
        await groups.start(wishes.settings, devices)
        await doors[0].open()
        _log.info(
            "the broker is up in %s, for %d %s",
            wishes.directory,
            len(keys),
            "GPU" if len(keys) == 1 else "GPUs",
        )
        looks: list[asyncio.Task[None]] = []
        if wishes.readings is not None:
            watch = Watch(server, wishes.readings, report, server.outsiders() if wishes.takes_off else None)
            burial = Burial(server, wishes.readings, watch)
            looks = [loop.create_task(watch.run()), loop.create_task(burial.run())]
        heir = Heir(wishes.directory) if wishes.heir else None
        try:
            await _until(ended, groups, wishes.idle_s, heir)
        finally:
            for look in looks:
                look.cancel()
            if heir is not None:
                heir.dismiss()
        await doors[0].close()
    finally:
        await server.stop()
        for claim in claims:
            claim.close()


def _open_many() -> None:
    """Each process takes three descriptors; a shell's usual 1024 would be few for a node."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until(ended: asyncio.Event, groups: Groups, idle_s: float | None, heir: Heir | None) -> None:
    loop = asyncio.get_running_loop()
    used = loop.time()
    while not ended.is_set():
        groups.sweep()
        if heir is not None:
            try:
                heir.see_to_it()
            except OSError as error:
                _log.warning("nobody takes over where this broker is killed: %s", error.strerror)
        if not groups.empty:
            used = loop.time()
        elif idle_s is not None and loop.time() - used >= idle_s:
            _log.info("no group for %g s: the broker ends", idle_s)
            return
        try:
            await asyncio.wait_for(ended.wait(), LOOK_S)
        except TimeoutError:
            continue
