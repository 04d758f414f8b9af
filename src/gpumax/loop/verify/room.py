"""Rule 1: no device and no node above what it has, now and whenever those have left for whom places wait."""

from __future__ import annotations

from collections.abc import Iterator

from gpumax.loop.verify.devices import serve
from gpumax.loop.verify.facts import Facts, Newcomer
from gpumax.loop.verify.slices import add, can_hold
from gpumax.loop.verify.violation import Violation
from gpumax.model.node import Node
from gpumax.model.workload import DeviceShare, Request, Task
from gpumax.units import MILLI, format_count, format_memory
from gpumax.words import plural

Names = frozenset[str]


class Fill:
    """What is in use on one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cpu = self.memory = self.tasks = 0
        self.extended: dict[str, int] = {}
        self.devices: dict[int, int] = {}
        self.slices: dict[int, dict[str, int]] = {}

    def take(self, request: Request, devices: tuple[DeviceShare, ...]) -> None:
        """Count what a task holds."""
        self.cpu += request.cpu_milli
        self.memory += request.memory_mib
        self.tasks += 1
        for name, amount in request.extended.items():
            self.extended[name] = self.extended.get(name, 0) + amount
        for share in devices:
            self.devices[share.index] = self.devices.get(share.index, 0) + share.milli
            if share.slices:
                self.slices[share.index] = add(self.slices.get(share.index, {}), share)

    def give(self, request: Request, devices: tuple[DeviceShare, ...]) -> None:
        """Count what a task held as free again."""
        self.cpu -= request.cpu_milli
        self.memory -= request.memory_mib
        self.tasks -= 1
        for name, amount in request.extended.items():
            self.extended[name] -= amount
        for share in devices:
            self.devices[share.index] -= share.milli
            if share.slices:
                self.slices[share.index] = add(self.slices.get(share.index, {}), share, -1)

    def excess(self, request: Request, devices: tuple[DeviceShare, ...], *, stays: bool = False) -> str:
        """What a task would be too much for, in words; empty where it fits. stays: it is there already, devices as they are."""
        node = self.node
        if request.cpu_milli and self.cpu + request.cpu_milli > node.cpu_milli:
            over = format_count(self.cpu + request.cpu_milli)
            return f"{over} of {format_count(node.cpu_milli)} cores"
        if request.memory_mib and self.memory + request.memory_mib > node.memory_mib:
            over = format_memory(self.memory + request.memory_mib)
            return f"{over} of {format_memory(node.memory_mib)} of memory"
        if node.tasks is not None and self.tasks + 1 > node.tasks:
            return f"{self.tasks + 1} of {node.tasks} tasks"
        for name, amount in request.extended.items():
            used = self.extended.get(name, 0) + amount
            if amount and used > node.extended.get(name, 0):
                return f"{used} of {node.extended.get(name, 0)} {name}"
        closed = {device.index for device in node.devices if not device.healthy} if stays else ()
        for share in devices:
            used = self.devices.get(share.index, 0) + share.milli
            if used > MILLI and share.index not in closed:
                return f"{used} of {MILLI} milli of device {share.index}"
            if share.slices and share.index not in closed:
                held = add(self.slices.get(share.index, {}), share)
                device = next(device for device in node.devices if device.index == share.index)
                if not can_hold(device, held):
                    words = ", ".join(f"{count} {profile}" for profile, count in sorted(held.items()))
                    return f"{words}, more than device {share.index} can hold,"
        return ""


def check_room(facts: Facts) -> Iterator[Violation]:
    """Every moment at which something starts: beside all that holds room then, each newcomer fits, in order."""
    by_node: dict[str, list[Newcomer]] = {}
    for new in facts.newcomers:
        by_node.setdefault(new.node, []).append(new)
        if not serve(new.task.request, facts.nodes[new.node], new.devices):
            held = ", ".join(
                f"{share.slices or share.milli} {'' if share.slices else 'milli '}of device {share.index}"
                for share in new.devices
            )
            found = f"gets {held or 'no device'} on {new.node}, which is not what it asks for"
            yield Violation(9, found, new.blame, new.task.name)
    holders = facts.holders(frozenset(by_node))
    sets: dict[int, Names] = {}
    leaving = frozenset(facts.evicted) | {
        task.name for tasks in holders.values() for task in tasks if task.state == "releasing"
    }
    for name, newcomers in by_node.items():
        afters = [_names(sets, new.after) for new in newcomers]
        too_much = _at(facts, name, holders[name], newcomers, afters, leaving)
        if too_much and any(new.moved for new in newcomers):
            # Whoever moves there may have to wait until all who leave it have left.
            here = leaving & {task.name for task in holders[name]}
            afters = [here if new.moved else after for new, after in zip(newcomers, afters, strict=True)]
            too_much = _at(facts, name, holders[name], newcomers, afters, leaving)
        yield from too_much


def _at(
    facts: Facts,
    name: str,
    holders: list[Task],
    newcomers: list[Newcomer],
    afters: list[Names],
    leaving: Names,
) -> list[Violation]:
    """What is too much for one node, once a newcomer. afters: for whom each of these waits; leaving: all who leave some node."""
    found: dict[str, Violation] = {}
    for gone in _moments(afters, leaving):
        started = [new for new, after in zip(newcomers, afters, strict=True) if after <= gone]
        for violation in _fill(facts, name, holders, gone, started):
            found.setdefault(violation.task, violation)
    return list(found.values())


def _names(sets: dict[int, Names], after: tuple[str, ...]) -> Names:
    # All places of a gang share one tuple as a rule.
    known = sets.get(id(after))
    if known is None:
        known = sets[id(after)] = frozenset(after)
    return known


def _moments(afters: list[Names], leaving: Names) -> list[Names]:
    """Who has left at each moment that is looked at: those whom one place waits for, or several in turn, and all."""
    found: dict[Names, None] = {}
    together: Names = frozenset()
    last: Names | None = None
    for after in afters:
        if after is not last:
            together = together | after
            found[after] = None
            found[together] = None
            last = after
    found[leaving] = None
    return list(found)


def _fill(
    facts: Facts, name: str, holders: list[Task], gone: Names, started: list[Newcomer]
) -> Iterator[Violation]:
    fill = Fill(facts.nodes[name])
    for task in holders:
        if task.name not in gone:
            fill.take(task.request, facts.devices(task))
    for new in started:
        over = fill.excess(new.task.request, new.devices)
        if over:
            when = (
                f"once {plural(len(gone), 'task')} {'has' if len(gone) == 1 else 'have'} left"
                if gone
                else "now"
            )
            yield Violation(1, f"{name} would have {over} in use {when}", new.blame, new.task.name)
        else:
            fill.take(new.task.request, new.devices)
