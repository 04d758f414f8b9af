"""What a snapshot says, in the form that the checks ask for, and what is new in the decision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gpumax.loop.verify.guess import guess
from gpumax.model.amounts import RESOURCES
from gpumax.model.decision import Decision, Eviction
from gpumax.model.names import natural
from gpumax.model.queue import Queue
from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, HOLDING, DeviceShare, Task, Workload

Vector = tuple[int, int, int]
"""Milli-devices, millicores, MiB."""

NOTHING: Vector = (0, 0, 0)


def _milli(shares: tuple[DeviceShare, ...]) -> int:
    """What shares of devices count in a queue."""
    if len(shares) == 1 and not shares[0].slices:
        return shares[0].milli
    return sum([share.milli + milli_of(share.slices) if share.slices else share.milli for share in shares])


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
        return (_milli(self.devices), request.cpu_milli, request.memory_mib)


class Facts:
    """Rows by name. Names that the snapshot doesn't know are left out: `form` tells of them."""

    def __init__(self, snapshot: Snapshot, decision: Decision) -> None:
        self.snapshot = snapshot
        self.decision = decision
        self.nodes = {node.name: node for node in snapshot.nodes}
        self.queues: dict[str, Queue] = {queue.name: queue for queue in snapshot.queues}
        self.paths = {queue.name: tuple(self._path(queue)) for queue in snapshot.queues}
        self.workloads = {workload.name: workload for workload in snapshot.workloads}
        self.tasks: dict[str, Task] = {
            task.name: task for workload in snapshot.workloads for task in workload.tasks
        }
        self.owner: dict[str, Workload] = {
            task.name: workload for workload in snapshot.workloads for task in workload.tasks
        }
        self._guessed = guess(snapshot)
        self._allocated: dict[bool, dict[str, list[int]]] = {}
        self.evicted: dict[str, Eviction] = {
            eviction.task: eviction
            for eviction in decision.evictions
            if eviction.task in self.tasks and self.tasks[eviction.task].state in ACTIVE
        }
        self.newcomers = list(self._newcomers())

    def holders(self, nodes: frozenset[str]) -> dict[str, list[Task]]:
        """The tasks that hold room on each of these nodes in the snapshot."""
        found: dict[str, list[Task]] = {name: [] for name in nodes}
        for workload in self.snapshot.workloads:
            for task in workload.tasks:
                if task.node in found and task.state in HOLDING:
                    found[task.node].append(task)
        return found

    def devices(self, task: Task) -> tuple[DeviceShare, ...]:
        """What a task holds of its node's devices; what a file leaves out is filled in."""
        return task.devices or self._guessed.get(task.name, ())

    def amounts(self, task: Task) -> Vector:
        """What a task that holds room counts in its queue."""
        request = task.request
        some = request.gpu or request.slices or task.devices
        gpu = _milli(self.devices(task)) if some else 0
        return (gpu, request.cpu_milli, request.memory_mib)

    def allocated(self, *, fixed: bool = False) -> dict[str, list[int]]:
        """What each queue holds in the snapshot; fixed: of what is never evicted."""
        if fixed not in self._allocated:
            self._allocated[fixed] = self._held(fixed=fixed)
        return {name: row.copy() for name, row in self._allocated[fixed].items()}

    def _held(self, *, fixed: bool) -> dict[str, list[int]]:
        held = {name: [0, 0, 0] for name in self.queues}
        for workload in self.snapshot.workloads:
            leaf = held.get(workload.queue)
            if leaf is None or (fixed and workload.preemptible is True):
                continue
            some = self.core(workload) if fixed and workload.preemptible == "semi" else None
            for task in workload.tasks:
                if task.state in ACTIVE and (some is None or task.name in some):
                    # As `amounts` has it, without a tuple for each of thousands of tasks.
                    request = task.request
                    if task.devices or request.gpu or request.slices:
                        leaf[0] += _milli(self.devices(task))
                    leaf[1] += request.cpu_milli
                    leaf[2] += request.memory_mib
        whole = {name: [0, 0, 0] for name in self.queues}
        for name, leaf in held.items():
            if any(leaf):
                add(whole, self.paths[name], (leaf[0], leaf[1], leaf[2]))
        return whole

    def core(self, workload: Workload) -> frozenset[str]:
        """The running tasks that its minimums need: the first of each group, by priority and name."""
        found: list[str] = []
        for group in workload.groups:
            members = [task for task in workload.tasks if task.group == group.name and task.state in ACTIVE]
            if len(members) > group.min:
                members.sort(key=task_order)
            found += [task.name for task in members[: group.min]]
        return frozenset(found)

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

    def _path(self, queue: Queue) -> Iterator[str]:
        """From the queue to its root."""
        at: Queue | None = queue
        while at is not None:
            yield at.name
            at = self.queues.get(at.parent) if at.parent is not None else None


def task_order(task: Task) -> tuple[int, tuple[str | int, ...]]:
    """The order inside a gang: higher priority first, then by name."""
    return (-task.priority, natural(task.name))


def add(held: dict[str, list[int]], path: tuple[str, ...], amounts: Vector, sign: int = 1) -> None:
    """Count amounts at every queue of a path."""
    for name in path:
        row = held[name]
        for position in range(len(RESOURCES)):
            row[position] += sign * amounts[position]


def plus(one: Vector, other: Vector) -> Vector:
    """The sum of two amounts."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])
