"""Consolidate, and reclaim with moves, by looking at every set of those who move, on clusters small enough for that.

Shares no code with the policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations

from brute import Brute, Free, Unit, units
from gpumax.model.snapshot import Snapshot


def answers(snapshot: Snapshot) -> Iterator[tuple[Unit, ...]]:
    """Every set of units, a minimum with all its extras, that can move so that the asker fits."""
    for chosen in _sets(units(snapshot)):
        if moves(snapshot, chosen):
            yield chosen


def detours(brute: Brute) -> Iterator[tuple[tuple[Unit, ...], tuple[Unit, ...]]]:
    """Every legal set of victims with every set of others that can move so that the asker fits."""
    for stopped in brute.legal():
        going = {unit.workload.name for unit in stopped if unit.core}
        rest = [unit for unit in brute.units if unit not in stopped and unit.workload.name not in going]
        for chosen in _sets(rest):
            if chosen and moves(brute.snapshot, chosen, stopped):
                yield stopped, chosen


def _sets(those: list[Unit]) -> Iterator[tuple[Unit, ...]]:
    """Every set of these in which a minimum is with all its extras."""
    for count in range(len(those) + 1):
        for chosen in combinations(those, count):
            extras = {(unit.workload.name, unit.tasks[0].name) for unit in chosen if not unit.core}
            due = {
                (unit.workload.name, other.tasks[0].name)
                for unit in chosen if unit.core
                for other in those if other.workload is unit.workload and not other.core
            }  # fmt: skip
            if due <= extras:
                yield chosen


def moves(snapshot: Snapshot, chosen: tuple[Unit, ...], stopped: Iterable[Unit] = ()) -> bool:
    """Whether the asker fits once these have left, and they fit in what it leaves.

    stopped: leave, too, and go nowhere.
    """
    (asker,) = (w for w in snapshot.workloads if any(task.state == "pending" for task in w.tasks))
    later: Free = {node.name: [1000] * len(node.devices) for node in snapshot.nodes}
    for workload in snapshot.workloads:
        for task in workload.tasks:
            for share in task.devices:
                later[task.node or ""][share.index] -= share.milli
    movers = []
    for unit in chosen:
        for task in unit.tasks:
            for share in task.devices:
                later[task.node or ""][share.index] += share.milli
            movers.append((len(task.devices), task.devices[0].milli))
    for task in (task for unit in stopped for task in unit.tasks):
        for share in task.devices:
            later[task.node or ""][share.index] += share.milli
    asks = [(ask.devices, ask.milli) for task in asker.tasks for ask in task.request.gpu]
    return any(_all_fit(left, movers) for left in _laid(later, asks))


def _laid(later: Free, asks: list[tuple[int, int]]) -> Iterator[Free]:
    """What is left for every way to lay the asks out on the room that there will be."""
    if not asks:
        yield later
        return
    (count, milli), rest = asks[0], asks[1:]
    for name, free in later.items():
        for picked in combinations([index for index, left in enumerate(free) if left >= milli], count):
            less = {**later, name: [left - milli * (index in picked) for index, left in enumerate(free)]}
            yield from _laid(less, rest)


def _all_fit(free: Free, movers: list[tuple[int, int]]) -> bool:
    if not movers:
        return True
    (count, milli), rest = movers[0], movers[1:]
    for name, devices in free.items():
        for picked in combinations([index for index, left in enumerate(devices) if left >= milli], count):
            less = {**free, name: [left - milli * (index in picked) for index, left in enumerate(devices)]}
            if _all_fit(less, rest):
                return True
    return False
