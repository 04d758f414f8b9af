"""What the checks look up in a snapshot; from one to the next only rows that have changed are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gpumax.loop.verify.guess import guess
from gpumax.model.names import natural
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.rows import difference
from gpumax.model.slices import milli_of
from gpumax.model.snapshot import Snapshot
from gpumax.model.workload import ACTIVE, HOLDING, DeviceShare, Task, Workload
from gpumax.units import MILLI

Vector = tuple[int, int, int]
"""Milli-devices, millicores, MiB."""

NOBODY: Final[frozenset[str]] = frozenset()


class Known:
    """Rows by name, and what they come to. It can be brought to any snapshot, and is then as one that has seen no other.

    waiting: workloads of which a task waits; tied: tasks that require something of their neighbours; unsaid: those that hold
    devices which the snapshot doesn't name, so that what one holds depends on all.
    """

    def __init__(self) -> None:
        self._nodes: tuple[Node, ...] | None = None
        self._queues: tuple[Queue, ...] | None = None
        self._rows: tuple[Workload, ...] | None = None
        self.nodes: dict[str, Node] = {}
        self.capacity: Vector = (0, 0, 0)
        self.queues: dict[str, Queue] = {}
        self.paths: dict[str, tuple[str, ...]] = {}
        self.children: dict[str | None, list[str]] = {}  # of None: queues without a parent
        self.quotas: dict[str, Vector] = {}
        self.limits: dict[str, Vector] = {}
        self._clear()

    def _clear(self) -> None:
        self.workloads: dict[str, Workload] = {}
        self.tasks: dict[str, Task] = {}
        self.owner: dict[str, Workload] = {}
        self.waiting: set[str] = set()
        self.tied: set[str] = set()
        self.unsaid: set[str] = set()
        self.guessed: dict[str, tuple[DeviceShare, ...]] = {}
        self._on: dict[str, dict[str, Task]] = {}  # by node: who holds room there
        self._held: dict[tuple[str, bool], list[int]] = {}  # by queue, and whether it is never evicted

    def follow(self, snapshot: Snapshot) -> Known:
        """Be as the snapshot is."""
        if snapshot.nodes is not self._nodes:
            self._nodes = snapshot.nodes
            self.nodes = {node.name: node for node in snapshot.nodes}
            self.capacity = _capacity(snapshot.nodes)
        if snapshot.queues is not self._queues:
            self._read_queues(snapshot.queues)
        # Until it is done, nothing is known: whatever ends it half way.
        rows, self._rows = self._rows, None
        if rows is None or self.unsaid or not self._step(*difference(rows, snapshot.workloads)):
            self._anew(snapshot)
        self._rows = snapshot.workloads
        return self

    def holders(self, node: str) -> list[Task]:
        """The tasks that hold room on a node."""
        return list(self._on.get(node, {}).values())

    def devices(self, task: Task) -> tuple[DeviceShare, ...]:
        """What a task holds of its node's devices; what a file leaves out is filled in."""
        return task.devices or self.guessed.get(task.name, ())

    def allocated(self, *, fixed: bool) -> dict[str, list[int]]:
        """What each queue holds, with all below it; fixed: of what is never evicted."""
        held = {name: [0, 0, 0] for name in self.queues}
        for (queue, never), leaf in self._held.items():
            if never or not fixed:
                for name in self.paths.get(queue, ()):
                    for position, amount in enumerate(leaf):
                        held[name][position] += amount
        return held

    def _read_queues(self, queues: tuple[Queue, ...]) -> None:
        self._queues = queues
        self.queues = {queue.name: queue for queue in queues}
        self.paths = {queue.name: tuple(self._path(queue)) for queue in queues}
        self.quotas = {queue.name: queue.quota.vector() for queue in queues}
        self.limits = {queue.name: queue.limit.vector() for queue in queues}
        self.children = {}
        for queue in self.queues.values():
            self.children.setdefault(queue.parent, []).append(queue.name)

    def _step(self, gone: Sequence[Workload], come: Sequence[Workload]) -> bool:
        """Go on from what is known. False where more has changed than has not, or what tasks hold isn't said."""
        if len(gone) + len(come) > len(self.workloads):
            return False
        for row in gone:
            self._drop(row)
        for row in come:
            self._take(row)
        if self.unsaid:
            return False
        for row in gone:
            self._count(row, -1)
        for row in come:
            self._count(row, 1)
        return True

    def _anew(self, snapshot: Snapshot) -> None:
        self._clear()
        for row in snapshot.workloads:
            self._take(row)
        if self.unsaid:
            self.guessed = guess(snapshot)
        for row in snapshot.workloads:
            self._count(row, 1)

    def _drop(self, row: Workload) -> None:
        del self.workloads[row.name]
        self.waiting.discard(row.name)
        for task in row.tasks:
            name = task.name
            del self.tasks[name], self.owner[name]
            if task.affinity is not None:
                self.tied.discard(name)
            if task.node is not None and task.state in HOLDING:
                del self._on[task.node][name]

    def _take(self, row: Workload) -> None:
        self.workloads[row.name] = row
        for task in row.tasks:
            name, state = task.name, task.state
            self.tasks[name], self.owner[name] = task, row
            if task.affinity is not None and (task.affinity.near.required or task.affinity.apart.required):
                self.tied.add(name)
            if state == "pending":
                self.waiting.add(row.name)
            elif state in HOLDING:
                if task.node is not None:
                    self._on.setdefault(task.node, {})[name] = task
                if not task.devices and (task.request.gpu or task.request.slices):
                    self.unsaid.add(name)

    def _count(self, row: Workload, sign: int) -> None:
        """What the tasks of a workload hold, or held (-1), of its queue."""
        leaf = safe = self._leaf(row.queue, never=row.preemptible is False)
        some = NOBODY
        if row.preemptible == "semi":
            some, safe = core(row), self._leaf(row.queue, never=True)
        for task in row.tasks:
            if task.state not in ACTIVE:
                continue
            request, into = task.request, safe if task.name in some else leaf
            if task.devices or request.gpu or request.slices:
                into[0] += sign * milli(self.devices(task))
            into[1] += sign * request.cpu_milli
            into[2] += sign * request.memory_mib

    def _leaf(self, queue: str, *, never: bool) -> list[int]:
        leaf = self._held.get((queue, never))
        if leaf is None:
            leaf = self._held[queue, never] = [0, 0, 0]
        return leaf

    def _path(self, queue: Queue) -> Iterator[str]:
        """From the queue to its root."""
        at: Queue | None = queue
        while at is not None:
            yield at.name
            at = self.queues.get(at.parent) if at.parent is not None else None


def core(workload: Workload) -> frozenset[str]:
    """The running tasks that its minimums need: the first of each group, by priority and name."""
    found: list[str] = []
    for group in workload.groups:
        members = [task for task in workload.tasks if task.group == group.name and task.state in ACTIVE]
        if len(members) > group.min:
            members.sort(key=task_order)
        found += [task.name for task in members[: group.min]]
    return frozenset(found)


def task_order(task: Task) -> tuple[int, tuple[str | int, ...]]:
    """The order inside a gang: higher priority first, then by name."""
    return (-task.priority, natural(task.name))


def milli(shares: tuple[DeviceShare, ...]) -> int:
    """What shares of devices count in a queue."""
    if len(shares) == 1 and not shares[0].slices:
        return shares[0].milli
    return sum([share.milli + milli_of(share.slices) if share.slices else share.milli for share in shares])


def _capacity(nodes: tuple[Node, ...]) -> Vector:
    """What open nodes have in all, healthy devices only."""
    gpu = cpu = memory = 0
    for node in nodes:
        if node.open:
            gpu += MILLI * [device.healthy for device in node.devices].count(True)
            cpu += node.cpu_milli
            memory += node.memory_mib
    return (gpu, cpu, memory)
