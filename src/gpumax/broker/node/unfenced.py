"""Who uses a device without having said so: what the driver says that processes use, beside what they have declared.

A process is told of when it was seen in two looks in a row: whoever has just begun has a moment to introduce itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from gpumax.broker.control import key
from gpumax.broker.core.orders import Report
from gpumax.broker.core.state import Device, State
from gpumax.broker.node.outsiders import Outsiders
from gpumax.broker.node.server import Server
from gpumax.broker.status import Unfenced

LOOK_S: Final = 1.0
UNHELD: Final = 1 << 30
"""What a process may have beyond what it declared: contexts, code and the like, which the layer doesn't hold; of small devices an eighth."""
MIB: Final = 1 << 20

Readings = Mapping[str, Mapping[int, int]]
Suspects = dict[tuple[str, int], Unfenced]


def suspects(state: State, readings: Readings) -> Suspects:
    """Whoever uses a device of which parts are given out, and hasn't declared it. A device without a group is nobody's concern."""
    found: Suspects = {}
    by_key = {key(uuid) or uuid: used for uuid, used in readings.items()}
    for name, device in state.devices.items():
        if any(name in group.devices and not group.removed for group in state.groups.values()):
            found |= {
                (name, each.pid): each
                for each in _beyond(state, name, device, by_key.get(key(name) or name, {}))
            }
    return found


def _beyond(state: State, name: str, device: Device, used: Mapping[int, int]) -> Iterator[Unfenced]:
    allowed = min(UNHELD, device.spec.capacity // 8)
    declared: dict[int, int] = {}
    for client in state.clients.values():
        if name in client.holdings:
            declared[client.pid] = declared.get(client.pid, 0) + client.holdings[name].claimed
    for pid, size in used.items():
        if pid not in declared:
            yield Unfenced(pid, size, "it has declared nothing: it runs without the layer, or got around it")
        elif size > declared[pid] + allowed:
            yield Unfenced(pid, size, f"it has declared {declared[pid] // MIB} MiB of it")


@dataclass
class Watch:
    """Looks each second. readings: asked in a thread, because a driver may take its time."""

    server: Server
    readings: Callable[[], Readings]
    report: Callable[[Report], None]
    outsiders: Outsiders | None = None
    """Has those taken off who have declared nothing, while others need the room; None: they're told of, no more."""
    seen: Readings = field(default_factory=dict)
    """The last look."""
    _before: Suspects = field(default_factory=dict)
    _told: set[tuple[str, int]] = field(default_factory=set)

    async def run(self) -> None:
        while True:
            if self.server.broker is not None and self.server.broker.state.groups:
                self.look(await asyncio.to_thread(self.readings))
            else:
                self.look({})
            await asyncio.sleep(LOOK_S)

    def look(self, readings: Readings) -> None:
        """One look."""
        broker = self.server.broker
        if broker is None:
            return
        now = suspects(broker.state, readings)
        self.seen = readings
        sure = {place: each for place, each in now.items() if place in self._before}
        self._before = now
        found: dict[str, tuple[Unfenced, ...]] = {}
        for (device, _), each in sorted(sure.items()):
            found[device] = (*found.get(device, ()), each)
        if self.outsiders is not None:
            self.outsiders.look(broker.state, found, now)
            for device, rows in self.outsiders.rows().items():
                found[device] = (*found.get(device, ()), *rows)
        self.server.unfenced = found
        for place in sure.keys() - self._told:
            self._tell(place[0], sure[place], broker.state)
        self._told = set(sure)

    def _tell(self, device: str, what: Unfenced, state: State) -> None:
        group = next((client.group.name for client in state.clients.values() if client.pid == what.pid), "")
        text = f"process {what.pid} is unfenced: it uses {what.bytes // MIB} MiB of {device}, and {what.why}"
        self.report(Report("unfenced", group, text, what.pid))
