"""What a snapshot says, in the form that the checks ask for, and what is new in the decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gpumax.loop.verify.known import Known, Vector, core, milli
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Decision, Eviction
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, DeviceShare, Task, Workload

NOTHING: Vector = (0, 0, 0)


class Newcomer(NamedTuple):
    """A task that the decision puts on a node. blame: the workload that it is done for; moved: from another place."""

    task: Task
    workload: Workload
    node: str
    devices: tuple[DeviceShare, ...]
    after: tuple[str, ...]
    blame: str
    moved: bool

    @property
    def amounts(self) -> Vector:
        """What it counts in its queue."""
        request = self.task.request
        return (milli(self.devices), request.cpu_milli, request.memory_mib)


class Facts:
    """Rows by name. Names that the snapshot doesn't know are left out: `form` tells of them."""

    def __init__(self, snapshot: Snapshot, decision: Decision, known: Known | None = None) -> None:
        """known: what is known of an earlier snapshot; it follows to this one, and these facts hold until it goes on."""
        known = (known or Known()).follow(snapshot)
        self.snapshot = snapshot
        self.decision = decision
        self.known = known
        self.nodes, self.queues, self.paths = known.nodes, known.queues, known.paths
        self.workloads, self.tasks, self.owner = known.workloads, known.tasks, known.owner
        self._allocated: dict[bool, dict[str, list[int]]] = {}
        self.evicted: dict[str, Eviction] = {
            eviction.task: eviction
            for eviction in decision.evictions
            if eviction.task in self.tasks and self.tasks[eviction.task].state in ACTIVE
        }
        self.newcomers = list(self._newcomers())

    def holders(self, nodes: frozenset[str]) -> dict[str, list[Task]]:
        """The tasks that hold room on each of these nodes in the snapshot."""
        return {name: self.known.holders(name) for name in nodes}

    def devices(self, task: Task) -> tuple[DeviceShare, ...]:
        """What a task holds of its node's devices; what a file leaves out is filled in."""
        return self.known.devices(task)

    def amounts(self, task: Task) -> Vector:
        """What a task that holds room counts in its queue."""
        request = task.request
        some = request.gpu or request.slices or task.devices
        gpu = milli(self.devices(task)) if some else 0
        return (gpu, request.cpu_milli, request.memory_mib)

    def allocated(self, *, fixed: bool = False) -> dict[str, list[int]]:
        """What each queue holds in the snapshot; fixed: of what is never evicted."""
        if fixed not in self._allocated:
            self._allocated[fixed] = self.known.allocated(fixed=fixed)
        return {name: row.copy() for name, row in self._allocated[fixed].items()}

    def core(self, workload: Workload) -> frozenset[str]:
        """The running tasks that its minimums need: the first of each group, by priority and name."""
        return core(workload)

    def lacks(self, workload: Workload) -> dict[str, int]:
        """By group: how many tasks the minimum lacks in the snapshot; those that are done count."""
        here: dict[str, int] = {}
        for task in workload.tasks:
            if task.state in ACTIVE or task.state == "succeeded":
                here[task.group] = here.get(task.group, 0) + 1
        return {group.name: max(0, group.min - here.get(group.name, 0)) for group in workload.groups}

    def _newcomers(self) -> Iterator[Newcomer]:
        for eviction in self.decision.evictions:
            if eviction.restarts_on in self.nodes and eviction.task in self.evicted:
                task, workload = self.tasks[eviction.task], self.owner[eviction.task]
                yield Newcomer(
                    task, workload, eviction.restarts_on, eviction.devices, (), eviction.beneficiary, True
                )
        for place in self.decision.places:
            if place.node in self.nodes and place.task in self.tasks:
                task, workload = self.tasks[place.task], self.owner[place.task]
                yield Newcomer(task, workload, place.node, place.devices, place.after, workload.name, False)


def add(held: dict[str, list[int]], path: tuple[str, ...], amounts: Vector, sign: int = 1) -> None:
    """Count amounts at every queue of a path."""
    for name in path:
        row = held[name]
        for position in range(len(RESOURCES)):
            row[position] += sign * amounts[position]


def plus(one: Vector, other: Vector) -> Vector:
    """The sum of two amounts."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])
