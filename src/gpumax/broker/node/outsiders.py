"""Processes that use a device of which parts are given out, and have no part in it: where an administrator wants that, the driver takes them off
it while others need the room. The core hears of them, so that what is guaranteed is granted when there is room for it, and not before.

They have declared nothing, so nobody knows what they are at: one whose work doesn't end within a moment is left there for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gpumax.broker.core.events import Outcome, Outside
from gpumax.broker.core.orders import Report
from gpumax.broker.core.shapes import MIB, SECOND
from gpumax.broker.core.state import State
from gpumax.broker.node import process
from gpumax.broker.node.away import Away
from gpumax.broker.status import Unfenced

WORK_NS: Final = SECOND
"""So long their work may take to end."""
AGAIN_NS: Final = 30 * SECOND
NEVER: Final = 1 << 63

Used = Mapping[int, Mapping[str, int]]
"""By process and device: bytes."""


def room(state: State, name: str) -> int:
    """What of a device belongs to nobody who is there: less than what is free, since what is guaranteed is always to be had."""
    device = state.devices[name]
    taken = sum(size for size, _ in device.ghosts.values())
    for group in state.groups.values():
        if group.clients and name in group.devices:
            wanted = group.claimed(name) + sum(ask.bytes for ask in group.requests if ask.device == name)
            taken += max(group.share_of(name).guarantee, wanted)
    return device.spec.capacity - taken


def choose(rooms: Mapping[str, int], there: Used, away: Used) -> tuple[list[int], list[int]]:
    """Who goes, the largest first and no more than needed; and who comes back, the smallest first."""
    left = dict(rooms)
    for used in there.values():
        for name, size in used.items():
            left[name] -= size
    going = []
    for pid, used in sorted(there.items(), key=lambda each: (-sum(each[1].values()), each[0])):
        if any(left[name] < 0 for name in used):
            going.append(pid)
            for name, size in used.items():
                left[name] += size
    coming = []
    for pid, used in sorted(away.items(), key=lambda each: (sum(each[1].values()), each[0])):
        if not going and all(left[name] >= size for name, size in used.items()):
            coming.append(pid)
            for name, size in used.items():
                left[name] -= size
    return going, coming


@dataclass
class Outsiders:
    away: Away
    clock: Callable[[], int]
    report: Callable[[Report], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    tell: Callable[[Outside], None]
    off: dict[int, dict[str, int]] = field(default_factory=dict)
    """Who is off its devices, with what it had of each."""
    _began: dict[int, int | None] = field(default_factory=dict)
    _busy: set[int] = field(default_factory=set)
    _not_before: dict[int, int] = field(default_factory=dict)
    _told: set[int] = field(default_factory=set)
    _there: dict[int, dict[str, int]] = field(default_factory=dict)
    _said: dict[str, dict[int, int]] = field(default_factory=dict)

    def look(
        self,
        state: State,
        unfenced: Mapping[str, tuple[Unfenced, ...]],
        seen: Mapping[tuple[str, int], Unfenced],
    ) -> None:
        """One look: who uses what now. seen: by device and process, also who may be about to introduce itself."""
        clients = {client.pid for client in state.clients.values()}
        there: dict[int, dict[str, int]] = {}
        for name, found in unfenced.items():
            for each in found:
                if each.pid not in clients | self._busy | self.off.keys() and self._may(each.pid):
                    there.setdefault(each.pid, {})[name] = each.bytes
        self._forget_the_dead()
        resting = {pid: used for pid, used in self.off.items() if pid not in self._busy and self._may(pid)}
        going, coming = choose({name: room(state, name) for name in state.devices}, there, resting)
        for pid in going:
            self._busy.add(pid)
            self.spawn(self._take_off(pid, there[pid]))
        for pid in coming:
            self._busy.add(pid)
            self.spawn(self._bring_back(pid))
        self._there = {}
        for (name, pid), each in seen.items():
            if pid not in clients | self.off.keys() and self._not_before.get(pid, 0) < NEVER:
                self._there.setdefault(pid, {})[name] = each.bytes
        self._say()

    def _say(self) -> None:
        used: dict[str, dict[int, int]] = {}
        for pid, each in self._there.items():
            for name, size in each.items():
                used.setdefault(name, {})[pid] = size
        if used != self._said:
            self._said = used
            self.tell(Outside(self.clock(), used))

    def rows(self) -> dict[str, tuple[Unfenced, ...]]:
        """By device, those who are off it."""
        found: dict[str, tuple[Unfenced, ...]] = {}
        for pid, used in sorted(self.off.items()):
            for name, size in used.items():
                why = f"the driver has it off the device, with {size // MIB} MiB, while others need the room"
                found[name] = (*found.get(name, ()), Unfenced(pid, 0, why, away=True))
        return found

    def _may(self, pid: int) -> bool:
        return self.clock() >= self._not_before.get(pid, 0)

    def _forget_the_dead(self) -> None:
        for pid in [pid for pid in self.off if process.started(pid) != self._began[pid]]:
            del self.off[pid], self._began[pid]
            self.away.forget(pid)
        for pid in [pid for pid in self._not_before if process.started(pid) is None]:
            del self._not_before[pid]
            self._told.discard(pid)

    async def _take_off(self, pid: int, used: dict[str, int]) -> None:
        try:
            said = await self.away.off(pid, WORK_NS) or await self.away.found(pid)
            if said.how is Outcome.DONE:
                self.off[pid], self._began[pid] = used, process.started(pid)
                self._tell(
                    "checkpointed", pid, "is unfenced, and was taken off its devices: others need the room"
                )
                return
            # Of who is stopped the driver isn't asked, so it's tried as soon as it goes on.
            self._not_before[pid] = self.clock() + (0 if process.stopped(pid) else AGAIN_NS)
            if said.how is not Outcome.BUSY:
                self._not_before[pid] = NEVER
                self._tell("checkpoint", pid, f"is unfenced, and can't be taken off its devices: {said.why}")
        finally:
            self._busy.discard(pid)
            if pid in self.off or self._not_before.get(pid, 0) == NEVER:
                self._there.pop(pid, None)
                self._say()

    async def _bring_back(self, pid: int) -> None:
        try:
            said = await self.away.back(pid)
            if said.how is Outcome.DONE:
                self.off.pop(pid, None)
                self._told.discard(pid)
                self._tell("restored", pid, "is on its devices again")
                return
            self._not_before[pid] = self.clock() + AGAIN_NS // 10
            if pid not in self._told:
                self._told.add(pid)
                self._tell("restore", pid, f"couldn't be brought back yet: {said.why}; it's tried again")
        finally:
            self._busy.discard(pid)

    def _tell(self, kind: str, pid: int, what: str) -> None:
        self.report(Report(kind, "", f"process {pid} {what}", pid))
