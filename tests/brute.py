"""Reclaim, or preempt, by looking at every set of victims, on clusters small enough for that. Shares no code with the policy.

Knows flat queues, GPUs only, whole or in parts, one waiting workload; its answer is the best victims by rule 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from gpumax.model.decision import Decision
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import Task, Workload
from neighbours import Neighbours, Stands

Cost = tuple[Fraction, int, int, int, int, int]
Free = dict[str, list[int]]
BOUNDLESS = Fraction(10**9)


@dataclass(frozen=True, eq=False)
class Unit:
    """What goes in one step: an extra, or the minimum of a workload, which goes after all its extras."""

    workload: Workload
    tasks: tuple[Task, ...]
    core: bool

    @property
    def milli(self) -> int:
        """All that it holds."""
        return sum(share.milli for task in self.tasks for share in task.devices)


@dataclass(frozen=True)
class Answer:
    """The best cost, None where nothing helps, and whether anybody has to go at all."""

    cost: Cost | None
    free: bool


def units(snapshot: Snapshot) -> list[Unit]:
    """Everything that may go for somebody of another queue."""
    found: list[Unit] = []
    for workload in snapshot.workloads:
        active = [task for task in workload.tasks if task.state == "running"]
        if not active or workload.preemptible is False:
            continue
        least = workload.groups[0].min
        found += [Unit(workload, (task,), core=False) for task in active[least:]]
        if least and workload.preemptible is True:
            found.append(Unit(workload, tuple(active[:least]), core=True))
    return found


class Brute:
    """All legal sets of victims for one waiting workload."""

    def __init__(self, snapshot: Snapshot, decision: Decision) -> None:
        self.snapshot = snapshot
        self.shares = {row.queue: row for row in decision.shares if row.resource == "gpu"}
        (self.asker,) = (w for w in snapshot.workloads if any(task.state == "pending" for task in w.tasks))
        self.pending = [task for task in self.asker.tasks if task.state == "pending"]
        self.asks = [(ask.devices, ask.milli) for task in self.pending for ask in task.request.gpu]
        self.bonds = list(_bonds(snapshot, self.asker, self.pending))
        self.neighbours = Neighbours(snapshot)
        self.units = [unit for unit in units(snapshot) if unit.workload.queue != self.asker.queue]

    def answer(self) -> Answer:
        """The best of all sets."""
        if self.fits(()):
            return Answer(None, free=True)
        mine = self.shares[self.asker.queue]
        if mine.allocated + sum(count * milli for count, milli in self.asks) > mine.share:
            return Answer(None, free=False)
        costs = [self.cost(chosen) for chosen in self.legal() if chosen and self.fits(chosen)]
        return Answer(min(costs, default=None), free=False)

    def legal(self) -> Iterator[tuple[Unit, ...]]:
        """Sets that can go one after the other, each step from a queue that is still above its share, or its quota."""
        seen: set[frozenset[int]] = {frozenset()}
        frontier = [frozenset[int]()]
        while frontier:
            chosen = frontier.pop()
            yield tuple(self.units[number] for number in sorted(chosen))
            for number in range(len(self.units)):
                larger = chosen | {number}
                if number not in chosen and larger not in seen and self._may_go(chosen, number):
                    seen.add(larger)
                    frontier.append(larger)

    def _may_go(self, chosen: Iterable[int], number: int) -> bool:
        unit, gone = self.units[number], [self.units[other] for other in chosen]
        if unit.core and any(
            other.workload is unit.workload and not other.core and other not in gone for other in self.units
        ):
            return False
        row, mine = self.shares[unit.workload.queue], self.shares[self.asker.queue]
        held = row.allocated - sum(
            other.milli for other in gone if other.workload.queue == unit.workload.queue
        )
        asked = sum(count * milli for count, milli in self.asks)
        return held > row.share or (held > row.quota and mine.allocated + asked <= mine.quota)

    def fits(self, gone: Iterable[Unit]) -> bool:
        """Whether all tasks of the asker find room when these have gone, in some arrangement."""
        away = {task.name for unit in gone for task in unit.tasks}
        free: Free = {
            node.name: [1000 * device.healthy for device in node.devices] for node in self.snapshot.nodes
        }
        for workload in self.snapshot.workloads:
            for task in workload.tasks:
                if task.state == "running" and task.name not in away:
                    for share in task.devices:
                        free[task.node or ""][share.index] -= share.milli
        there = [
            Stands(task, workload, task.node)
            for workload in self.snapshot.workloads
            for task in workload.tasks
            if task.state == "running" and task.node is not None and task.name not in away
        ]

        def fine(nodes: tuple[str, ...]) -> bool:
            coming = [Stands(task, self.asker, node) for task, node in zip(self.pending, nodes, strict=True)]
            return self._together(nodes) and self.neighbours.fine(there, coming)

        return _arrange(free, self.asks, (), fine)

    def _together(self, nodes: tuple[str, ...]) -> bool:
        labels = {node.name: node.labels for node in self.snapshot.nodes}
        return all(
            len({tuple(labels[nodes[at]][level] for level in levels) for at in tasks}) == 1
            for tasks, levels in self.bonds
        )

    def cost(self, gone: Iterable[Unit]) -> Cost:
        """Rule 6, smaller is better."""
        gone = list(gone)
        ends = []
        for queue in {unit.workload.queue for unit in gone}:
            row = self.shares[queue]
            held = row.allocated - sum(unit.milli for unit in gone if unit.workload.queue == queue)
            ends.append(Fraction(held, row.share) if row.share else BOUNDLESS)
        started = [unit.workload.started_ms or 0 for unit in gone]
        return (
            -min(ends),
            max(unit.workload.priority for unit in gone),
            sum(len(unit.tasks) for unit in gone if unit.core),
            sum(len(unit.tasks) for unit in gone),
            sum(unit.milli * (self.snapshot.now_ms - (unit.workload.started_ms or 0)) for unit in gone),
            -min(started),
        )


def _bonds(
    snapshot: Snapshot, workload: Workload, pending: list[Task]
) -> Iterator[tuple[range, tuple[str, ...]]]:
    """Which of the pending tasks have to have these labels in common: of the gang, and of its segments."""
    wish = workload.topology
    if wish is None:
        return
    (levels,) = (row.levels for row in snapshot.topologies)
    if wish.required is not None:
        yield range(len(pending)), levels[: levels.index(wish.required) + 1]
    if wish.segments is not None and wish.segments.required is not None:
        for at in range(0, len(pending), wish.segments.size):
            yield (
                range(at, min(at + wish.segments.size, len(pending))),
                levels[: levels.index(wish.segments.required) + 1],
            )


def _arrange(
    free: Free,
    asks: list[tuple[int, int]],
    nodes: tuple[str, ...],
    together: Callable[[tuple[str, ...]], bool],
) -> bool:
    if not asks:
        return together(nodes)
    (count, milli), rest = asks[0], asks[1:]
    for node, devices in free.items():
        fitting = [index for index, left in enumerate(devices) if left >= milli]
        for chosen in _choose(fitting, count):
            for index in chosen:
                devices[index] -= milli
            fine = _arrange(free, rest, (*nodes, node), together)
            for index in chosen:
                devices[index] += milli
            if fine:
                return True
    return False


def _choose(items: list[int], count: int) -> Iterator[list[int]]:
    if count == 0:
        yield []
        return
    for position in range(len(items) - count + 1):
        for rest in _choose(items[position + 1 :], count - 1):
            yield [items[position], *rest]


class BruteInside(Brute):
    """The same for work of one queue, whose limit counts, too: strictly lower priority goes, and all of that may."""

    def __init__(self, snapshot: Snapshot, decision: Decision) -> None:
        super().__init__(snapshot, decision)
        self.units = [unit for unit in units(snapshot) if unit.workload.priority < self.asker.priority]
        (self.queue,) = snapshot.queues

    def answer(self) -> Answer:
        """The best of all sets."""
        if self.fits(()):
            return Answer(None, free=True)
        costs = [self.cost(chosen) for chosen in self.legal() if chosen and self.fits(chosen)]
        return Answer(min(costs, default=None), free=False)

    def fits(self, gone: Iterable[Unit]) -> bool:
        """Room on nodes, and in the queue."""
        gone = list(gone)
        asked = sum(count * milli for count, milli in self.asks)
        left = self.shares[self.queue.name].allocated - sum(unit.milli for unit in gone)
        return left + asked <= self.queue.limit.gpu and super().fits(gone)

    def cost(self, gone: Iterable[Unit]) -> Cost:
        """Rule 6 without the part about queues."""
        return (Fraction(0), *super().cost(gone)[1:])

    def _may_go(self, chosen: Iterable[int], number: int) -> bool:
        unit, gone = self.units[number], [self.units[other] for other in chosen]
        mine = [other for other in self.units if other.workload is unit.workload and not other.core]
        return not unit.core or all(other in gone for other in mine)
