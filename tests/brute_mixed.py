"""Reclaim, or preempt, for one task by looking at every set of victims: trees of queues, and everything that may be short.

Shares no code with the policy. Knows no minimum runtimes, topology or company; nodes are those of `where`.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from brute import Unit
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Decision
from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, Task
from gpumax.units import UNLIMITED
from where import holding, roomy, stock

Amounts = tuple[int, int, int]
Cost = tuple[float, int, int, int, int, int]


def amounts(task: Task) -> Amounts:
    """What a running task counts in its queue."""
    gpu = sum(share.milli or milli_of(share.slices) for share in task.devices)
    return (gpu, task.request.cpu_milli, task.request.memory_mib)


def _sum(rows: Iterable[Amounts]) -> Amounts:
    gpu, cpu, memory = 0, 0, 0
    for row in rows:
        gpu, cpu, memory = gpu + row[0], cpu + row[1], memory + row[2]
    return (gpu, cpu, memory)


class Mixed:
    """All legal sets of victims for the one task of A. inside: of its own queue, by priority; else of other queues, by shares."""

    def __init__(self, snapshot: Snapshot, decision: Decision, *, inside: bool) -> None:
        self.snapshot = snapshot
        self.inside = inside
        self.rows = {(row.queue, row.resource): row for row in decision.shares}
        self.queues = {row.name: row for row in snapshot.queues}
        (self.asker,) = [row for row in snapshot.workloads if row.name == "A"]
        (self.task,) = self.asker.tasks
        self.asked = self._counted()
        self.mine = self._path(self.asker.queue)
        self.units = [unit for unit in self._units() if self._may_be_asked(unit)]

    def _counted(self) -> Amounts:
        """Memory of a GPU counts as the part that it is of the smallest one."""
        request = self.task.request
        gpu = milli_of(request.slices)
        for ask in request.gpu:
            sizes = [row.memory_mib for node in self.snapshot.nodes for row in node.devices if row.healthy]
            part = (
                -(-1000 * ask.memory_mib // min(sizes, default=ask.memory_mib))
                if ask.memory_mib
                else ask.milli
            )
            gpu += ask.devices * part
        return (gpu, request.cpu_milli, request.memory_mib)

    def _path(self, name: str | None) -> list[str]:
        return [] if name is None else [name, *self._path(self.queues[name].parent)]

    def _units(self) -> list[Unit]:
        found = []
        for workload in self.snapshot.workloads:
            active = [task for task in workload.tasks if task.state in ACTIVE]
            if not active or workload.preemptible is False:
                continue
            least = workload.groups[0].min
            found += [Unit(workload, (task,), core=False) for task in active[least:]]
            if least and workload.preemptible is True:
                found.append(Unit(workload, tuple(active[:least]), core=True))
        return found

    def _may_be_asked(self, unit: Unit) -> bool:
        if self.inside:
            return unit.workload.queue == self.asker.queue and unit.workload.priority < self.asker.priority
        return unit.workload.queue != self.asker.queue

    def best(self) -> tuple[Cost | None, bool]:
        """The lowest cost of a set that helps, None where none does; and whether anybody has to go at all."""
        if self._fits(()):
            return None, True
        if not self.inside and not self._within((), self.mine[:1]):
            return None, False
        best: Cost | None = None
        seen: set[frozenset[int]] = {frozenset()}
        frontier = [frozenset[int]()]
        while frontier:
            chosen = frontier.pop()
            gone = [self.units[number] for number in sorted(chosen)]
            cost = self.cost(gone) if gone else None
            if cost is not None and best is not None and cost >= best:
                continue
            if cost is not None and self._helps(gone):
                best = cost
                continue
            for number in range(len(self.units)):
                larger = chosen | {number}
                if larger not in seen and number not in chosen and self.may_go(gone, self.units[number]):
                    seen.add(larger)
                    frontier.append(larger)
        return best, False

    def _helps(self, gone: list[Unit]) -> bool:
        return (self.inside or self._within(gone, self.mine[1:])) and self._fits(gone)

    def may_go(self, gone: list[Unit], unit: Unit) -> bool:
        """Whether a unit may go after these: a minimum after all its extras; where queues give, above what is theirs."""
        alike = [other for other in self.units if other.workload is unit.workload and not other.core]
        if unit.core and not all(other in gone for other in alike):
            return False
        if self.inside:
            return True
        frees = _sum(map(amounts, unit.tasks))
        counting = [at for at in range(3) if self.asked[at] and frees[at]]
        if self.asked[0] and frees[0]:
            counting = [0]
        theirs = self._path(unit.workload.queue)
        owners = [name for name in theirs if name not in self.mine]
        givers = [name for name in self.mine if name not in theirs]
        guaranteed = all(
            self._allocated(name, at) + self.asked[at] <= self.rows[name, RESOURCES[at]].quota
            for name in givers for at in range(3) if self.asked[at]
        )  # fmt: skip
        return all(self._has_more(name, counting, gone, guaranteed=guaranteed) for name in owners)

    def _has_more(self, name: str, counting: list[int], gone: list[Unit], *, guaranteed: bool) -> bool:
        given = self._given(name, gone)
        for at in counting:
            row, left = self.rows[name, RESOURCES[at]], self._allocated(name, at) - given[at]
            if left > row.share or (guaranteed and left > row.quota):
                return True
        return False

    def _allocated(self, name: str, at: int) -> int:
        return self.rows[name, RESOURCES[at]].allocated

    def _given(self, name: str, gone: Iterable[Unit]) -> Amounts:
        below = [unit for unit in gone if name in self._path(unit.workload.queue)]
        return _sum(amounts(task) for unit in below for task in unit.tasks)

    def _within(self, gone: Iterable[Unit], names: list[str]) -> bool:
        """Whether these queues may hold what is asked for once this is given."""
        gone = list(gone)
        for name in names:
            given = self._given(name, gone)
            for at in range(3):
                row = self.rows[name, RESOURCES[at]]
                boundless = at > 0 and self.asked[0] and row.quota >= UNLIMITED
                if (
                    self.asked[at]
                    and not boundless
                    and self._allocated(name, at) - given[at] + self.asked[at] > row.share
                ):
                    return False
        return True

    def _fits(self, gone: Iterable[Unit]) -> bool:
        away = {task.name for unit in gone for task in unit.tasks}
        rooms = {node.name: stock(node) for node in self.snapshot.nodes}
        for _, task in holding(self.snapshot):
            if task.name not in away:
                rooms[task.node or ""].take(task.request, task.devices)
        return any(roomy(here, self.task.request, 0) for here in rooms.values())

    def cost(self, gone: list[Unit]) -> Cost:
        """Rule 6, smaller is better."""
        ends = inf
        at = next((at for at in range(3) if self.asked[at]), 0)
        for name in {unit.workload.queue for unit in gone}:
            row = self.rows[name, RESOURCES[at]]
            held = row.allocated - self._given(name, gone)[at]
            ends = min(ends, held / row.share if row.share else 1e18)
        since = {
            unit: max(unit.workload.started_ms or 0, unit.workload.checkpointed_ms or 0) for unit in gone
        }
        return (
            0.0 if self.inside else -ends,
            max(unit.workload.priority for unit in gone),
            sum(len(unit.tasks) for unit in gone if unit.core),
            sum(len(unit.tasks) for unit in gone),
            sum(
                amounts(task)[0] * (self.snapshot.now_ms - since[unit])
                for unit in gone
                for task in unit.tasks
            ),
            -min(unit.workload.started_ms or 0 for unit in gone),
        )
