"""A cluster in memory, for tests: what it is told becomes true when a test says so."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from gpumax.model.decision import Decision
from gpumax.model.node import Node
from gpumax.model.queue import Queue
from gpumax.model.snapshot import Policy, Snapshot
from gpumax.model.workload import DeviceShare, Task, Workload


class FakeCluster:
    """Rows that a test sets. Places are bound at once, unless the test refuses them; who is evicted is releasing until `leave`."""

    name = "fake"
    ours = True
    pressing = True

    def __init__(
        self, nodes: Iterable[Node] = (), queues: Iterable[Queue] = (), workloads: Iterable[Workload] = ()
    ) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.queues = {queue.name: queue for queue in queues}
        self.workloads = {workload.name: workload for workload in workloads}
        self.refused: set[str] = set()
        self.carried: list[Decision] = []
        self.closed = False

    def snapshot(self, now_ms: int, policy: Policy) -> Snapshot:
        """What is there."""
        return Snapshot(
            now_ms,
            tuple(self.nodes[name] for name in sorted(self.nodes)),
            tuple(self.queues[name] for name in sorted(self.queues)),
            tuple(self.workloads[name] for name in sorted(self.workloads)),
            policy,
        )

    def carry_out(self, snapshot: Snapshot, decision: Decision) -> None:
        """Do it."""
        self.carried.append(decision)
        places = {place.task: place for place in decision.places if not place.after}
        evicted = {row.task for row in decision.evictions}
        for name, workload in self.workloads.items():
            tasks = []
            for task in workload.tasks:
                place = places.get(task.name)
                if place is not None and task.name not in self.refused:
                    task = replace(task, state="bound", node=place.node, devices=place.devices)
                elif task.name in evicted and task.name not in self.refused:
                    task = replace(task, state="releasing")
                tasks.append(task)
            self.workloads[name] = replace(workload, tasks=tuple(tasks))

    def leave(self, *, come_back: bool = True) -> None:
        """Whoever is releasing has gone; its maker makes it anew, or doesn't."""
        nothing: tuple[DeviceShare, ...] = ()

        def after(task: Task) -> Task:
            if task.state != "releasing":
                return task
            return replace(task, state="pending" if come_back else "failed", node=None, devices=nothing)

        self.workloads = {
            name: replace(workload, tasks=tuple(map(after, workload.tasks)))
            for name, workload in self.workloads.items()
        }

    def notes(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    def close(self) -> None:
        """Remember it."""
        self.closed = True
